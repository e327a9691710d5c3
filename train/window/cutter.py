"""Samples to uint8 windows, on the host, with numpy alone.

The device does the rest of the augmentation; all that it needs to know goes there with the windows.

Shapes: P = (real, fake), H = W = the window's side, C = RGB.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from pack.dataset.pairs import DamagedPair, StoredPair
from pack.dataset.partly import DamagedPieceError, Ranged
from pack.shard.schema import MASK_FIELD
from recon.base.errors import UserError
from recon.image.codec import Pixels
from train.draws.boxes import Box
from train.draws.config import AugmentConfig
from train.draws.parameters import (
    JITTER,
    GeometryDraws,
    PhotometricDraws,
    draw_geometry,
    draw_photometric,
    view_ids,
    visit_ids,
)
from train.ops.jitter import grey_means, mixed
from train.stream.samples import Sample
from train.window.degraded import Images, degraded, pre_cropped
from train.window.geometry import (
    augmented_image,
    centre,
    cut_out,
    final_crop,
    needed,
    plan_window,
    whole_window,
)
from train.window.images import ENTROPY_ALONE, UNWATCHED, Image, Stored, UndecodableError, Watch
from train.window.masked_batch import Coded, Cut, Views
from train.window.part import Part, needed_part, whole_part

_DRAWN_TOGETHER = 8  # samples; with more, the first would wait longer for those after it to be read

Pair = tuple[Image, Image]


@dataclass(frozen=True)
class Drawn:
    """A sample with its draws, which are made for several samples at once."""

    sample: Sample
    row: int
    """Which of the draws are those of this sample's view 0; the other views' follow."""
    ids: tuple[int, ...]
    """Of `train.draws.parameters.view_ids`, one for each view."""
    geometry: GeometryDraws | None
    """None for clean crops."""
    photometric: PhotometricDraws | None
    """None for clean crops."""


def visit_id(sample: Sample) -> int:
    """The number from which a sample's draws are made: see `train.draws.parameters.visit_ids`."""
    if not sample["__copy__"]:
        return int(sample["__pair_id__"])
    return int(visit_ids(np.array([sample["__pair_id__"]], np.int64), sample["__copy__"])[0])


