"""In: a file of weights, ours or another project's. Out: a detector of ours with these weights.

`load.py` opens the file, `stated.py` reads what a config beside it states, `names.py`, `lora.py` and
`transformers_vit.py` turn another project's tensors into ours. Next: `train.evaluation` and `train.detector`
score images with it.
"""
