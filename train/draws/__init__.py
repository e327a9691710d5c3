"""In: a recipe, (seed, epoch) and pair ids. Out: every parameter of every op, as pure functions of them.

Next: `train.window` cuts by the geometry, `train.ops` take the rest.
"""
