"""In: how a process was started. Out: its rank, the communication of all ranks, and the wish to end.

Next: `train.loop` trains on all ranks together.
"""
