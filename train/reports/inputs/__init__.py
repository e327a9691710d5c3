"""In: the places of a run and an evaluation. Out: what a report says, as `contents.Contents`.

`mistakes` reads the worst images again; `origin` sees an evaluation of another run's detector.
`pictures` reads what other commands have drawn. Next: `train.reports.markdown` and `train.reports.page`.
"""
