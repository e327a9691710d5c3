"""In: an image, an operation of `train.chains` and its drawn values. Out: the degraded image.

The codecs are Pillow's, the resizing is too; blur and noise are those of training. Torch is not imported: the
loading process does without it.
"""
