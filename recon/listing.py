"""Which files of a listing are images: one set of rules for packing, reconstructing and evaluating.

What is left out is counted and told in one line; a file that looks like an image never vanishes in silence.
"""

import logging
from pathlib import Path

from recon.base.walk import Files, Leave, LeftOut, walk
from recon.image.codec import SUFFIXES

REAL, FAKE = "0_real", "1_fake"
"""Folder names of the two halves in the published trees of detector datasets; they may be links."""

HALVES = (REAL, FAKE)
MASK = ".mask.png"
"""``a.mask.png`` beside the image ``a.png`` marks its changed pixels."""

_LOG = logging.getLogger(__name__)


def images_below(root: Path) -> list[tuple[str, int | None]]:
    """Lists the image files below a local folder, sorted by name, and tells what is left out.

    Raises:
        UserError: see `recon.base.walk.walk`.
    """
    left_out = LeftOut()
    found = without_masks(images_among(walk(root, HALVES, left_out.add), left_out.add), left_out.add)
    tell(root, left_out)
    return found


def images_among(files: Files, leave: Leave) -> list[tuple[str, int | None]]:
    """The files whose suffix is one of `recon.image.codec.SUFFIXES`, sorted by name.

    Args:
        files: a listing.
        leave: is told the others.
    """
    found = []
    for name, size in files:
        if name.lower().endswith(SUFFIXES):
            found.append((name, size))
        else:
            leave(_kind(name), name)
    return sorted(found)


def without_masks(found: list[tuple[str, int | None]], leave: Leave) -> list[tuple[str, int | None]]:
    """The images without those that mark the changed pixels of another: ``a.mask.png`` beside ``a.jpg``."""
    if not any(name.endswith(MASK) for name, _ in found):  # the usual case, without a set of all names
        return found
    stems = {name.rpartition(".")[0] for name, _ in found}
    kept = []
    for name, size in found:
        if name.endswith(MASK) and name.removesuffix(MASK) in stems:
            leave("masks", name)
        else:
            kept.append((name, size))
    return kept


def tell(place: object, left_out: LeftOut) -> None:
    """Logs what a listing of `place` left out, if anything."""
    if text := str(left_out):
        _LOG.warning("%s: left out %s", place, text)


def _kind(name: str) -> str:
    stem, dot, suffix = name.rpartition("/")[2].rpartition(".")
    return f"*.{suffix.lower()}" if dot and stem else "names without a suffix"
