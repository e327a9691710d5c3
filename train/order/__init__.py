"""In: seed, epoch and how many pairs each shard has. Out: which pair stands at which position.

Nothing here reads a byte. Next: `train.stream` reads the pairs in that order.

The words, each with one meaning:

* block: up to `order.block` successive pairs of one shard. Blocks are what is permuted.
* piece: a block as an epoch takes it: whole, or cut where a fraction of a dataset begins or ends.
* part: the pieces that come from one copy of one dataset (`train.order.mixture`).
* line: all pieces of the epoch, permuted and laid end to end.
* place: where a pair lies on the line, counted in pairs from 0.
* lane: one of `order.lanes` readers that work side by side. Each has a section of the line as its own.
* item: the number of a pair within its lane, from 0.
* shuffle window: `order.window` successive pieces of a lane, whose pairs are shuffled together.
* run: what a shuffle window reads of one piece, in one request. Where a lane ends, a piece gives two runs.
* position: the number of a pair within the epoch, from 0: item i of lane l has position i x lanes + l.

A *window* without "shuffle" is a square of pixels (`train.window`).
"""
