"""In: pair tars that somebody else wrote. Out: an index beside each and a manifest: a dataset.

The command ``python -m pack.index``. Next: `pack.dataset` reads it like any other.
"""
