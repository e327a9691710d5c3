"""The degradations: each is what Pillow, scipy or a line of numpy makes of the image."""

from collections import Counter
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from conftest import photograph
from PIL import Image
from scipy.ndimage import gaussian_filter
from torchvision.transforms import functional as tv

from recon.base.errors import RejectedImageError
from recon.image.codec import Pixels
from recon.image.drawing import RESAMPLERS
from train.chains.declared import OPS
from train.chains.parameters import Between, Value
from train.chains.parse import Step
from train.degrade.ops import RUN, Seen, apply, apply_to_mask
from train.draws.noise import NORMALS, noise_levels
from train.evaluation.robust.cells import Cell, drawn_by_name
from train.evaluation.robust.grid import find_grid

PHOTO = photograph(37, 50, 1)
KEY = Seen(noise_key=-(2**40) - 7, max_pixels=1 << 20)


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


@pytest.mark.parametrize("size", [(37, 50), (50, 37), (20, 20), (3, 50)])
def test_a_thumbnail_fits_larger_images_into_a_square(size: tuple[int, int]) -> None:
    photo = photograph(*size, 2)
    image = Image.fromarray(photo)
    image.thumbnail((30, 30), Image.Resampling.LANCZOS, reducing_gap=None)
    np.testing.assert_array_equal(done("thumbnail", photo, side=30, resampler="lanczos"), np.asarray(image))


@pytest.mark.parametrize(("display", "sides"), [(1.25, (63, 46)), (1.5, (75, 56)), (2, (100, 74))])
def test_a_screenshot_is_enlarged_as_pillow_does_it(display: float, sides: tuple[int, int]) -> None:
    expected = Image.fromarray(PHOTO).resize(sides, Image.Resampling.BILINEAR)
    found = done("screenshot", display=display, resampler="bilinear")
    np.testing.assert_array_equal(found, np.asarray(expected))


@pytest.mark.parametrize("sigma", [0.4, 1.0, 3.4])
def test_a_highpass_is_the_references_rounded_to_levels(sigma: float) -> None:
    image = torch.from_numpy(PHOTO).movedim(-1, 0).double() / 255
    taps = int(7 * sigma)
    low = tv.gaussian_blur(image, taps + (taps + 1) % 2, sigma)
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    expected = ((image - low + mean).clamp(0, 1) * 255).movedim(0, -1).numpy()
    assert np.abs(done("highpass", sigma=sigma) - expected).max() < 0.5 + 1e-3


def test_a_mask_goes_through_what_moves_pixels_and_keeps_its_two_levels() -> None:
    mask = np.zeros((37, 50, 3), np.uint8)
    mask[10:20, 30:45] = 255
    moved = {"resize": {"factor": 0.7}, "square": {"side": 40}, "thumbnail": {"side": 33}}
    moved |= {"screenshot": {"display": 1.5}}
    for op, values in moved.items():
        found = apply_to_mask(op, mask, {**values, "resampler": "lanczos"}, KEY)
        assert found.shape == apply(op, PHOTO, {**values, "resampler": "lanczos"}, KEY).shape
        assert np.unique(found).tolist() == [0, 255]
    np.testing.assert_array_equal(apply_to_mask("crop", mask, {"keep": 0.5}, KEY), mask[9:28, 12:37])
    for op in set(OPS) - {*moved, "crop"}:
        assert apply_to_mask(op, mask, {}, KEY) is mask


@pytest.mark.parametrize(("keep", "rows", "columns"), [(1, (0, 37), (0, 50)), (0.5, (9, 28), (12, 37))])
def test_a_crop_keeps_the_middle(keep: float, rows: tuple[int, int], columns: tuple[int, int]) -> None:
    np.testing.assert_array_equal(done("crop", keep=keep), PHOTO[slice(*rows), slice(*columns)])


@pytest.mark.parametrize("sigma", [0.0, 0.5, 2.0, 20.0])
def test_blur_is_scipys(sigma: float) -> None:
    planes = [gaussian_filter(PHOTO[..., c], sigma, mode="reflect", truncate=4) for c in range(3)]
    np.testing.assert_array_equal(done("blur", sigma=sigma), np.stack(planes, axis=-1))


def test_noise_is_that_of_training_clipped_and_floored() -> None:
    key = np.array([KEY.noise_key])
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
    numbers = [drawn_by_name(Between(low=0.2, high=1), factor, f"k/{i}") for i in range(2000)]
    counts = np.histogram(np.array(numbers, float), 4, (0.2, 1))[0]
    assert counts.sum() == 2000
    assert (abs(counts - 500) < 100).all()
    whole = Counter(drawn_by_name(Between(low=30, high=33), quality, f"k/{i}") for i in range(2000))
    assert sorted(whole) == [30, 31, 32, 33]
    assert all(isinstance(one, int) for one in whole)
    assert all(abs(count - 500) < 100 for count in whole.values())


def test_any_resampler_draws_each_of_the_six() -> None:
    parameter = OPS["resize"].parameters["resampler"]
    found = Counter(drawn_by_name("any", parameter, f"k/{i}") for i in range(600))
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
        "thumbnail": {"side": 4, "resampler": "hamming"},
        "screenshot": {"display": 2, "resampler": "bilinear"},
        "crop": {"keep": 0.01},
        "highpass": {"sigma": 3.0},
        "blur": {"sigma": 25.0},
        "noise": {"sigma": 255.0},
    }
    assert sorted(values) == sorted(OPS) == sorted(RUN)
    shapes = {op: done(op, pixels, **given).shape[:2] for op, given in values.items()}
    twice, small = (2 * size[0], 2 * size[1]), tuple(min(4, side) for side in size)
    moved = {"resize": twice, "screenshot": twice, "square": (3, 3), "crop": (1, 1), "thumbnail": small}
    expected = dict.fromkeys(OPS, size) | moved
    assert shapes == expected


def test_a_result_too_large_for_the_limit_or_for_its_codec_is_refused() -> None:
    small = Seen(noise_key=5, max_pixels=PHOTO.shape[0] * PHOTO.shape[1])
    assert done("resize", seen=small, factor=1, resampler="box").shape == PHOTO.shape
    with pytest.raises(RejectedImageError, match="100x74 exceeds max_pixels=1850; raise --max_pixels"):
        done("resize", seen=small, factor=2, resampler="box")
    with pytest.raises(RejectedImageError, match="99x99 exceeds max_pixels=1850"):
        done("square", seen=small, side=99, resampler="box")
    with pytest.raises(RejectedImageError, match=r"17000x1 can't be compressed as webp: .*limit of 16383"):
        done("webp", np.zeros((1, 17000, 3), np.uint8), quality=50)
