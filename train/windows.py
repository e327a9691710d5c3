"""The host side of loading: samples to batches of uint8 windows, decoded on threads."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import Any, TypeVar

import numpy as np
import torch

from recon.codec import Pixels, decode_rgb
from recon.errors import UserError
from train.augment.draws import draw_geometry
from train.augment.geometry import centre_crop, cut_window, plan_window
from train.config import AugmentConfig
from train.stream import Sample

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class WindowBatch:
    """A rank's share of one step, before it goes to the device. B pairs, P = (real, fake)."""

    windows_BPCHW: torch.Tensor
    """uint8; zeros where masked."""
    mask_B: torch.Tensor
    """bool, False where the epoch has no pair left for the slot."""
    rotation_B: torch.Tensor
    """int64 quarter turns, still to be done."""
    flip_B: torch.Tensor
    """bool, still to be done, after the rotation."""
    keys: list[str]
    """Of the valid pairs, in the order of the rows that the mask keeps."""


@dataclass(frozen=True, kw_only=True)
class _Cut:
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

    def __call__(self, sample: Sample) -> _Cut:
        """Cuts one sample.

        Raises:
            UserError: an image can't be decoded, or the two differ in size.
        """
        key, (real, fake) = sample["__key__"], _decode_pair(sample)
        if self.augment is None:
            return _Cut(key=key, windows_PHWC=np.stack([centre_crop(one, self.side) for one in (real, fake)]))
        ids = np.array([sample["__pair_id__"]], np.int64)
        draws = draw_geometry(self.augment, self.seed, self.epoch, ids)
        plan = plan_window(draws, 0, real.shape[0], real.shape[1], self.augment.crop)
        windows = np.stack([cut_window(one, plan) for one in (real, fake)])
        return _Cut(key=key, windows_PHWC=windows, rotation=plan.rotation, flip=plan.flip)


def _decode_pair(sample: Sample) -> tuple[Pixels, Pixels]:
    where = f"key {sample['__key__']!r} in {sample['__url__']}"
    members = [_member(sample, name) for name in ("real", "fake")]
    try:
        real, fake = map(decode_rgb, members)
    except Exception as error:  # Pillow's decoders let struct, zlib, EOF and index errors through
        raise UserError(f"{where} can't be decoded: {error}; run python -m pack.verify") from error
    if real.shape != fake.shape:
        sizes = " and ".join(f"{one.shape[1]}x{one.shape[0]}" for one in (real, fake))
        raise UserError(f"{where}: real and fake are {sizes}, expected equal sizes; pack them again")
    return real, fake


def _member(sample: Sample, name: str) -> bytes:
    data = next((value for field, value in sample.items() if field.startswith(f"{name}.")), None)
    if not isinstance(data, bytes):
        raise UserError(f"key {sample['__key__']!r} has no bytes under {name}.*; check your stages")
    return data


def collate(cuts: list[_Cut], slots: int, side: int) -> WindowBatch:
    """Stacks up to `slots` pairs; the slots past them are masked."""
    windows = np.zeros((slots, 2, side, side, 3), np.uint8)
    for row, cut in enumerate(cuts):
        windows[row] = cut.windows_PHWC
    padding = slots - len(cuts)
    return WindowBatch(
        windows_BPCHW=torch.from_numpy(windows).movedim(-1, 2).contiguous(),
        mask_B=torch.arange(slots) < len(cuts),
        rotation_B=torch.tensor([cut.rotation for cut in cuts] + [0] * padding),
        flip_B=torch.tensor([cut.flip for cut in cuts] + [False] * padding),
        keys=[cut.key for cut in cuts],
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


def prefetch(items: Generator[Item, None, None], depth: int) -> Generator[Item, None, None]:
    """Runs a generator on a thread of its own, `depth` items ahead; its exceptions come out here."""
    queue: Queue[tuple[str, Any]] = Queue(depth)
    stop = threading.Event()

    def put(message: tuple[str, Any]) -> None:
        while not stop.is_set():
            try:
                return queue.put(message, timeout=0.1)
            except Full:
                continue

    def produce() -> None:
        try:
            for item in items:
                put(("item", item))
                if stop.is_set():
                    return
            put(("end", None))
        except BaseException as error:
            put(("error", error))
        finally:
            items.close()

    thread = threading.Thread(target=produce, name="prefetch", daemon=True)
    thread.start()
    try:
        while (message := queue.get())[0] == "item":
            yield message[1]
        if message[0] == "error":
            raise message[1]
    finally:
        stop.set()
        thread.join()
        _drain(queue)


def _drain(queue: Queue[Any]) -> None:
    try:
        while True:
            queue.get_nowait()
    except Empty:
        return
