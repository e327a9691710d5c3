"""In: logits of pairs, and the validation of an epoch. Out: the loss, the optimiser and its learning rate.

`optimizer.py` and `losses.py` have what a step needs. Next: `train.loop` does the steps.
"""
