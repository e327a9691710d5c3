"""The shard: a dataset of aligned pairs in tar files that WebDataset alone can read.

`python -m pack --help` writes one, `pack.verify` re-reads every byte of it, `pack.info`
and `pack.preview` show what is inside. The only package that knows fsspec.
"""
