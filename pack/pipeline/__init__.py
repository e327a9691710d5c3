"""In: the items of each shard. Out: for each item its pair or the reason for its rejection, in order.

Threads decode, one thread runs the autoencoder, threads encode. Next: `pack.publish` writes the pairs.
"""
