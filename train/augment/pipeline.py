"""Augments windows on the device to final crops, op by op in the published order.

All parameters depend on (seed, epoch, pair), are known on the host, and are the same for real and fake. An
op changes only the pairs that drew it. On a CPU one pair goes through all ops before the next one, so that
its pixels stay in the cache; only the part of its window that its draws need is computed, on average half.

Shapes: B pairs, P = (real, fake), C = RGB, H = W = the side of a window, its core or the crop.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from itertools import compress

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from train.draws.config import AugmentConfig
from train.draws.noise import noise_keys
from train.draws.parameters import PhotometricDraws, draw_photometric
from train.ops.blur import blur
from train.ops.jitter import jitter_batch
from train.ops.jpeg import jpeg, webp
from train.ops.pixel import cutout, mix, noise, sharpen, to_grey
from train.window.geometry import mirror
from train.window.part import Part, needed_part

Numbers = NDArray[np.int64]
Timer = Callable[[str], AbstractContextManager[object]]


class PairAugment:
    """Augments the windows of pairs.

    Args:
        config: the recipe.
        seed: of the run.
        timer: returns a context manager for the name of an op; the op runs inside, so that it is measured.
    """

    def __init__(self, config: AugmentConfig, seed: int, timer: Timer = lambda _: nullcontext()) -> None:
        self.config, self.seed, self.timer = config, seed, timer

    def __call__(
        self, epoch: int, windows_BPHWC: Tensor, ids_B: Numbers, frames_B: NDArray[np.void], grey_BP: Numbers
    ) -> Tensor:
        """Applies all ops that come after `train.window.cutter.WindowCutter`.

        Args:
            epoch: from 0.
            windows_BPHWC: uint8, H = W = `AugmentConfig.window_side`, on the device.
            ids_B: the result of `train.draws.parameters.visit_ids`.
            frames_B: the places of the windows, of dtype `train.window.geometry.FRAME`.
            grey_BP: the mean grey levels for the contrast op.

        Returns:
            (B, P, C, crop, crop) uint8 on the device.
        """
        count, side = len(ids_B), self.config.crop
        draws = draw_photometric(self.config, self.seed, epoch, ids_B)
        keys = noise_keys(self.seed, epoch, ids_B)
        images = windows_BPHWC.new_empty((count, 2, 3, side, side))
        ops = _Ops(self.config, draws, keys, frames_B, grey_BP, self.config.blur_radius)
        run = self._together if windows_BPHWC.is_cuda else self._apart
        run(ops, windows_BPHWC, images)
        return images

    def _together(self, ops: "_Ops", windows_BPHWC: Tensor, images: Tensor) -> None:
        """Applies each op to all pairs before the next op."""
        with self.timer("layout"):
            x_BPCHW = windows_BPHWC.movedim(-1, 2).contiguous()
        # Blur always runs, because it also cuts the halo off.
        names = [name for name, chosen_B in ops.drawn().items() if chosen_B.any() or name == "blur"]
        x_BPCHW = self._run(ops, names, x_BPCHW)
        with self.timer("crop"):
            ops.crop_into(images, x_BPCHW)

    def _apart(self, ops: "_Ops", windows_BPHWC: Tensor, images: Tensor) -> None:
        """Applies all ops to a pair before the next pair."""
        from train.ops import cpu  # only here: a GPU needs no numba

        drawn = ops.drawn()
        names_B = [list(compress(drawn, row)) for row in zip(*drawn.values(), strict=True)]
        pairs = zip(ops.apart(), windows_BPHWC.numpy(), images.numpy(), names_B, strict=True)
        for (one, part), windows_PHWC, image_PCHW, names in pairs:
            with self.timer("layout"):
                x_BPCHW = torch.empty((1, 2, 3, *part.size), dtype=torch.uint8)
                cpu.to_planes(windows_PHWC, part.rows.start, part.columns.start, x_BPCHW[0].numpy())
            x_BPCHW = self._run(one, names, x_BPCHW)
            with self.timer("crop"):
                cpu.crop_turned(x_BPCHW[0].numpy(), one.crop_place(), image_PCHW)

    def _run(self, ops: "_Ops", names: list[str], x_BPCHW: Tensor) -> Tensor:
        for name in names:
            with self.timer(name):
                x_BPCHW = getattr(ops, name)(x_BPCHW)
        return x_BPCHW


_ORDER = ("mix", "frequency_mix", "jitter", "grey", "cutout", "noise", "blur", "sharpen", "jpeg", "webp")


@dataclass(frozen=True)
class _Ops:
    """The ops of some pairs, from uint8 (B, P, C, H, W) to the same shape; only blur cuts the halo off."""

    config: AugmentConfig
    draws: PhotometricDraws
    keys_B: Numbers
    frames_B: NDArray[np.void]
    greys_BP: Numbers
    halo: int
    """Width in pixels of the border around the core that the blur needs."""

    def drawn(self) -> dict[str, NDArray[np.bool_]]:
        """For each op, in the published order: (B,) whether a pair drew it."""
        hole_B = self.frames_B["cut_bottom"] > 0
        return {name: hole_B if name == "cutout" else getattr(self.draws, name) for name in _ORDER}

    def apart(self) -> Iterator[tuple["_Ops", Part]]:
        """Yields for each pair its ops, and the part of its window that they need."""
        frames_B = self.frames_B.copy()
        for row, frame in enumerate(self.frames_B.tolist()):
            part, at = needed_part(frame, self.draws, row, self.config), slice(row, row + 1)
            frames_B["top"][row] += part.rows.start
            frames_B["left"][row] += part.columns.start
            draws = _rows_of(self.draws, at)
            yield (
                _Ops(self.config, draws, self.keys_B[at], frames_B[at], self.greys_BP[at], part.halo),
                part,
            )

    def mix(self, x: Tensor) -> Tensor:
        return _apply(self.draws.mix, x, lambda part, rows: mix(part, self.draws.mix_fake[rows]))

    def frequency_mix(self, x: Tensor) -> Tensor:
        # With one weight for all frequencies, a mixture of spectra is the spectrum of a mixture of pixels.
        def op(part: Tensor, rows: Numbers) -> Tensor:
            return mix(part, self.draws.frequency_mix_fake[rows])

        return _apply(self.draws.frequency_mix, x, op)

    def jitter(self, x: Tensor) -> Tensor:
        def op(part: Tensor, rows: Numbers) -> Tensor:
            return jitter_batch(part, _rows_of(self.draws, rows), self.greys_BP[rows])

        return _apply(self.draws.jitter, x, op)

    def grey(self, x: Tensor) -> Tensor:
        return _apply(self.draws.grey, x, lambda part, _: to_grey(part))

    def cutout(self, x: Tensor) -> Tensor:
        boxes = _stack(self.frames_B, "cut_top", "cut_left", "cut_bottom", "cut_right")
        origins = _stack(self.frames_B, "top", "left")

        def op(part: Tensor, rows: Numbers) -> Tensor:
            return cutout(part, boxes[rows], origins[rows], self.config.cutout_fill)

        return self._mirrored(_apply(boxes[:, 2] > 0, x, op), boxes[:, 2] > 0)

    def noise(self, x: Tensor) -> Tensor:
        origins = _stack(self.frames_B, "top", "left")

        def op(part: Tensor, rows: Numbers) -> Tensor:
            return noise(part, self.keys_B[rows], origins[rows], self.draws.noise_sigma[rows])

        return self._mirrored(_apply(self.draws.noise, x, op), self.draws.noise)

    def _mirrored(self, x: Tensor, chosen_B: NDArray[np.bool_]) -> Tensor:
        """Repeats the mirroring of windows that reach beyond the image.

        Holes and noise have changed the mirrored pixels as if they were image; they must mirror the image.
        """
        for row in np.flatnonzero(chosen_B).tolist():
            for axis, (start, size) in enumerate(_places(self.frames_B[row]), -2):
                if start < 0 or start + x.shape[axis] > size:
                    places = mirror(start, x.shape[axis], size) - start
                    # The clip changes only pixels that no later op needs.
                    index = _index(places.clip(0, x.shape[axis] - 1), x)
                    x[row] = x[row].index_select(axis, index)
        return x

    def blur(self, x: Tensor) -> Tensor:
        rows, halo = np.flatnonzero(self.draws.blur), self.halo
        if len(rows) == len(x):  # saves the copy of the core
            return blur(x, self.draws.blur_sigma, halo)
        core = x[..., halo : x.shape[-2] - halo, halo : x.shape[-1] - halo].contiguous()
        if len(rows):
            core.index_copy_(0, _index(rows, x), blur(_take(x, rows), self.draws.blur_sigma[rows], halo))
        return core

    def sharpen(self, x: Tensor) -> Tensor:
        return _apply(
            self.draws.sharpen, x, lambda part, rows: sharpen(part, self.draws.sharpen_amount[rows])
        )

    def jpeg(self, x: Tensor) -> Tensor:
        extent_B2 = self._extents(x)

        def op(part: Tensor, rows: Numbers) -> Tensor:
            return jpeg(part, self.draws.jpeg_quality[rows], extent_B2[rows])

        return _apply(self.draws.jpeg, x, op)

    def webp(self, x: Tensor) -> Tensor:
        extent_B2 = self._extents(x)

        def op(part: Tensor, rows: Numbers) -> Tensor:
            return webp(part, self.draws.webp_quality[rows], extent_B2[rows])

        return _apply(self.draws.webp, x, op)

    def _extents(self, x: Tensor) -> Numbers:
        """(B, 2) height and width of the part of each core in `x` that lies inside its image."""
        origins_B2 = _stack(self.frames_B, "top", "left") + self.halo
        extents_B2: Numbers = np.minimum(_stack(self.frames_B, "height", "width") - origins_B2, x.shape[-2:])
        return extents_B2

    def crop_into(self, images_BPCHW: Tensor, x: Tensor) -> None:
        """Copies the final crops of the cores `x` into `images_BPCHW`, rotated and flipped."""
        side = self.config.crop
        for image, core, frame in zip(images_BPCHW, x, self.frames_B.tolist(), strict=True):
            height, width, crop_top, crop_left, top, left, *_, rotation, flip = frame
            for axis, start, size, first in ((-2, crop_top, height, top), (-1, crop_left, width, left)):
                origin = first + self.halo
                if 0 <= start <= size - side:
                    core = core.narrow(axis, start - origin, side)
                else:
                    core = core.index_select(axis, _index(mirror(start, side, size) - origin, core))
            core = torch.rot90(core, rotation, (-2, -1))
            image.copy_(core.flip(-1) if flip else core)

    def crop_place(self) -> Numbers:
        """The place of the first pair's final crop, for `train.ops.cpu.crop_turned`."""
        height, width, crop_top, crop_left, top, left, *_, rotation, flip = self.frames_B[0].tolist()
        first = (top + self.halo, left + self.halo)
        return np.array((height, width, crop_top, crop_left, *first, rotation, flip), np.int64)


