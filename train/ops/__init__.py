"""In: images as batches of tensors, and their parameters. Out: the images after one op of the recipe.

On any device the pixels are equal, bit for bit, to those of the compiled loops in `train.ops.cpu`. Next:
`train.augment` applies the ops one after the other.
"""
