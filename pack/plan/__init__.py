"""In: the items of a source, and this process's rank. Out: a plan that says which items go into which shard.

The plan is fixed before the first byte is written. Next: `pack.pipeline` makes the pairs of a shard.
"""
