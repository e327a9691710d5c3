"""In: tars of pairs that somebody else wrote. Out: an index for each tar, and a manifest: a dataset.

The command is ``python -m pack.index``. Next: `pack.dataset` reads it like any other dataset.
"""
