"""In: the pairs of each shard. Out: a finished dataset in the output, by any number of processes.

Claims the output, writes what is missing and, at the very end, the manifest. Next: `pack.dataset` reads it.
"""
