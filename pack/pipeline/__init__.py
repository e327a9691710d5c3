"""In: the items of a shard. Out: their pairs (or why an item became none), in order.

Decoding threads, one autoencoder thread, encoding threads. Next: `pack.publish` writes the pairs.
"""
