"""The operations of a robustness grid: each is what Pillow, scipy or a line of numpy makes of the image."""

from collections import Counter
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from conftest import photograph
from PIL import Image
from scipy.ndimage import gaussian_filter

from recon.base.errors import RejectedImageError
from recon.image.codec import Pixels
from recon.image.drawing import RESAMPLERS
from train.draws.noise import NORMALS, noise_levels
from train.evaluation.robust.cells import Cell, Step
from train.evaluation.robust.grid import find_grid
from train.evaluation.robust.ops import OPS, Between, Seen, Value, apply, drawn

PHOTO = photograph(37, 50, 1)
KEY = Seen(key="family/0/a.png", max_pixels=1 << 20)


def done(op: str, pixels: Pixels = PHOTO, seen: Seen = KEY, **values: Value) -> Pixels:
    before = pixels.copy()
    result = apply(op, pixels, values, seen)
    np.testing.assert_array_equal(pixels, before)  # the next cell gets the same image
    assert (result.dtype, result.ndim, result.shape[2]) == (np.uint8, 3, 3)
    assert result.flags.c_contiguous
    return result


def through(codec: str, pixels: Pixels, **options: Any) -> Pixels:
    """Pillow's own way to a file and back."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, codec, **options)
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:2:2", "4:4:4"])
@pytest.mark.parametrize("quality", [1, 30, 75, 95, 100])
def test_jpeg_is_pillows(quality: int, subsampling: str) -> None:
    found = done("jpeg", quality=quality, subsampling=subsampling)
    expected = through("JPEG", PHOTO, quality=quality, subsampling=subsampling)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("quality", [0, 30, 95, 100])
def test_webp_is_pillows(quality: int) -> None:
    np.testing.assert_array_equal(done("webp", quality=quality), through("WEBP", PHOTO, quality=quality))


@pytest.mark.parametrize(("quality", "subsampling", "speed"), [(30, "4:2:0", 8), (90, "4:4:4", 10)])
def test_avif_is_pillows_on_one_thread(quality: int, subsampling: str, speed: int) -> None:
    options: dict[str, Any] = {"quality": quality, "subsampling": subsampling, "speed": speed}
    np.testing.assert_array_equal(done("avif", **options), through("AVIF", PHOTO, max_threads=1, **options))


@pytest.mark.parametrize("resampler", RESAMPLERS)
@pytest.mark.parametrize("factor", [0.25, 0.5, 1, 1.3, 2])
def test_resizing_is_pillows(factor: float, resampler: str) -> None:
    size = (int(50 * factor + 0.5), int(37 * factor + 0.5))
    expected = Image.fromarray(PHOTO).resize(size, Image.Resampling[resampler.upper()])
    np.testing.assert_array_equal(done("resize", factor=factor, resampler=resampler), np.asarray(expected))


def test_no_image_is_resized_to_nothing() -> None:
    assert done("resize", PHOTO[:1, :1].copy(), factor=0.01, resampler="box").shape == (1, 1, 3)


def test_a_square_is_pillows_whatever_the_proportions() -> None:
    expected = Image.fromarray(PHOTO).resize((64, 64), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(done("square", side=64, resampler="bicubic"), np.asarray(expected))


@pytest.mark.parametrize(("keep", "rows", "columns"), [(1, (0, 37), (0, 50)), (0.5, (9, 28), (12, 37))])
def test_a_crop_keeps_the_middle(keep: float, rows: tuple[int, int], columns: tuple[int, int]) -> None:
    np.testing.assert_array_equal(done("crop", keep=keep), PHOTO[slice(*rows), slice(*columns)])


@pytest.mark.parametrize("sigma", [0.0, 0.5, 2.0, 20.0])
def test_blur_is_scipys(sigma: float) -> None:
    planes = [gaussian_filter(PHOTO[..., c], sigma, mode="reflect", truncate=4) for c in range(3)]
    np.testing.assert_array_equal(done("blur", sigma=sigma), np.stack(planes, axis=-1))


def test_noise_is_that_of_training_clipped_and_floored() -> None:
    from train.evaluation.robust.ops import _word
    from train.order.counter import signed

    key = np.array([signed(_word(KEY.key))])
    levels = noise_levels(key, np.arange(37)[None], np.arange(50)[None])[0].transpose(1, 2, 0)
    expected = (PHOTO + np.float32(40) * NORMALS[levels]).clip(0, 255).astype(np.uint8)
    np.testing.assert_array_equal(done("noise", sigma=40.0), expected)


def test_noise_has_the_standard_deviation_that_is_stated() -> None:
    flat = np.full((200, 200, 3), 128, np.uint8)
    field = done("noise", flat, sigma=8.0).astype(float) - 128
    assert field.std() == pytest.approx(8, rel=0.01)
    assert field.mean() == pytest.approx(-0.5, abs=0.1)  # levels are floored
    assert abs(np.corrcoef(field[..., 0].ravel(), field[..., 1].ravel())[0, 1]) < 0.02


def test_what_is_drawn_depends_on_the_image_alone() -> None:
    cell = Cell(
        family="f",
        steps=[
            Step(op="noise", values={"sigma": 9.0}),
            Step(op="resize", values={"factor": Between(low=0.5, high=2), "resampler": "any"}),
        ],
    )
    forwards = cell.view(1 << 20)
    names = ["a", "b/a", "a.png", b"caf\xe9".decode("utf-8", "surrogateescape")]
    first = {name: forwards.of(PHOTO, name) for name in names}
    again = {name: cell.view(1 << 20).of(PHOTO, name) for name in reversed(names)}
    for name in names:
        np.testing.assert_array_equal(first[name], again[name])
    assert len({image.tobytes() for image in first.values()}) == len(names)


def test_the_steps_of_a_chain_draw_other_noise() -> None:
    steps = [Step(op="noise", values={"sigma": 5.0})] * 2
    flat = np.full((60, 60, 3), 128, np.uint8)
    twice = Cell(family="f", steps=steps).view(1 << 20).of(flat, "a").astype(float)
    assert twice.std() == pytest.approx(5 * 2**0.5, rel=0.05)  # the same noise twice would have 10


def test_drawn_numbers_are_uniform_and_whole_ones_take_both_ends() -> None:
    factor, quality = OPS["resize"].parameters["factor"], OPS["jpeg"].parameters["quality"]
    numbers = [drawn(Between(low=0.2, high=1), factor, f"k/{i}") for i in range(2000)]
    counts = np.histogram(np.array(numbers, float), 4, (0.2, 1))[0]
    assert counts.sum() == 2000
    assert (abs(counts - 500) < 100).all()
    whole = Counter(drawn(Between(low=30, high=33), quality, f"k/{i}") for i in range(2000))
    assert sorted(whole) == [30, 31, 32, 33]
    assert all(isinstance(one, int) for one in whole)
    assert all(abs(count - 500) < 100 for count in whole.values())


def test_any_resampler_draws_each_of_the_six() -> None:
    parameter = OPS["resize"].parameters["resampler"]
    found = Counter(drawn("any", parameter, f"k/{i}") for i in range(600))
    assert sorted(found) == sorted(RESAMPLERS)
    assert all(abs(count - 100) < 40 for count in found.values())


def test_the_views_of_dual_data_alignment_have_their_sizes() -> None:
    as_is, smaller, larger = (cell.view(1 << 24) for cell in find_grid("dda"))
    np.testing.assert_array_equal(as_is.of(PHOTO, "a"), PHOTO)
    for number in range(20):
        assert 0.19 * 50 <= smaller.of(PHOTO, str(number)).shape[1] <= 50
        assert 50 <= larger.of(PHOTO, str(number)).shape[1] <= 3.5 * 50


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1)])
def test_every_operation_takes_the_smallest_images(size: tuple[int, int]) -> None:
    pixels = photograph(*size, 0)
    values: dict[str, dict[str, Value]] = {
        "jpeg": {"quality": 50, "subsampling": "4:2:0"},
        "webp": {"quality": 50},
        "avif": {"quality": 50, "subsampling": "4:2:0", "speed": 10},
        "resize": {"factor": 2.0, "resampler": "lanczos"},
        "square": {"side": 3, "resampler": "bicubic"},
        "crop": {"keep": 0.01},
        "blur": {"sigma": 25.0},
        "noise": {"sigma": 255.0},
    }
    assert sorted(values) == sorted(OPS)
    shapes = {op: done(op, pixels, **given).shape[:2] for op, given in values.items()}
    twice, others = (2 * size[0], 2 * size[1]), set(OPS) - {"resize", "square", "crop"}
    expected = {"resize": twice, "square": (3, 3), "crop": (1, 1), **dict.fromkeys(others, size)}
    assert shapes == expected


def test_a_result_too_large_for_the_limit_or_for_its_codec_is_refused() -> None:
    small = Seen(key="k", max_pixels=PHOTO.shape[0] * PHOTO.shape[1])
    assert done("resize", seen=small, factor=1, resampler="box").shape == PHOTO.shape
    with pytest.raises(RejectedImageError, match="100x74 exceeds max_pixels=1850; raise --max_pixels"):
        done("resize", seen=small, factor=2, resampler="box")
    with pytest.raises(RejectedImageError, match="99x99 exceeds max_pixels=1850"):
        done("square", seen=small, side=99, resampler="box")
    with pytest.raises(RejectedImageError, match=r"17000x1 can't be compressed as webp: .*limit of 16383"):
        done("webp", np.zeros((1, 17000, 3), np.uint8), quality=50)
