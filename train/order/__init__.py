"""In: seed, epoch and how many pairs each shard has. Out: which pair stands at which position.

Nothing here reads a byte. Next: `train.stream` reads the pairs in that order.
"""
