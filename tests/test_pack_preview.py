"""The contact sheet: pictures fill their cells, and a scale, keys, groups and masks say what is seen."""

from pathlib import Path

import numpy as np
import pytest
from conftest import photograph, save
from pack_runs import config

from pack.dataset.dataset import open_dataset
from pack.inspect import preview
from pack.publish.packing import pack
from recon.image.codec import Pixels
from recon.image.drawing import enlarge, text_strip

SIDE, SIZE = 96, (32, 48)
CELL = SIDE + 2 * preview.GAP
ROW = 64 + 2 * preview.GAP + 2 * preview.LINE


@pytest.fixture(scope="module")
def real() -> Pixels:
    return photograph(*SIZE, 1)


@pytest.fixture(scope="module")
def inpainted(real: Pixels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One photograph of 48x32; its fake is 3 levels brighter in a corner, which the mask marks."""
    root = tmp_path_factory.mktemp("preview")
    save(root / "photos/faces/a.png", real.clip(0, 250))
    fake, mask = real.clip(0, 250), np.zeros(SIZE, np.uint8)
    fake[:8, :12] += 3
    mask[:8, :12] = 255
    save(root / "fakes/faces/a.png", fake)
    save(root / "fakes/faces/a.mask.png", mask)
    made = {"reconstructions": str(root / "fakes"), "codec": "lossless-png"}
    pack(config(root / "photos", root / "packed", **made))
    return root / "packed"


@pytest.fixture(scope="module")
def sheet(inpainted: Path) -> Pixels:
    return preview.contact_sheet(open_dataset(str(inpainted)), count=1, gain=8, side=SIDE)


def picture(sheet: Pixels, column: int) -> Pixels:
    top, left = preview.TITLE + preview.GAP, column * CELL + preview.GAP
    return sheet[top : top + 64, left : left + SIDE]


def below(sheet: Pixels, column: int, line: int) -> Pixels:
    top = preview.TITLE + 64 + 2 * preview.GAP + line * preview.LINE
    return sheet[top : top + preview.LINE, column * CELL : (column + 1) * CELL]


def test_a_small_picture_is_enlarged_to_its_cell_pixel_by_pixel(sheet: Pixels, real: Pixels) -> None:
    assert sheet.shape == (preview.TITLE + ROW + preview.SCALE, 4 * CELL, 3)
    assert np.array_equal(picture(sheet, 0), real.clip(0, 250).repeat(2, axis=0).repeat(2, axis=1))


def test_the_difference_is_amplified_about_grey(sheet: Pixels) -> None:
    shown = picture(sheet, 2)
    assert (shown[:16, :24] == 128 + 3 * 8).all()
    assert (shown[16:] == 128).all()
    assert (shown[:, 24:] == 128).all()


def test_a_mask_comes_last_and_its_share_stands_below(sheet: Pixels) -> None:
    shown = picture(sheet, 3)
    assert (shown[:16, :24] == 255).all()
    assert shown.astype(int).sum() == 16 * 24 * 3 * 255
    assert np.array_equal(below(sheet, 3, 0), text_strip("6.2% changed", CELL, preview.LINE))


def test_key_group_and_size_of_the_difference_stand_below(inpainted: Path, sheet: Pixels) -> None:
    [key] = open_dataset(str(inpainted)).table(0, ["key"])["key"].to_pylist()
    faint = "#606060"
    assert np.array_equal(below(sheet, 0, 0), text_strip(key, CELL, preview.LINE))
    assert np.array_equal(below(sheet, 0, 1), text_strip("faces", CELL, preview.LINE, faint))
    assert np.array_equal(below(sheet, 1, 0), text_strip("given", CELL, preview.LINE))
    assert np.array_equal(below(sheet, 2, 0), text_strip("mean 0.19 levels", CELL, preview.LINE))
    assert np.array_equal(below(sheet, 2, 1), text_strip("largest 3", CELL, preview.LINE, faint))


@pytest.mark.parametrize("gain", [1, 8, 300])
def test_the_scale_shows_all_greys_and_its_text_the_levels(inpainted: Path, gain: int) -> None:
    sheet = preview.contact_sheet(open_dataset(str(inpainted)), count=1, gain=gain, side=SIDE)
    bar = sheet[-preview.SCALE + preview.GAP, preview.GAP : preview.GAP + 256, 0]
    assert np.array_equal(bar, np.arange(256))
    least, most = {1: ("128", "127"), 8: ("16", "15.9"), 300: ("0.427", "0.423")}[gain]
    text = f"difference in levels of 255: black -{least} or less, grey 0, white {most} or more"
    assert np.array_equal(sheet[-preview.LINE :], text_strip(text, 4 * CELL, preview.LINE, "#606060"))


def test_a_text_that_is_too_long_ends_in_dots_and_stays_in_its_cell() -> None:
    long = text_strip("m" * 60, 60, 18)
    assert long.shape == (18, 60, 3)
    whole = [text_strip("m" * count + "...", 400, 18)[:, :60] for count in range(1, 9)]
    assert sum(np.array_equal(one, long) for one in whole) == 1
    assert (long[:, -4:] == 255).all()
    assert (text_strip("wide", 6, 18) == 255).all()


@pytest.mark.parametrize("size", [(3, 5), (7, 7), (10, 4)])
def test_enlarging_repeats_every_pixel_in_order(size: tuple[int, int]) -> None:
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.uint8)
    large = enlarge(np.stack([rows, columns, rows], axis=2), 17, 11)
    assert np.array_equal(np.unique(large[..., 0]), np.arange(size[0]))
    assert np.array_equal(np.unique(large[..., 1]), np.arange(size[1]))
    assert (np.diff(large[..., 0].astype(int), axis=0) >= 0).all()
