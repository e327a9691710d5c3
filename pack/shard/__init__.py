"""The format: what a shard's tar, its index and the manifest of a dataset hold, and their bytes.

In: pairs. Out: a tar and its index; and the way back. Writers (`pack.publish`, `pack.adopt`) and readers
(`pack.dataset`) meet only here.
"""
