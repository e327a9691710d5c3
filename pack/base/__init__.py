"""Shared by all of `pack`: options of packing, items that are packed, keys and pair ids; writing of results.

In: command-line options and source paths. Out: a checked `PackConfig`, `Item`, keys and ids.
Next: `pack.sources`, which finds the items.
"""
