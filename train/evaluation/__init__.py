"""In: a detector and labelled images. Out: scores, figures by label group, and the report of a run.

Runs the commands ``train.evaluate`` and ``train.report``, which are the last steps. `train.loop` uses
`metrics` and `scoring` for its validation, too. The figures of an evaluation are in `figures`.
"""
