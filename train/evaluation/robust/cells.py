"""The cells of a robustness grid: chains of operations, their names, and the views that they make.

What is drawn for an image is a function of its name and of what it is drawn for, so it is the same in any
order and on any rank.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from recon.image.codec import Pixels
from train.chains.declared import OPS
from train.chains.parameters import Parameter, Value, drawn
from train.chains.parse import Step
from train.degrade.ops import Seen, apply
from train.order.counter import signed

if TYPE_CHECKING:  # it imports torch, and a mistake in a grid is to show before that
    from train.evaluation.images import View

AS_IS = "as is"
"""The first cell of every grid: the images as they are."""


@dataclass(frozen=True, kw_only=True)
class Swept:
    """A swept parameter and its value in one cell."""

    name: str
    value: Value

    def __str__(self) -> str:
        return f"{self.name}={self.value}"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One chain of operations."""

    family: str
    """Cells of one family differ in what is swept."""
    steps: Sequence[Step] = ()
    """What is done to an image, in this order."""
    x: Swept | None = None
    """What the x axis shows; None where no number is swept."""
    others: Sequence[Swept] = ()
    """What else is swept: each combination of values has a curve of its own."""

    @property
    def name(self) -> str:
        """Unique in its grid."""
        return " ".join([self.family, *map(str, ([self.x] if self.x else []) + list(self.others))])

    @property
    def curve(self) -> str:
        """The name of the curve in the picture of its family; empty if it is the only one."""
        return " ".join(map(str, self.others))

    @property
    def text(self) -> str:
        """All that decides the pixels."""
        return f"{self.family}: {' | '.join(f'{step.op} {step.parameters}' for step in self.steps)}"

    def view(self, max_pixels: int) -> "View":
        """What the cell does to an image; results of more than `max_pixels` are refused."""
        from train.evaluation.images import View

        def of(pixels: Pixels, name: str) -> Pixels:
            for number, step in enumerate(self.steps):
                key = f"{self.family}/{number}/{name}"
                seen = Seen(noise_key=signed(_word(key)), max_pixels=max_pixels)
                values = {
                    word: drawn_by_name(step.values[word], parameter, f"{key}/{word}")
                    for word, parameter in OPS[step.op].parameters.items()
                }
                pixels = apply(step.op, pixels, values, seen)
            return pixels

        return View(text=self.text, of=of)


def drawn_by_name(value: Value, parameter: Parameter, key: str) -> float | str:
    """The value of a parameter for one image.

    Args:
        value: as the grid gives it.
        parameter: whose value it is.
        key: tells the image and what is drawn.
    """
    return drawn(value, parameter, _word(key))


def _word(key: str) -> int:
    """64 random bits; names of files that are not UTF-8 have their bytes in the key."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little")
