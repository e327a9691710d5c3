"""In: a detector and labelled images. Out: scores, and figures by label group; the report of a run.

The commands ``train.evaluate`` and ``train.report``; `metrics` also serves the validation of `train.loop`.
"""
