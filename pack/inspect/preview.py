"""Draws a contact sheet of pairs: real image, reconstruction, and their amplified difference.

    python -m pack.preview data/mine --out preview.png

Below the pictures stand key and label group, the autoencoder, and how large the difference is. Of several
reconstructions each has two such columns. Where the dataset has masks of what was changed, they come last.
"""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from recon.base.cli import run
from recon.base.errors import UserError
from recon.base.options import at_least_one
from recon.image.codec import Picture, Pixels, decode_rgb, encode
from recon.image.drawing import enlarge, fitted, resize, text_strip
from recon.place.alone import refuse_ranks

if TYPE_CHECKING:
    import pyarrow as pa

    from pack.dataset.dataset import Dataset
    from pack.dataset.pairs import StoredPair

MAX_SIDE = 8192
"""Maximum side, in pixels, of one picture on the sheet."""

GAP = 4
"""White pixels around each picture."""
TITLE = 24
"""Height of the titles of the columns, in pixels."""
LINE = 18
"""Height of each of the two lines below a picture, in pixels."""
SCALE = 44
"""Height of the scale of differences at the end of the sheet, in pixels."""

_PROG = "python -m pack.preview"
_FAINT = "#606060"


@dataclass(frozen=True, kw_only=True)
class PreviewConfig:
    """Which dataset to draw, and how."""

    url: str = field(kw_only=False)
    """Directory or URL of a dataset."""
    out: str = "preview.png"
    """PNG file to write."""
    count: int = 6
    """Pairs to show, spread evenly over the dataset."""
    gain: int = 8
    """Factor by which the difference is amplified; mid grey means no difference."""
    side: int = 256
    """Longer side of each picture in pixels; larger images are scaled down, smaller ones enlarged."""

    def __post_init__(self) -> None:
        at_least_one(self, "count", "gain", "side")
        if self.side > MAX_SIDE:
            raise UserError(f"side={self.side}, expected at most {MAX_SIDE}")


def main() -> None:
    """The command."""
    run(PreviewConfig, _job, prog=_PROG, about=__doc__ or "")


def _job(config: PreviewConfig) -> None:
    refuse_ranks(os.environ, _PROG)
    from pack.base.writable import check_writable, write_file
    from pack.dataset.dataset import open_dataset

    check_writable(config.out)
    sheet = contact_sheet(open_dataset(config.url), count=config.count, gain=config.gain, side=config.side)
    write_file(config.out, encode(sheet, Picture(pixels=sheet, codec="png"), "png"))
    logging.getLogger(__name__).info("%s", config.out)


def contact_sheet(dataset: "Dataset", *, count: int, gain: int, side: int) -> Pixels:
    """The sheet as (H, W, 3) uint8: titles, a row of pictures per pair with two lines of text, and a scale.

    A row has the real image, for each reconstruction two pictures, and the mask if there is one.
    """
    pairs, fakes = dataset.manifest.pairs, dataset.manifest.fakes
    count = min(count, pairs)
    numbers = [round(i * (pairs - 1) / max(1, count - 1)) for i in range(count)]
    masks = ["mask: white is changed"] if dataset.manifest.masks else []
    titles = ["real", *["reconstruction", f"difference x{gain}"] * fakes, *masks]
    # The rows come in the order of the shards, and reading a table checks the whole index of one.
    makers = lru_cache(1)(lambda shard: _makers(dataset, shard))
    rows = [_nth(dataset, number, makers, gain, side) for number in numbers]
    return np.concatenate([_strips(titles, side, TITLE), *rows, _scale(gain, len(titles) * (side + 2 * GAP))])


@dataclass(frozen=True, kw_only=True)
class _Picture:
    """A picture of a row, and the two lines below it."""

    pixels: Pixels
    first: str
    second: str = ""


