"""In: how large a dataset and a run are. Out: what reading would ask of bucket, network and memory.

`train.order` and `train.stream` order and read as in training; the dataset has only a manifest.
"""
