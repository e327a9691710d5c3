"""In: normalised images. Out: one logit each, above 0 for a fake; detectors, their weights and files.

Next: `train.loop` trains one, `train.evaluation` scores with it.
"""
