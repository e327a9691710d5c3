"""In: a loader of pairs and a detector. Out: checkpoints of the trained detector, and the log of the run.

`run.py` holds the training loop. Next: `train.evaluation` scores images with the detector.
"""