def _nth(
    dataset: "Dataset", number: int, makers: Callable[[int], "pa.Table"], gain: int, side: int
) -> Pixels:
    """The row of the pair with this number, counted over all shards."""
    from pack.dataset.fakes import values_of
    from pack.dataset.pairs import sound

    for shard, entry in enumerate(dataset.manifest.shards):
        if number < entry.pairs:
            pair = sound(dataset.read_block(shard, number, 1)[0])
            made_by = [name or "" for name in values_of(makers(shard).slice(number, 1), "autoencoder")]
            pictures = _pictures(pair, made_by, gain)
            cells = np.concatenate([_cell(one.pixels, side) for one in pictures], axis=1)
            first = _strips([one.first for one in pictures], side, LINE)
            second = _strips([one.second for one in pictures], side, LINE, _FAINT)
            return np.concatenate([cells, first, second])
        number -= entry.pairs
    raise AssertionError("number is below the manifest's pairs")


def _makers(dataset: "Dataset", shard: int) -> "pa.Table":
    """What made each reconstruction of a shard."""
    from pack.shard.schema import MORE_FAKES

    return dataset.table(shard, ["autoencoder", *([MORE_FAKES] if dataset.manifest.fakes > 1 else [])])


def _pictures(pair: "StoredPair", makers: Sequence[str], gain: int) -> list[_Picture]:
    from pack.shard.schema import MASK_FIELD

    masks = [pair.members[MASK_FIELD]] if MASK_FIELD in pair.members else []
    try:
        real, *others = (decode_rgb(data) for data in (pair.real, *pair.fakes, *masks))
    except (OSError, ValueError) as error:
        raise UserError(f"{pair.url}: {pair.key} can't be decoded ({error}); pack it again") from error
    found = [_Picture(pixels=real, first=pair.key, second=pair.group)]
    # In the order of their names, or a column would change its autoencoder from pair to pair.
    for which in sorted(range(len(makers)), key=makers.__getitem__):
        found.append(_Picture(pixels=others[which], first=makers[which]))
        found.append(_difference(real, others[which], gain))
    for mask in others[len(makers) :]:
        found.append(_Picture(pixels=mask, first=f"{(mask[..., 0] > 0).mean():.1%} changed"))
    return found


def _difference(real: Pixels, fake: Pixels, gain: int) -> _Picture:
    difference = fake.astype(np.int16) - real  # int16: uint8 would wrap below 0
    levels = np.abs(difference)
    pixels = (difference * gain + 128).clip(0, 255).astype(np.uint8)
    return _Picture(pixels=pixels, first=f"mean {levels.mean():.2f} levels", second=f"largest {levels.max()}")


def _strips(texts: Sequence[str], side: int, height: int, ink: str = "black") -> Pixels:
    """A line of text with a text for each picture of a row."""
    return np.concatenate([text_strip(text, side + 2 * GAP, height, ink) for text in texts], axis=1)


def _scale(gain: int, width: int) -> Pixels:
    """What the greys of a difference mean: all that a pixel can show, from black to white."""
    bar = np.full((SCALE - LINE, width, 3), 255, np.uint8)
    shades = np.linspace(0, 255, min(width - 2 * GAP, 256)).astype(np.uint8)
    bar[GAP:-GAP, GAP : GAP + len(shades)] = shades[:, None]
    black, white = (f"{levels / gain:.3g}" for levels in (128, 127))
    text = f"difference in levels of 255: black -{black} or less, grey 0, white {white} or more"
    return np.concatenate([bar, text_strip(text, width, LINE, _FAINT)])


def _cell(pixels: Pixels, side: int) -> Pixels:
    """One picture on white; all cells are equally wide, so that rows align."""
    rows, columns = pixels.shape[:2]
    height, width = fitted(rows, columns, side)
    change = resize if max(rows, columns) > side else enlarge
    cell = np.full((height + 2 * GAP, side + 2 * GAP, 3), 255, np.uint8)
    left = (side - width) // 2 + GAP
    cell[GAP : GAP + height, left : left + width] = change(pixels, height, width)
    return cell