def _apply(chosen_B: NDArray[np.bool_], x_BPCHW: Tensor, op: Callable[[Tensor, Numbers], Tensor]) -> Tensor:
    """Applies an op to the chosen pairs."""
    rows = np.flatnonzero(chosen_B)
    if not len(rows):  # no kernel is started for an op that no pair drew
        return x_BPCHW
    part = op(_take(x_BPCHW, rows), rows)
    return part if len(rows) == len(x_BPCHW) else x_BPCHW.index_copy_(0, _index(rows, x_BPCHW), part)


def _take(x_BPCHW: Tensor, rows: Numbers) -> Tensor:
    """Selects pairs; if all are selected, returns the tensor itself without a copy."""
    return x_BPCHW if len(rows) == len(x_BPCHW) else x_BPCHW.index_select(0, _index(rows, x_BPCHW))


def _index(numbers: Numbers, beside: Tensor) -> Tensor:
    return torch.from_numpy(numbers).to(beside.device, non_blocking=True)


def _rows_of(draws: PhotometricDraws, rows: slice | Numbers) -> PhotometricDraws:
    return PhotometricDraws(**{one.name: getattr(draws, one.name)[rows] for one in fields(draws)})


def _stack(frames_B: NDArray[np.void], *names: str) -> Numbers:
    """(B, n) columns of frames."""
    return np.stack([frames_B[name] for name in names], axis=1)


def _places(frame: np.void) -> tuple[tuple[int, int], tuple[int, int]]:
    """(start of the window, size of the image) along rows and columns."""
    return (int(frame["top"]), int(frame["height"])), (int(frame["left"]), int(frame["width"]))
