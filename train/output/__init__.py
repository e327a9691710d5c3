"""In: the values that a run logs. Out: its log files and, in a bucket, the lease that protects them.

`train.loop` writes through this folder; checkpoints are in `train.model`. Next: `train.evaluation`.
"""
