"""Whatever an image's size, kind or rotation, its reconstruction shows everything at the same place."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ORIENTATION
from numpy.typing import NDArray
from PIL import Image
from pipeline_items import config_of, items_of, made, maker_of

from pack.shard.pair import Pair
from recon.image.codec import Pixels, decode
from recon.models.load import load
from recon.models.types import Autoencoder

SIDE = 24  # of a marker, in pixels: three latents of the tiny autoencoder
LEVELS = (0, 90, 170, 255)  # of the markers: top left, top right, bottom left, bottom right
JPEG, TINY = 6.0, 25.0  # levels that a marker's mean may change by
SIZES = [(64, 64), (64, 65), (71, 100), (127, 64), (257, 190), (427, 640)]  # height, width


def marked(height: int, width: int) -> NDArray[np.uint8]:
    """(H, W) uint8: mid-grey with a square of its own level in each corner."""
    pixels = np.full((height, width), 128, np.uint8)
    for (y, x), level in zip(corners(height, width), LEVELS, strict=True):
        pixels[y : y + SIDE, x : x + SIDE] = level
    return pixels


def corners(height: int, width: int) -> list[tuple[int, int]]:
    return [(y, x) for y in (0, height - SIDE) for x in (0, width - SIDE)]


def write(path: Path, kind: str, height: int, width: int) -> None:
    grey = Image.fromarray(marked(height, width))
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    colour = grey.convert("RGB")
    if kind == "16-bit":
        Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(path.with_suffix(".png"))
    elif kind == "alpha":
        colour.putalpha(255)
        colour.save(path.with_suffix(".png"))
    elif kind == "palette":
        grey.convert("P").save(path.with_suffix(".png"))
    elif kind == "rotated":
        colour.save(path.with_suffix(".jpg"), quality=95, exif=exif)
    elif kind == "webp":
        colour.save(path.with_suffix(".webp"), lossless=True)
    elif kind == "cmyk":
        colour.convert("CMYK").save(path.with_suffix(".tif"))
    else:
        {"grey": grey, "colour": colour}[kind].save(path.with_suffix(".jpg"), quality=95)


def pairs_of(root: Path, **options: Any) -> list[Pair]:
    """The pairs of a folder, each of which has to become one."""
    config = config_of(root, convert=True, **options)
    autoencoder: Autoencoder = load(config)
    [(_, results)] = made(maker_of(config, autoencoder), [(0, items_of(root))])
    pairs = [one for one in results if isinstance(one, Pair)]
    assert len(pairs) == len(results), results
    return pairs


def check(pair: Pair, tolerance: float) -> None:
    """All markers lie in both images where they were planted, up to their outermost pixels."""
    real, fake = (decode(data, max_pixels=10**8) for data in (pair.real, pair.fake))
    assert real.pixels.shape == fake.pixels.shape
    assert real.orientation == fake.orientation
    assert real.size == (pair.record["height"], pair.record["width"])
    for picture, allowed in ((real, JPEG), (fake, tolerance)):
        for (y, x), level in zip(corners(*real.size), LEVELS, strict=True):
            part = picture.pixels[y : y + SIDE, x : x + SIDE].astype(float)
            assert abs(part.mean() - level) < allowed, (pair.record["path"], y, x)
    moved = np.array(edges(fake.pixels)) - np.array(edges(real.pixels))
    assert np.abs(moved).max() <= (tolerance > JPEG)  # a small autoencoder blurs an edge, now and then
    assert np.abs(moved.mean(axis=0)).max() <= 0.5, "all edges moved together"


def edges(pixels: Pixels) -> list[tuple[int, ...]]:
    """For each marker the rows and columns where its level changes most, along a line through its middle."""
    levels = pixels.astype(float).mean(axis=2)
    height, width = levels.shape
    found = []
    for y, x in corners(height, width):
        row = levels[y + 4 : y + SIDE - 4].mean(axis=0)  # along x
        column = levels[:, x + 4 : x + SIDE - 4].mean(axis=1)
        near_x = slice(0, 32) if x == 0 else slice(width - 32, width)
        near_y = slice(0, 32) if y == 0 else slice(height - 32, height)
        found.append(tuple(int(np.abs(np.diff(line)).argmax()) for line in (row[near_x], column[near_y])))
    return found


KINDS = ("colour", "grey", "rotated", "webp", "cmyk", "16-bit", "alpha", "palette")


@pytest.mark.parametrize(("autoencoder", "tolerance"), [("identity", JPEG), ("tiny", TINY)])
@pytest.mark.parametrize("codec", ["match", "both"])
def test_markers_in_the_corners_stay_where_they_are(
    tmp_path: Path, autoencoder: str, tolerance: float, codec: str
) -> None:
    for kind in KINDS:
        for height, width in SIZES if kind == "colour" else SIZES[1:3]:
            write(tmp_path / f"{kind}-{height}x{width}", kind, height, width)
    pairs = pairs_of(tmp_path, autoencoder=autoencoder, codec=codec)
    assert len(pairs) == len(SIZES) + 2 * (len(KINDS) - 1)
    for pair in pairs:
        check(pair, tolerance)


@pytest.mark.parametrize(("height", "width"), [(3000, 4000), (4000, 100)])
def test_markers_of_large_images_stay_where_they_are(tmp_path: Path, height: int, width: int) -> None:
    write(tmp_path / "large", "colour", height, width)
    [pair] = pairs_of(tmp_path)
    check(pair, JPEG)


def test_markers_of_a_large_image_stay_where_they_are_under_an_autoencoder(tmp_path: Path) -> None:
    write(tmp_path / "wide", "rotated", 64, 2000)
    write(tmp_path / "high", "grey", 700, 530)
    for pair in pairs_of(tmp_path, autoencoder="tiny"):
        check(pair, TINY)


def test_tiles_are_cut_where_their_corners_say(tmp_path: Path) -> None:
    side, pixels = 64, marked(150, 200)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    config = config_of(tmp_path, tile=side)
    [item] = items_of(tmp_path)
    places = [(0, 0), (0, 136), (86, 0), (86, 136), (40, 72)]
    items = [replace(item, tile=place) for place in places]
    [(_, results)] = made(maker_of(config, load(config)), [(0, items)])
    for (y, x), one in zip(places, results, strict=True):
        assert isinstance(one, Pair)
        assert (one.record["tile_y"], one.record["tile_x"]) == (y, x)
        for data in (one.real, one.fake):
            tile = decode(data, max_pixels=10**6).pixels[..., 0]
            assert np.array_equal(tile, pixels[y : y + side, x : x + side])
