"""In: a loader and a detector. Out: trained weights, and a record of how they came about.

`run` reads from top to bottom as the recipe. Next: `train.evaluation`.
"""
