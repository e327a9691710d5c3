"""Makes control pairs for the network: pairs whose halves differ in their coding, and in no decoder's trace.

* A pair whose KEY.json names the autoencoder ``identity`` is taken as it is stored: no decoder was there.
* Any other pair gets equal content in both halves, each coded as its half is stored. Where both are JPEG, the
  content is that of the real image, so the fake is the identity's: one more compression. Where one
  half alone is JPEG, the content is that of the other, which no JPEG of this pair has touched.
* Where both are lossless, the halves of such a pair are equal. What the photograph's *earlier* compressions
  left in the real image alone, and a decoder removed, is not seen here; the statistics look for it.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pack.dataset.dataset import Dataset
from pack.dataset.fakes import each_fake
from pack.dataset.pairs import DamagedPair, StoredPair
from pack.inspect.audit.images import CLASSES, MAX_PIXELS, member, read_sample, recoded
from pack.inspect.audit.separation import photographs
from recon.base.errors import RejectedImageError
from recon.base.progress import counted
from recon.image.codec import Pixels, decode, is_lossless_webp

SIDE = 128
"""Side in pixels of the centre window that the network sees of an image; smaller images are mirrored."""
PAIRS = 400
"""Most pairs that the network sees; 96 KiB of memory each."""


@dataclass(frozen=True, kw_only=True)
class ControlPairs:
    """Windows of control pairs."""

    windows: list[NDArray[np.uint8]] = field(default_factory=list)
    """Of each pair (2, 3, SIDE, SIDE): real, fake."""
    names: list[str] = field(default_factory=list)
    """The source path of each pair's photograph."""
    causes: list[str] = field(default_factory=list)
    """Of each pair that is left out: why."""

    def describe(self) -> str:
        """A phrase for messages: ``24 control pairs, 1 left out: CAUSE``."""
        left_out = f", {len(self.causes)} left out: {self.causes[0]}" if self.causes else ""
        return f"{counted(len(self.windows), 'control pair')}{left_out}"

    def photographs(self) -> NDArray[np.int64]:
        """(N,) number of each pair's photograph."""
        return photographs(self.names, [window[0].tobytes() for window in self.windows])


def read_controls(found: ControlPairs, datasets: Sequence[Dataset], count: int) -> Iterator[None]:
    """Adds the control pairs of at most `count` samples to `found`; yields after each sample.

    Raises:
        UserError: storage fails, or a shard differs from the manifest.
    """
    for _, path, pair in read_sample(datasets, count):
        for one in [pair] if isinstance(pair, DamagedPair) else each_fake(pair):
            try:
                halves = control(one)
            except RejectedImageError as error:
                found.causes.append(f"{pair.key}: {error}")
            else:
                found.windows.append(np.stack([_window(half) for half in halves]))
                found.names.append(path)
        yield


def control(pair: StoredPair | DamagedPair) -> tuple[Pixels, Pixels]:
    """The halves of the control pair of a stored pair, each (H, W, C) uint8: real, fake.

    Raises:
        RejectedImageError: the pair can't be read, or the coding of one half can't be repeated.
    """
    if isinstance(pair, DamagedPair):
        raise RejectedImageError(pair.cause)
    files = [member(pair, name) for name in CLASSES]
    real, fake = (decode(data, max_pixels=MAX_PIXELS, convert=True) for data in files)
    if _is_identity(pair):
        return real.pixels, fake.pixels
    for data in files:
        if data[8:12] == b"WEBP" and not is_lossless_webp(data):
            raise RejectedImageError("a lossy WebP can't be repeated; its quality is not in the file")
    if fake.codec == "jpeg":
        return real.pixels, recoded(real.pixels, fake)
    return (recoded(fake.pixels, real) if real.codec == "jpeg" else fake.pixels), fake.pixels


def _is_identity(pair: StoredPair) -> bool:
    return bool(json.loads(pair.members.get("json", b"{}")).get("autoencoder") == "identity")


def _window(pixels: Pixels) -> NDArray[np.uint8]:
    """(3, SIDE, SIDE): its centre."""
    height, width, _ = pixels.shape
    top, left = max(0, height - SIDE) // 2, max(0, width - SIDE) // 2
    window = pixels[top : top + SIDE, left : left + SIDE]
    missing = [(0, SIDE - side) for side in window.shape[:2]]
    mirrored = np.pad(window, (*missing, (0, 0)), mode="symmetric")
    return np.broadcast_to(np.moveaxis(mirrored, 2, 0), (3, SIDE, SIDE)).copy()
