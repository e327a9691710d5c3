"""What all inputs become: listed images, and the blocks in which their bytes are read."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Literal, NamedTuple

from recon.base.errors import RejectedImageError, UserError
from recon.base.progress import counted
from train.evaluation.figures.scores import SHARED

Label = Literal[0, 1] | None
"""0 real, 1 fake, None unknown."""

_SHOWN = 8  # groups in the line that tells what was understood


class Listed(NamedTuple):
    """An image that has not been read yet."""

    name: str
    """Path relative to the source, or the pair's key with ``.real``, ``.fake``, ``.fake2``, ..."""
    group: str
    """Label group (generator); `SHARED` for a real image that counts in all groups."""
    label: Label
    photograph: str
    """Images that share it show the same photograph: a real image and its fakes."""


@dataclass(frozen=True, kw_only=True)
class LabelledImage:
    """The bytes of an image file, with its name and labels; see `Listed`."""

    name: str
    group: str
    label: Label
    data: bytes
    """The file."""


class DamagedError(RejectedImageError):
    """An image is there, but its bytes are not those that were written."""


Read = bytes | RejectedImageError
"""The bytes of an image, or why this image alone can't be read."""


MISSING, LARGE, SMALL, UNREADABLE = "missing", "too large", "too small", "unreadable"
"""Causes by which images that have no score are counted."""


@dataclass(frozen=True, kw_only=True)
class Lost:
    """Why an image has no score."""

    kind: str
    """`MISSING`, `LARGE`, `SMALL` or `UNREADABLE`."""
    cause: str
    """The same in full."""


@dataclass(frozen=True, kw_only=True)
class ImageSource:
    """Images to score, in a fixed order."""

    kind: str
    """What the place is, in words: ``a folder``."""
    listed: Sequence[Listed]
    read: Callable[[int, int], list[Read]]
    """Reads `count` images from number `first` on; from several threads at once. UserError: storage fails."""
    blocks: Sequence[int] | None = None
    """Numbers of images that are best read together, in order; None: any number, one by one."""

    @property
    def total(self) -> int:
        """Number of images."""
        return len(self.listed)

    def places(self) -> Iterator[tuple[int, int]]:
        """First image and number of images of each block; without blocks each image is one."""
        first = 0
        for count in self.blocks or [1] * self.total:
            yield first, count
            first += count

    def places_of(self, chosen: Set[int]) -> list[tuple[int, int]]:
        """Those of `places` that hold one of these images."""
        return [(first, n) for first, n in self.places() if not chosen.isdisjoint(range(first, first + n))]

    def images(self) -> Iterator[LabelledImage]:
        """Reads all images, in order, for callers that may leave none out.

        Raises:
            UserError: one can't be read.
        """
        for first, count in self.places():
            for number, data in enumerate(self.read(first, count), first):
                one = self.listed[number]
                if isinstance(data, RejectedImageError):
                    raise UserError(f"{one.name}: {data}") from data
                yield LabelledImage(name=one.name, group=one.group, label=one.label, data=data)


def with_shared(listed: list[Listed]) -> list[Listed]:
    """Lets the real images count in every group, if there are both classes and no group holds both."""
    real = {one.group for one in listed if one.label == 0}
    fake = {one.group for one in listed if one.label == 1}
    if not real or not fake or real & fake:
        return listed
    return [one._replace(group=SHARED) if one.label == 0 else one for one in listed]


def described(source: ImageSource, data: str) -> str:
    """One line that tells what was understood: images, labels, groups."""
    labels = Counter(one.label for one in source.listed)
    words = {0: "real", 1: "fake", None: "without a label"}
    shown = ", ".join(f"{labels[label]} {words[label]}" for label in (0, 1, None) if labels[label])
    groups = Counter(one.group for one in source.listed if one.group != SHARED)
    some = ", ".join(f"{name} ({count})" for name, count in sorted(groups.items())[:_SHOWN])
    more = f" and {len(groups) - _SHOWN} more" if len(groups) > _SHOWN else ""
    shared = sum(one.group == SHARED for one in source.listed)
    told = f"; {counted(shared, 'real image')} count in every group" if shared else ""
    head = f"{data} is {source.kind}: {counted(source.total, 'image')} ({shown})"
    return f"{head} in {counted(len(groups), 'group')}: {some}{more}{told}"
