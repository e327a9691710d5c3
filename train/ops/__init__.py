"""In: images as batches of tensors, and drawn parameters. Out: the images after one op of the recipe.

On any device, bit for bit equal to the compiled loops of `train.ops.cpu`. Next: `train.augment` chains them.
"""
