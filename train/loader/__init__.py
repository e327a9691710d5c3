"""In: datasets and a rank. Out: batches of pairs on the training device; `PairLoader`.

The trainer's process and its worker, in the order of a batch's way:

* `loader`: `PairLoader`, what a trainer holds.
* `worker`, `packing`, `messages`: starts the worker process and talks to it.
* `child`, `service`: the worker process itself.
* `reader`: runs `train.stream` and `train.window`, in the worker, or in the trainer with ``workers=0``.
* `transfer`: brings batches to the device, where `train.augment` finishes them.

Next: `train.loop`.
"""
