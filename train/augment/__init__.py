"""In: windows, and what was drawn for each pair. Out: augmented crops, equal to the published recipe's.

`train.draws` decides, `train.window` has cut, `pipeline` does the rest. Next: `train.model`.
"""
