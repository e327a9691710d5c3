"""In: a detector and labelled images. Out: scores, and figures by label group.

Runs the command ``train.evaluate``. `train.loop` uses `metrics` and `scoring` for its validation, too. The
figures of an evaluation are in `figures`. Next: `train.reports`.
"""
