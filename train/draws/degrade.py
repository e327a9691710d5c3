"""Draws which chain of degradations happens to a pair, and the random bits of its operations.

Pure functions of (seed, epoch, pair id), as all draws, and the same for real and fake.

Shapes: n pairs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from train.chains.chain import Chain
from train.chains.declared import OPS
from train.chains.parameters import drawn
from train.order.counter import stream_key, uniform, words

NONE = -1
"""In place of a chain's number: no chain happens."""
_PLACE = ("top", "left")


@dataclass(frozen=True, kw_only=True)
class DrawnStep:
    """An operation of a chain, for one pair."""

    op: str
    values: Mapping[str, float | str]
    """Of all parameters."""
    noise_key: int
    """int64, of the noise field."""


@dataclass(frozen=True, kw_only=True)
class DrawnChain:
    """A chain, for one pair."""

    place: tuple[float, float]
    """Top and left of the part of the image that goes through it: uniform numbers in [0, 1)."""
    steps: tuple[DrawnStep, ...]


def drawn_chains(
    chains: Sequence[Chain], view: int, seed: int, epoch: int, ids_n: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(n,) the number of the chain that happens to each pair, or `NONE`.

    Args:
        chains: of the recipe; at most one of those that are for this view happens.
        view: of the pair, from 1.
        seed: of the run.
        epoch: from 0.
        ids_n: int64, the result of `train.draws.parameters.visit_ids`.
    """
    numbers = [number for number, one in enumerate(chains) if one.view in (None, view)]
    ends = np.cumsum([chains[number].p for number in numbers])
    place_n = np.searchsorted(ends, uniform(stream_key(seed, epoch, "degrade"), ids_n), side="right")
    chosen_n: NDArray[np.int64] = np.array([*numbers, NONE], np.int64)[place_n]
    return chosen_n


def draw_chain(chains: Sequence[Chain], number: int, seed: int, epoch: int, pair_id: int) -> DrawnChain:
    """Draws the parameters of one chain for one pair; arguments as of `drawn_chains`."""
    uses = _uses(chains[number])
    [bits] = chain_words(chains, number, seed, epoch, np.array([pair_id], np.int64)).tolist()
    named = dict(zip(uses, bits, strict=True))
    top, left = ((named[axis] % 2**64 >> 11) * 2.0**-53 for axis in _PLACE)
    steps = []
    for place, step in enumerate(chains[number].steps):
        values = {
            word: drawn(step.values[word], parameter, named[f"{place}.{word}"] % 2**64)
            for word, parameter in OPS[step.op].parameters.items()
        }
        steps.append(DrawnStep(op=step.op, values=values, noise_key=named[f"{place}.noise.field"]))
    return DrawnChain(place=(top, left), steps=tuple(steps))


def chain_words(
    chains: Sequence[Chain], number: int, seed: int, epoch: int, ids_n: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(n, k) random bits of all that one chain draws; arguments as of `drawn_chains`."""
    return words(_keys(number, _uses(chains[number]), seed, epoch), ids_n[:, None])


def _uses(chain: Chain) -> tuple[str, ...]:
    """What a chain draws for; a name is part of the key, so another name changes all draws."""
    names = [*_PLACE]
    for place, step in enumerate(chain.steps):
        names += [f"{place}.{word}" for word in (*OPS[step.op].parameters, "noise.field")]
    return tuple(names)


@lru_cache(maxsize=256)
def _keys(number: int, uses: tuple[str, ...], seed: int, epoch: int) -> NDArray[np.int64]:
    return np.array([stream_key(seed, epoch, f"degrade.{number}.{use}") for use in uses], np.int64)
