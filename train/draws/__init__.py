"""In: a recipe, (seed, epoch) and pair ids. Out: the parameters of all ops, as pure functions of these.

Next: `train.window` cuts windows by the geometry, and `train.ops` uses the other parameters.
"""
