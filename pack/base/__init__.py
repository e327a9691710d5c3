"""Shared by all of `pack`: the options of packing, the items that are packed, keys and pair ids.

In: command-line options and source paths. Out: a checked `PackConfig`, `Item`, keys and ids.
Next: `pack.sources`, which finds the items.
"""
