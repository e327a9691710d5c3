"""The file format: a shard's tar, its index, and the manifest of a dataset, down to their bytes.

In: pairs. Out: a tar and its index; for readers, the reverse. Next: `pack.publish` and `pack.adopt` write
the files, and `pack.dataset` reads them. They share no other code for the format.
"""
