"""What a manifest says of each shard: an entry, and a table of very many of them.

In: nothing. Next: `pack.shard.manifest`.
"""
