"""What every folder of `pack` shares: the options of packing, the items to be packed, keys and pair ids.

Next: `pack.sources`, which finds the items.
"""
