"""In: windows of pairs and their draws. Out: augmented crops, with the pixels of the published recipe.

`train.draws` gives the parameters and `train.window` cuts the windows; `pipeline` applies all other ops.
Next: `train.model`.
"""
