"""Samples to batches of uint8 windows, on the host's side of loading: numpy alone.

Shapes: B slots of a rank's step, P = (real, fake), H = W = the window's side, C = RGB.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pack.dataset import DamagedPair
from recon.codec import Pixels, decode_rgb
from recon.errors import UserError
from train.augment.draws import draw_geometry, visit_ids
from train.augment.geometry import centre_crop, cut_window, plan_window
from train.config import AugmentConfig
from train.stream import Sample

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class HostBatch:
    """A rank's share of one step, before it goes to the device."""

    windows_BPHWC: Pixels
    """uint8; zeros where masked."""
    mask_B: NDArray[np.bool_]
    """False where the epoch has no pair left for the slot, or a damaged one."""
    rotation_B: NDArray[np.int64]
    """Quarter turns, still to be done."""
    flip_B: NDArray[np.bool_]
    """Still to be done, after the rotation."""
    keys: list[str]
    """Of the valid pairs, in the order of the rows that the mask keeps."""
    damaged: list[DamagedPair]
    """Pairs whose slots are masked for what they are."""


@dataclass(frozen=True, kw_only=True)
class Cut:
    """One pair's windows and how they are to be turned."""

    key: str
    windows_PHWC: Pixels
    rotation: int = 0
    flip: bool = False


class WindowCutter:
    """Decodes both images of a sample and cuts the same window out of them.

    Args:
        augment: the geometry of training windows; None takes clean centre crops.
        side: of the centre crop, where `augment` is None.
        seed: of the run.
        epoch: from 0.
    """

    def __init__(self, augment: AugmentConfig | None, *, side: int, seed: int, epoch: int) -> None:
        self.augment = augment
        self.side = augment.crop if augment else side
        self.seed, self.epoch = seed, epoch

    def __call__(self, sample: Sample | DamagedPair) -> Cut | DamagedPair:
        """Cuts one sample; a damaged one stays what it is, and an undecodable one becomes one.

        Raises:
            UserError: the two images differ in size, or a stage took one away.
        """
        if isinstance(sample, DamagedPair):
            return sample
        key, images = sample["__key__"], _decode_pair(sample)
        if isinstance(images, DamagedPair):
            return images
        real, fake = images
        if self.augment is None:
            return Cut(key=key, windows_PHWC=np.stack([centre_crop(one, self.side) for one in images]))
        ids = visit_ids(np.array([sample["__pair_id__"]], np.int64), sample["__copy__"])
        draws = draw_geometry(self.augment, self.seed, self.epoch, ids)
        plan = plan_window(draws, 0, real.shape[0], real.shape[1], self.augment.crop)
        windows = np.stack([cut_window(one, plan) for one in (real, fake)])
        return Cut(key=key, windows_PHWC=windows, rotation=plan.rotation, flip=plan.flip)


def _decode_pair(sample: Sample) -> tuple[Pixels, Pixels] | DamagedPair:
    images = []
    for name in ("real", "fake"):
        data = _member(sample, name)
        try:
            images.append(decode_rgb(data))
        except MemoryError:
            raise
        except Exception:  # Pillow's decoders let struct, zlib, EOF and index errors through
            cause = f"{name} can't be decoded"
            return DamagedPair(key=sample["__key__"], url=sample["__url__"], cause=cause)
    real, fake = images
    if real.shape != fake.shape:
        where = f"key {sample['__key__']!r} in {sample['__url__']}"
        sizes = " and ".join(f"{one.shape[1]}x{one.shape[0]}" for one in images)
        raise UserError(f"{where}: real and fake are {sizes}, expected equal sizes; pack them again")
    return real, fake


def _member(sample: Sample, name: str) -> bytes:
    data = next((value for field, value in sample.items() if field.startswith(f"{name}.")), None)
    if not isinstance(data, bytes):
        raise UserError(f"key {sample['__key__']!r} has no bytes under {name}.*; check your stages")
    return data


def collate(cuts: Sequence[Cut | DamagedPair], windows_BPHWC: Pixels) -> HostBatch:
    """Lays pairs into the slots of a batch; slots past them, and those of damaged pairs, are masked.

    Args:
        cuts: at most B.
        windows_BPHWC: the memory to fill.
    """
    slots = len(windows_BPHWC)
    mask_B, flip_B = np.zeros(slots, bool), np.zeros(slots, bool)
    rotation_B = np.zeros(slots, np.int64)
    for row, cut in enumerate(cuts):
        if isinstance(cut, Cut):
            windows_BPHWC[row] = cut.windows_PHWC
            mask_B[row], rotation_B[row], flip_B[row] = True, cut.rotation, cut.flip
    windows_BPHWC[~mask_B] = 0
    return HostBatch(
        windows_BPHWC=windows_BPHWC,
        mask_B=mask_B,
        rotation_B=rotation_B,
        flip_B=flip_B,
        keys=[cut.key for cut in cuts if isinstance(cut, Cut)],
        damaged=[cut for cut in cuts if isinstance(cut, DamagedPair)],
    )


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], pool: ThreadPoolExecutor, ahead: int
) -> Iterator[Result]:
    """Maps on threads, in order, at most `ahead` items in front of what was taken."""
    pending: deque[Future[Result]] = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) > ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
