"""Draws one fake of each pair, where a dataset has several fakes of one photograph."""

import numpy as np
from numpy.typing import NDArray

from train.order.counter import stream_key, uniform


def drawn_fakes(
    seed: int, epoch: int, ids_n: NDArray[np.int64], allowed_nF: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """(n,) the number of the fake, from 0, that each pair gets at this visit: all allowed ones alike often.

    Args:
        seed: of the run.
        epoch: from 0.
        ids_n: int64, the result of `train.draws.parameters.visit_ids`.
        allowed_nF: which of a pair's fakes a filter leaves; at least one of each pair.
    """
    counts_n = allowed_nF.sum(axis=1)
    u_n = uniform(stream_key(seed, epoch, "fake"), ids_n)
    place_n = np.minimum((u_n * counts_n).astype(np.int64), counts_n - 1)  # the product may round up
    # The allowed one with so many allowed ones before it.
    reached_nF: NDArray[np.bool_] = allowed_nF.cumsum(axis=1) > place_n[:, None]
    return np.asarray(reached_nF.argmax(axis=1))
