"""The cells of a robustness grid: chains of operations, their names, and the views that they make."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from recon.image.codec import Pixels
from train.evaluation.robust.ops import Seen, Value, apply

if TYPE_CHECKING:  # it imports torch, and a mistake in a grid is to show before that
    from train.evaluation.images import View

AS_IS = "as is"
"""The first cell of every grid: the images as they are."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """An operation with all its parameters."""

    op: str
    """One of `train.evaluation.robust.ops.OPS`."""
    values: Mapping[str, Value]
    """By parameter; none is missing."""

    @property
    def parameters(self) -> str:
        """The parameters and their values."""
        return " ".join(f"{name}={value}" for name, value in self.values.items())


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
                seen = Seen(key=f"{self.family}/{number}/{name}", max_pixels=max_pixels)
                pixels = apply(step.op, pixels, step.values, seen)
            return pixels

        return View(text=self.text, of=of)
