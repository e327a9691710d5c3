"""In: a packed dataset. Out: how fast its pairs are read, decoded and augmented, stage by stage.

The command ``python -m train.bench``; no other folder follows.
"""
