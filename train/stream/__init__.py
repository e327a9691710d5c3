"""In: the order of an epoch. Out: a rank's samples in that order, as bytes whose CRC was checked.

Next: `train.window` decodes them.
"""
