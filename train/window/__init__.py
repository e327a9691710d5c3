"""In: samples as bytes. Out: batches of decoded windows: the pixels that the augmented crop depends on.

A *window* is a square of pixels, the same in both images of a pair. (The *shuffle window* is the order's: see
`train.order`.) This runs on threads of the host. Next: `train.loader` brings the batches to the trainer.
"""
