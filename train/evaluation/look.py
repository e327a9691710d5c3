"""What a detector looks at in an image: all of it, a crop, several crops, before that perhaps resized.

The names are those of ``--view``: ``whole``, ``crop:224``, ``five:224``, ``ten:224``, ``resize:256``,
``resize:440+crop:384``, ``resize:224:bicubic+ten:192``, ``resize:256x256``. The score of several crops is the
mean of their logits.

Shapes: H rows, W columns of the image, S side of a crop.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from recon.base.errors import UserError
from recon.image.codec import Pixels
from recon.image.drawing import RESAMPLERS, resize
from train.window.geometry import centre_crop, cut

MAX_RESIZED = 100_000_000
"""Most pixels that resizing makes: an image of 1 x 10,000 pixels would grow beyond all memory."""
_CROPS = {"crop": "centre crop", "five": "five crops", "ten": "ten crops"}
_FORMS = (
    "whole, crop:N, five:N or ten:N (corners and centre, ten: mirrored too), resize:N (the shorter side) "
    f"or resize:HxW, with :{' or :'.join(RESAMPLERS)} at its end, or resize:...+crop:N"
)
_RESIZE = re.compile(rf"resize:(\d+)(?:x(\d+))?(?::({'|'.join(RESAMPLERS)}))?")
_CROP = re.compile(rf"({'|'.join(_CROPS)}):(\d+)")


@dataclass(frozen=True, kw_only=True)
class Look:
    """A way to look at an image; `str` gives its name."""

    size: tuple[int, ...] | None = None
    """Resized to (height, width) in pixels, or with one number to this shorter side; None: not resized."""
    resampler: str = "bilinear"
    """Pillow's filter for that, one of `recon.image.drawing.RESAMPLERS`."""
    crops: str | None = None
    """``crop``, ``five`` or ``ten``; None for the whole."""
    side: int = 0
    """Side of the crops in pixels."""

    def __str__(self) -> str:
        steps = []
        if self.size is not None:
            resampler = "" if self.resampler == "bilinear" else f":{self.resampler}"
            steps.append(f"resize:{'x'.join(map(str, self.size))}{resampler}")
        if self.crops is not None:
            steps.append(f"{self.crops}:{self.side}")
        return "+".join(steps) or "whole"

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of an image after resizing; those of torchvision's ``Resize``."""
        if self.size is None:
            return height, width
        if len(self.size) == 2:
            return self.size[0], self.size[1]
        (short,) = self.size
        if height <= width:
            return short, int(short * width / height)
        return int(short * height / width), short

    def of(self, pixels: Pixels) -> Pixels:
        """What is scored of an image.

        Args:
            pixels: (H, W, 3) uint8. A crop that is larger than the image mirrors its border.

        Returns:
            (H, W, 3) or (S, S, 3), contiguous; of several crops (crops, S, S, 3).
        """
        size = self.resized(*pixels.shape[:2])
        if size != pixels.shape[:2]:
            pixels = resize(pixels, *size, resampler=self.resampler)
        if self.crops is None:
            return pixels
        if self.crops == "crop":  # a copy, so that the whole image need not be kept
            return np.ascontiguousarray(centre_crop(pixels, self.side))
        return np.stack(list(self._several(pixels)))

    def told(self, height: int, width: int) -> str:
        """What is scored of an image of this size, for people."""
        size = self.resized(height, width)
        resizing = "" if size == (height, width) else f", resized to {size[1]}x{size[0]}"
        part = (
            "whole image"
            if self.crops is None
            else f"{_CROPS[self.crops]} of {self.side}x{self.side} pixels from"
        )
        return f"{part} {width}x{height}{resizing}"

    def _several(self, pixels: Pixels) -> Iterator[Pixels]:
        """The corners and the centre; of ten, those of the mirrored image after them."""
        tops, lefts = (_starts(size, self.side) for size in pixels.shape[:2])
        corners = [(top, left) for top in tops[:2] for left in lefts[:2]]
        crops = [
            cut(pixels, (top, left, self.side, self.side)) for top, left in [*corners, (tops[2], lefts[2])]
        ]
        yield from crops
        if self.crops == "ten":
            yield from (crop[:, ::-1] for crop in crops)


WHOLE = Look()


def parse_look(text: str) -> Look:
    """The view of this name.

    Raises:
        UserError: there is none; the message lists the forms.
    """
    first, plus, second = text.strip().partition("+")
    resizing, crop = _RESIZE.fullmatch(first), _CROP.fullmatch(second or first)
    if first == "whole" and not plus:
        return WHOLE
    if (plus and not (resizing and crop and second)) or not (resizing or crop):
        raise UserError(f"view={text}: expected {_FORMS}")
    numbers = [int(one) for one in resizing.groups()[:2] if one] if resizing else []
    side = int(crop[2]) if crop else 0
    if 0 in numbers or (crop and not side):
        raise UserError(f"view={text}: a side of 0 pixels, expected {_FORMS}")
    resampler = (resizing and resizing[3]) or "bilinear"
    return Look(size=tuple(numbers) or None, resampler=resampler, crops=crop[1] if crop else None, side=side)


def asked_look(view: str | None, crop: int | None, max_pixels: int = MAX_RESIZED) -> Look | None:
    """The view that ``--view`` or, for a centre crop, ``--crop`` asks for; None if neither does.

    Raises:
        UserError: both are given, the view's name is unknown, or its sides have more than `max_pixels`.
    """
    if view is not None and crop is not None:
        raise UserError(
            f"crop={crop} is view=crop:{crop}, but view={view} was given as well; give one of them"
        )
    name = view if crop is None else f"crop:{crop}"
    if name is None:
        return None
    found = parse_look(name)
    height, width = found.size if found.size and len(found.size) == 2 else (0, 0)
    if max(found.side**2, height * width) > max_pixels:
        option = f"view={view}" if crop is None else f"crop={crop}"
        raise UserError(f"{option} has more pixels than max_pixels={max_pixels}")
    return found


def _starts(size: int, side: int) -> tuple[int, int, int]:
    """First row of the crops at the start, at the end and in the middle; all three, where they overhang."""
    middle = (size - side) // 2
    return (0, size - side, middle) if side <= size else (middle, middle, middle)
