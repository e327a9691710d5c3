"""The degradations by the name that they have in YAML: their parameters, and what they do to an image's size.

`train.degrade.ops` runs them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from recon.image.drawing import RESAMPLERS
from train.chains.parameters import Choice, Number, Parameter

Sizes = Mapping[str, float]
"""The largest value of each parameter."""


def _same(side: int, _: Sizes) -> int:
    return side


@dataclass(frozen=True, kw_only=True)
class Op:
    """What is known of an operation before it runs."""

    parameters: Mapping[str, Parameter]
    moves: bool = False
    """Whether it moves pixels, so that a mask must go through it too."""
    reach: Callable[[int, Sizes], int] = _same
    """The longer side of the largest result, of an image with this longer side."""


def _scaled(word: str) -> Callable[[int, Sizes], int]:
    return lambda side, largest: max(1, int(side * largest[word] + 0.5))


_RESAMPLER = Choice(words=RESAMPLERS)
_SUBSAMPLING = Choice(words=("4:2:0", "4:2:2", "4:4:4"), default="4:2:0")
_SIDE = Number(low=1, high=8192, whole=True)
DISPLAYS = (1.25, 1.5, 1.75, 2)
"""Pixels of a display for each pixel of a page: the scalings that Windows offers, and 2 of most others."""

OPS: dict[str, Op] = {
    "jpeg": Op(parameters={"quality": Number(low=1, high=100, whole=True), "subsampling": _SUBSAMPLING}),
    "webp": Op(parameters={"quality": Number(low=0, high=100, whole=True)}),
    "avif": Op(
        parameters={
            "quality": Number(low=0, high=100, whole=True),
            "subsampling": _SUBSAMPLING,
            "speed": Number(low=0, high=10, whole=True, default=6),
        }
    ),
    "resize": Op(
        parameters={"factor": Number(low=0.01, high=16), "resampler": _RESAMPLER},
        moves=True,
        reach=_scaled("factor"),
    ),
    "square": Op(
        parameters={"side": _SIDE, "resampler": _RESAMPLER},
        moves=True,
        reach=lambda _, largest: int(largest["side"]),
    ),
    "thumbnail": Op(
        parameters={"side": _SIDE, "resampler": _RESAMPLER},
        moves=True,
        reach=lambda side, largest: min(side, int(largest["side"])),
    ),
    "screenshot": Op(
        parameters={
            "display": Choice(words=DISPLAYS),
            "resampler": Choice(words=RESAMPLERS, default="bilinear"),
        },
        moves=True,
        reach=_scaled("display"),
    ),
    "crop": Op(parameters={"keep": Number(low=0.01, high=1)}, moves=True),
    "blur": Op(parameters={"sigma": Number(low=0, high=25)}),
    "noise": Op(parameters={"sigma": Number(low=0, high=255)}),
    "highpass": Op(parameters={"sigma": Number(low=0.1, high=25)}),
}
"""By the name in YAML."""
