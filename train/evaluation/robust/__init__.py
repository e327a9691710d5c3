"""In: a grid of degradations, and labelled images. Out: the figures of a detector in each cell of the grid.

`ops` are what a cell's chain is made of, `grid` reads the chains from YAML, `robustness` scores and writes.
The command ``train.robustness`` is the last step; `train.evaluation.scored` decodes each image once.
"""
