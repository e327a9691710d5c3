"""In: a detector and labelled images. Out: scores, and figures by label group.

Runs the commands ``train.evaluate`` and ``train.robustness`` (in `robust`). `train.loop` uses `metrics` and
`scoring` for its validation, too. The figures are in `figures`. Next: `train.reports`.
"""
