"""`jpeg_phase` finds the grid of an earlier JPEG wherever it lies, and none where there was no JPEG."""

from io import BytesIO

import numpy as np
import pytest
from audit_data import as_jpeg, photograph, unpacked
from PIL import Image

from recon.image.codec import Pixels
from recon.image.drawing import resize
from recon.image.jpeg_grid import LEAST_SIDE, jpeg_phase


def cut(pixels: Pixels, phase: int, side: int) -> Pixels:
    """A part of an image whose 8x8 grid then lies at this phase."""
    row, column = divmod(phase, 8)
    return pixels[-row % 8 : -row % 8 + side, -column % 8 : -column % 8 + side]


@pytest.mark.parametrize("quality", [50, 75, 90, 95])
def test_grid_is_found_at_every_phase(quality: int) -> None:
    photo = unpacked(as_jpeg(photograph(quality, 136), quality))
    assert [jpeg_phase(cut(photo, phase, 128)) for phase in range(64)] == list(range(64))


@pytest.mark.parametrize("quality", [50, 75, 90, 95])
def test_grid_is_found_in_the_smallest_images(quality: int) -> None:
    """24 photographs: at most one is missed, none is placed wrongly."""
    photos = [unpacked(as_jpeg(photograph(seed, 80), quality)) for seed in range(24)]
    found = [jpeg_phase(cut(photo, 29, LEAST_SIDE)) for photo in photos]
    assert set(found) <= {29, -1}
    assert found.count(29) >= 23


def test_photographs_that_never_were_jpeg_have_no_grid() -> None:
    """300 images of three sizes."""
    found = [jpeg_phase(photograph(seed, side)) for seed in range(100) for side in (64, 96, 192)]
    assert set(found) == {-1}


def test_scaling_removes_the_grid() -> None:
    photos = [unpacked(as_jpeg(photograph(seed, 256))) for seed in range(20)]
    found = {jpeg_phase(resize(photo, side, side)) for photo in photos for side in (128, 200, 320)}
    assert found == {-1}


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_colour_coding_does_not_matter(subsampling: str) -> None:
    out = BytesIO()
    Image.fromarray(photograph(1, 160)).save(out, "JPEG", quality=85, subsampling=subsampling)
    assert jpeg_phase(cut(unpacked(out.getvalue()), 43, 150)) == 43


def test_grey_images_are_read_as_their_luma() -> None:
    grey = np.asarray(Image.fromarray(photograph(2, 160)).convert("L"))
    decoded = unpacked(as_jpeg(grey))
    assert decoded.shape == (160, 160, 1)
    assert jpeg_phase(cut(decoded, 12, 150)) == 12
    assert jpeg_phase(np.repeat(decoded, 3, axis=2)) == 0
    assert jpeg_phase(grey[..., None]) == -1


def test_large_images_are_looked_at_in_their_middle() -> None:
    photo = unpacked(as_jpeg(photograph(3, 700)))[3:, 6:]
    assert jpeg_phase(photo) == jpeg_phase(photo[:-40, :-90]) == 5 * 8 + 2


@pytest.mark.parametrize("shape", [(1, 1, 3), (63, 500, 3), (500, 63, 1), (7, 7, 1)])
def test_images_that_are_too_small_have_no_answer(shape: tuple[int, int, int]) -> None:
    assert jpeg_phase(np.zeros(shape, np.uint8)) == -1


@pytest.mark.parametrize("level", [0, 128, 255])
def test_flat_images_have_no_grid(level: int) -> None:
    assert jpeg_phase(np.full((96, 200, 3), level, np.uint8)) == -1


def test_extremes_do_not_overflow() -> None:
    """Black and white in the pattern that makes a coefficient largest, against exact arithmetic."""
    from recon.image.dct import HALF
    from recon.image.jpeg_grid import _luma, _wave

    signs = np.sign([*HALF[2], *HALF[2][::-1]])
    pixels = np.where(np.outer(signs, signs)[..., None] > 0, 255, 0).astype(np.uint8)
    luma = _luma(pixels)
    first = (_wave(luma, 2) + 4096) >> 13
    exact = np.array([*HALF[2], *HALF[2][::-1]], object)
    assert first[0].tolist() == [(int(exact @ luma[:, x]) + 4096) >> 13 for x in range(8)]
    assert int(_wave(first.T, 2)[0, 0]) == int(exact @ first[0].astype(object))
