"""Reads windows of a dataset's pairs for the networks.

Shapes: N pairs, S = `network.SIDE` pixels.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pack.dataset.dataset import Dataset
from pack.dataset.fakes import each_fake
from pack.dataset.pairs import DamagedPair, StoredPair
from pack.inspect.audit.judge.separation import photographs
from pack.inspect.audit.measured.images import CLASSES, MAX_PIXELS, member, read_sample
from pack.inspect.audit.networks.network import window
from recon.base.errors import RejectedImageError
from recon.base.progress import counted
from recon.image.codec import Pixels, decode

Halves = Callable[[StoredPair | DamagedPair], tuple[Pixels, Pixels]]
"""Gives the two images, each (H, W, C) uint8, that are looked at of a pair, or raises RejectedImageError."""


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Windows of pairs, or of photographs without a fake."""

    windows: list[NDArray[np.uint8]] = field(default_factory=list)
    """Of each pair (2, 3, S, S): real, fake; of a photograph alone (1, 3, S, S)."""
    names: list[str] = field(default_factory=list)
    """The source path of each one's photograph."""
    causes: list[str] = field(default_factory=list)
    """Of each that is left out: why."""

    def describe(self, kind: str) -> str:
        """A phrase for messages: ``24 KINDs, 1 left out: CAUSE``."""
        left_out = f", {len(self.causes)} left out: {self.causes[0]}" if self.causes else ""
        return f"{counted(len(self.windows), kind)}{left_out}"

    def photographs(self) -> NDArray[np.int64]:
        """(N,) number of each one's photograph."""
        return photographs(self.names, [one[0].tobytes() for one in self.windows])


def read_pairs(found: Windows, datasets: Sequence[Dataset], count: int, halves: Halves) -> Iterator[None]:
    """Adds the pairs of at most `count` samples to `found`; yields after each sample.

    Raises:
        UserError: storage fails, or a shard differs from the manifest.
    """
    for _, path, pair in read_sample(datasets, count):
        for one in [pair] if isinstance(pair, DamagedPair) else each_fake(pair):
            try:
                images = halves(one)
            except RejectedImageError as error:
                found.causes.append(f"{pair.key}: {error}")
            else:
                found.windows.append(np.stack([window(image) for image in images]))
                found.names.append(path)
        yield


def stored(pair: StoredPair | DamagedPair) -> tuple[Pixels, Pixels]:
    """The two images as they are stored, each (H, W, C) uint8.

    Raises:
        RejectedImageError: one can't be read.
    """
    if isinstance(pair, DamagedPair):
        raise RejectedImageError(pair.cause)
    real, fake = (decode(member(pair, name), max_pixels=MAX_PIXELS, convert=True).pixels for name in CLASSES)
    return real, fake
