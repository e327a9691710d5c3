"""In: samples as bytes. Out: batches of decoded windows: the pixels that the augmented crop depends on.

Runs on the host's threads. Next: `train.loader` brings the batches to the trainer.
"""