class WindowCutter:
    """Decodes both images of a sample and cuts the same windows out of them, one for each view.

    Args:
        augment: the recipe of training windows; None takes clean centre crops, one view.
        side: of the centre crop, where `augment` is None.
        seed: of the training run.
        epoch: from 0.
        on_device: leave as coefficients what can be decoded in part; the device makes the windows of them.
        watch: of the decoding.
    """

    def __init__(
        self,
        augment: AugmentConfig | None,
        *,
        side: int,
        seed: int,
        epoch: int,
        on_device: bool = False,
        watch: Watch = UNWATCHED,
    ) -> None:
        self.augment = augment
        self.watch = watch
        self.side = side
        self.on_device = on_device
        self.seed, self.epoch = seed, epoch
        self.views = augment.views if augment else 1

    def drawn(self, samples: Iterable[Sample | DamagedPair]) -> Iterator[Drawn | DamagedPair]:
        """Gives samples their draws, several at once: one at a time costs ten times as much."""
        coming = iter(samples)
        while some := list(islice(coming, _DRAWN_TOGETHER)):
            visits = [visit_id(one) if isinstance(one, dict) else 0 for one in some]
            ids_nV, geometry, photometric = view_ids(np.array(visits, np.int64), self.views), None, None
            if self.augment is not None:
                geometry = draw_geometry(self.augment, self.seed, self.epoch, ids_nV.ravel())
                photometric = draw_photometric(self.augment, self.seed, self.epoch, ids_nV.ravel())
            # A damaged pair has rows too, which nobody reads: so rows are those of `some`.
            for place, (sample, ids) in enumerate(zip(some, ids_nV.tolist(), strict=True)):
                if isinstance(sample, DamagedPair):
                    yield sample
                else:
                    yield Drawn(sample, place * self.views, tuple(ids), geometry, photometric)

    def __call__(self, drawn: Drawn | DamagedPair) -> Views | DamagedPair:
        """Cuts one sample; a damaged pair is passed on, and a sample that can't be decoded becomes one.

        Returns:
            The views, cut out of images that were decoded once.

        Raises:
            UserError: the two images differ in size, the recipe refuses images as small as these, or a
                stage removed one.
        """
        if isinstance(drawn, DamagedPair):
            return drawn
        sample = drawn.sample
        try:
            images = _images(sample, self.views, self.watch)
            return tuple(self._view(drawn, view, images) for view in range(self.views))
        except UndecodableError as error:
            cause = f"{error} can't be decoded"
        except DamagedPieceError as error:
            cause = f"CRC-32 of {error} differs"
        return DamagedPair(key=sample["__key__"], url=sample["__url__"], cause=cause)

    def _view(self, drawn: Drawn, view: int, images: Images) -> Cut:
        """Cuts one view out of the images, which stay as they are for the next view."""
        sample, row = drawn.sample, drawn.row + view
        height, width = images[0].size
        if self.augment is None or drawn.geometry is None:
            return self._clean(sample, images)
        if not self.augment.pad and min(height, width) < self.augment.crop:
            raise UserError(_too_small(sample, height, width, self.augment.crop))
        draws, config = drawn.photometric, self.augment
        assert draws
        images = degraded(images, config, self.seed, self.epoch, drawn.ids[view], view=view + 1)
        images = pre_cropped(images, drawn.geometry, row, config)
        plan = plan_window(drawn.geometry, row, *images[0].size, config)
        real, fake, *masks = (augmented_image(image, plan) for image in images)
        # The crop comes first, but the mean grey is the whole image's: so it is taken here.
        return Cut(
            key=sample["__key__"],
            **self._windows((real, fake), plan.box, needed_part(plan.frame(), draws, row, config)),
            plan=plan,
            view_id=drawn.ids[view],
            grey_P=self._mean_greys((real, fake), drawn, row),
            mask_HW=final_crop(masks[0], plan, config.crop)[..., 0] if masks else None,
        )

    def _clean(self, sample: Sample, images: Images) -> Cut:
        """The centre crop."""
        real, fake, *masks = images
        box = centre(real.size, self.side)
        return Cut(
            key=sample["__key__"],
            **self._windows((real, fake), box, whole_part(self.side)),
            plan=whole_window(self.side),
            mask_HW=cut_out(masks[0], box)[..., 0] if masks else None,
        )

    def _windows(self, images: Pair, window: Box, part: Part) -> dict[str, Any]:
        """The needed part of a pair's windows, or what the device makes it of: fields of `Cut`."""
        top, left, *size = window
        box = (top + part.rows.start, left + part.columns.start, *part.size)
        # Copied out of the images, which can be freed then: a view would hold both decoded images.
        windows_PHWC = np.zeros((2, *size, 3), np.uint8)
        coded: list[Coded | None] = [None, None]
        for number, (pixels, image) in enumerate(zip(windows_PHWC, images, strict=True)):
            if self.on_device and isinstance(image, Stored):
                found = image.coefficients(needed(image.size, box), ENTROPY_ALONE)
                if found:
                    coded[number] = Coded(coefficients=found, top=top, left=left, part=part)
            if coded[number] is None:
                pixels[part.rows, part.columns] = cut_out(image, box)
        return {"windows_PHWC": windows_PHWC, "coded_P": tuple(coded)}

    def _mean_greys(self, images: Pair, drawn: Drawn, row: int) -> tuple[int, int]:
        """The mean grey of each image, as contrast meets it between the other ops; 0 without contrast."""
        draws = drawn.photometric
        assert self.augment
        assert draws
        if not (draws.jitter[row] and self.augment.contrast):
            return 0, 0
        palettes, weights = zip(*[one.palette() for one in images], strict=True)
        x_PCHW = np.stack(palettes).transpose(0, 2, 1)[..., None]
        for mixes, fake_weights in (
            (draws.mix, draws.mix_fake),
            (draws.frequency_mix, draws.frequency_mix_fake),
        ):
            if mixes[row]:
                x_PCHW[1] = mixed_fake(x_PCHW[0], x_PCHW[1], float(fake_weights[row]))
        order = draws.order[row].tolist()
        factors = {name: float(getattr(draws, name)[row]) for name in JITTER}
        real, fake = grey_means(x_PCHW, weights, order, **factors)  # both at once: half the calls of numpy
        return real, fake


def mixed_fake(real: Pixels, fake: Pixels, weight: float) -> Pixels:
    """What `train.ops.pixel.mix`, which comes before the jitter, makes of the fake."""
    levels: Pixels = mixed(real.astype(np.float64), fake.astype(np.float64), weight).astype(np.uint8)
    return levels


def _too_small(sample: Sample, height: int, width: int, crop: int) -> str:
    return (
        f"{_where(sample)}: augment.crop={crop} exceeds its {width}x{height}, and augment.pad=false refuses "
        f"that; set augment.pad=true, lower augment.crop, or give the filter 'width >= {crop} and "
        f"height >= {crop}'"
    )


def _where(sample: Sample) -> str:
    return f"key {sample['__key__']!r} in {sample['__url__']}"


def _images(sample: Sample, views: int, watch: Watch) -> Images:
    """The real image, the fake and, where there is one, the mask."""
    names = ("real", "fake", *(["mask"] if MASK_FIELD in sample else []))
    images = [_image(sample, name, views, watch) for name in names]
    if len({one.size for one in images}) > 1:
        what = "real and fake" if len(images) == 2 else "real, fake and mask"
        sizes = " and ".join(f"{width}x{height}" for height, width in (one.size for one in images))
        raise UserError(f"{_where(sample)}: {what} are {sizes}, expected equal sizes; pack them again")
    return images


def _image(sample: Sample, name: str, views: int, watch: Watch) -> Stored:
    field, data = next(
        ((field, data) for field, data in sample.items() if field.startswith(f"{name}.")), ("", None)
    )
    if not isinstance(data, bytes | Ranged):
        raise UserError(f"key {sample['__key__']!r} has no bytes under {name}.*; check your stages")
    pair = sample.get("__stored__")
    # Hints speak of the bytes that were read, not of those that a user's stage put in their place.
    held = (pair.members, pair.ranged) if isinstance(pair, StoredPair) else ()
    known = any(own.get(field) is data for own in held)
    hint = pair.hints.get(name) if pair and known else None
    return Stored(data, name, hint, parts=views, watch=watch)
