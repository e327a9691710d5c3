"""In: a dataset. Out: how fast its pairs are read, decoded and augmented, stage by stage.

The command ``python -m train.bench``.
"""
