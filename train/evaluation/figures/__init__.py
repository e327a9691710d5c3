"""In: scores with their labels, groups and photographs. Out: the figures of a paper's table, with intervals.

`figures` computes them, `table` prints them, `decision` chooses the threshold, `comparison` sets detectors
side by side. `train.evaluation`, `train.detector` and the command ``train.compare`` use them.
"""
