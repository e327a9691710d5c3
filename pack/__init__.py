"""In: photographs. Out: a dataset of aligned pairs in WebDataset shards. Next: `train`, which reads it.

`python -m pack --help` writes a dataset, `pack.verify` reads every byte of it again, `pack.info` and
`pack.preview` show what it holds. The only package that imports fsspec.
"""
