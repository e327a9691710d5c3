"""In: datasets and a rank. Out: batches of pairs on the training device; `PairLoader`.

A worker process runs `train.stream` and `train.window`; here their batches reach the device, where
`train.augment` finishes them. Next: `train.loop`.
"""
