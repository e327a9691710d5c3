"""Draws a contact sheet of pairs: real image, reconstruction, and their amplified difference.

Of several reconstructions, each has two such columns, and the name of its autoencoder above it.

python -m pack.preview data/mine --out preview.png
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from recon.base.cli import run
from recon.base.errors import UserError
from recon.base.options import at_least_one
from recon.base.paths import split_path
from recon.image.codec import Picture, Pixels, decode_rgb, encode
from recon.image.drawing import resize, text_strip

if TYPE_CHECKING:
    from pack.dataset.dataset import Dataset
    from pack.dataset.pairs import StoredPair

MAX_SIDE = 8192
"""Maximum side, in pixels, of one picture on the sheet."""

_GAP = 4  # white pixels around each picture


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
    """Larger images are scaled down to this many pixels on their longer side."""

    def __post_init__(self) -> None:
        at_least_one(self, "count", "gain", "side")
        if self.side > MAX_SIDE:
            raise UserError(f"side={self.side}, expected at most {MAX_SIDE}")


def main() -> None:
    """The command."""
    run(PreviewConfig, _job, prog="python -m pack.preview", about=__doc__ or "")


def _job(config: PreviewConfig) -> None:
    from pack.dataset.dataset import open_dataset
    from pack.storage import open_store

    folder, name = split_path(config.out)
    sheet = contact_sheet(open_dataset(config.url), count=config.count, gain=config.gain, side=config.side)
    with open_store(folder).publish(name) as file:
        file.write(encode(sheet, Picture(pixels=sheet, codec="png"), "png"))
    logging.getLogger(__name__).info("%s", config.out)


def contact_sheet(dataset: "Dataset", *, count: int, gain: int, side: int) -> Pixels:
    """The sheet as (H, W, 3) uint8: one row of pictures per pair, titles at the top.

    A row has the real image, and for each reconstruction two pictures.
    """
    pairs, fakes = dataset.manifest.pairs, dataset.manifest.fakes
    count = min(count, pairs)
    numbers = [round(i * (pairs - 1) / max(1, count - 1)) for i in range(count)]
    rows = [_nth(dataset, number, gain, side) for number in numbers]
    titles = ["real", *["reconstruction", f"difference x{gain}"] * fakes]
    return np.concatenate([_strip(titles, side), *rows])


def _nth(dataset: "Dataset", number: int, gain: int, side: int) -> Pixels:
    """The row of the pair with this number, counted over all shards."""
    from pack.dataset.pairs import sound
    from pack.shard.schema import MORE_FAKES

    fakes = dataset.manifest.fakes
    for shard, entry in enumerate(dataset.manifest.shards):
        if number < entry.pairs:
            pair = sound(dataset.read_block(shard, number, 1)[0])
            if fakes == 1:
                return _row(pair, [0], gain, side)
            record = json.loads(pair.members["json"])
            names = [one["autoencoder"] for one in (record, *record[MORE_FAKES])]
            order = sorted(range(fakes), key=names.__getitem__)  # else a column would change its autoencoder
            titles = ["", *(title for which in order for title in (names[which], ""))]
            return np.concatenate([_strip(titles, side), _row(pair, order, gain, side)])
        number -= entry.pairs
    raise AssertionError("number is below the manifest's pairs")


def _strip(titles: Sequence[str], side: int) -> Pixels:
    """A line of text with a title for each picture of a row."""
    return np.concatenate([text_strip(title, side + 2 * _GAP) for title in titles], axis=1)


def _row(pair: "StoredPair", order: Sequence[int], gain: int, side: int) -> Pixels:
    try:
        real, *fakes = (decode_rgb(data) for data in (pair.real, *pair.fakes))
    except (OSError, ValueError) as error:
        raise UserError(f"{pair.url}: {pair.key} can't be decoded ({error}); pack it again") from error
    shown = [fakes[which] for which in order]
    pictures = [picture for fake in shown for picture in (fake, _amplified(real, fake, gain))]
    return np.concatenate([_cell(pixels, side) for pixels in (real, *pictures)], axis=1)


def _amplified(real: Pixels, fake: Pixels, gain: int) -> Pixels:
    difference = fake.astype(np.int16) - real  # int16: uint8 would wrap below 0
    return (difference * gain + 128).clip(0, 255).astype(np.uint8)


def _cell(pixels: Pixels, side: int) -> Pixels:
    """One picture, scaled down if needed, on white; all cells are equally wide, so that rows align."""
    height, width = pixels.shape[:2]
    if max(height, width) > side:
        scale = side / max(height, width)
        height, width = max(1, round(height * scale)), max(1, round(width * scale))
        pixels = resize(pixels, height, width)
    cell = np.full((height + 2 * _GAP, side + 2 * _GAP, 3), 255, np.uint8)
    left = (side - width) // 2 + _GAP
    cell[_GAP : _GAP + height, left : left + width] = pixels
    return cell
