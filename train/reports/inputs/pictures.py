"""The pictures that others have drawn: a preview of pairs, and the curves of train.robustness."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recon.base.errors import RejectedImageError, UserError
from recon.base.paths import expanded, is_file
from recon.image.codec import decode

_MOST = 2**30  # pixels, far more than a page can show


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A picture in a file."""

    path: Path
    data: bytes
    """The file, a PNG."""
    about: str
    """What it shows."""


def read_preview(path: str) -> Drawn:
    """A picture of pairs.

    Raises:
        UserError: there is no such file, or it is no PNG.
    """
    if not is_file(expanded(path)):
        raise UserError(f"preview={path}: no such file; python -m pack.preview writes one")
    return _drawn(expanded(path), "Pairs: real, reconstruction, difference", "preview", "pack.preview")


def read_robustness(folder: str) -> Sequence[Drawn]:
    """The curves in a folder of train.robustness, in the order of their files' names.

    Raises:
        UserError: it is no such folder, it has no curves, or one of them is no PNG.
    """
    place = expanded(folder)
    if not is_file(place / "robustness.json"):
        raise UserError(
            f"robustness={folder}: found no robustness.json; expected a folder of python -m train.robustness"
        )
    paths = sorted(path for path in place.glob("curves*.png") if is_file(path))
    if not paths:
        raise UserError(f"robustness={folder}: found no curves*.png, which python -m train.robustness writes")
    return [_drawn(path, _family(path), "robustness", "train.robustness") for path in paths]


def _family(path: Path) -> str:
    """What a picture of train.robustness shows: ``curves-FAMILY.png``, or ``curves.png`` of the others."""
    return path.stem.removeprefix("curves").removeprefix("-") or "other cells"


def _drawn(path: Path, about: str, option: str, writer: str) -> Drawn:
    expected = f"expected a PNG, as python -m {writer} writes it"
    try:
        data = path.read_bytes()
        codec = decode(data, max_pixels=_MOST, convert=True).codec
    except OSError as error:
        raise UserError(f"{option}={path} can't be read: {error.strerror}") from error
    except RejectedImageError as error:
        raise UserError(f"{option}={path}: {error}; {expected}") from error
    if codec != "png":
        raise UserError(f"{option}={path} is {codec}; {expected}")
    return Drawn(path=path, data=data, about=about)
