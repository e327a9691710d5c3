"""In: the URL of a finished dataset. Out: its pairs, block by block, every byte checked.

Also the cache of blocks on local disk, and filters by the columns of the index. Next: `train.stream`.
"""
