"""In: the places of a run and an evaluation. Out: what a report says, as `contents.Contents`.

`mistakes` reads the worst images again. Next: `train.reports.markdown` and `train.reports.page`.
"""
