"""In: chains of degradations in YAML. Out: their operations and parameters, checked; nothing is drawn or run.

A robustness grid (`train.evaluation.robust`) and the degradations of training (`train.draws`) are written in
this form. Next: `train.degrade` runs the operations.
"""
