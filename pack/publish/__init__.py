"""In: the pairs of each shard. Out: a finished dataset in the output, written by any number of processes.

Each process claims the output, then writes its missing shards; the last one writes the manifest.
Next: `pack.dataset` reads the dataset.
"""
