"""In: images. Out: one logit for each image, above 0 for a fake.

Holds the detectors, their normalisations, weights and checkpoints. Next: `train.loop` trains a detector,
`train.evaluation` scores images with it.
"""
