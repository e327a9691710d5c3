"""The jitter equals Pillow's 8-bit steps: on all colours, in any order, by numpy and torch, in any batch."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from torchvision.transforms import functional as tv

from recon.image.codec import Pixels
from train.draws.config import AugmentConfig
from train.draws.parameters import PhotometricDraws, draw_photometric
from train.ops import jitter as ours
from train.ops import jitter_tables
from train.ops.jitter import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    blend,
    grey,
    grey_means,
    jitter,
    jitter_batch,
)

FACTORS = st.one_of(
    st.sampled_from([0.0, 2.0**-30, 0.6, 1 - 2.0**-25, 1.0, 1 + 2.0**-23, 1.4, 2.0, 255.0]), st.floats(0, 3)
)
HUES = st.one_of(st.sampled_from([-0.5, -0.1, -1 / 255, 0.0, 1 / 255, 0.1, 0.5]), st.floats(-0.5, 0.5))
LIBRARIES: dict[str, Callable[[NDArray[Any]], Any]] = {"numpy": np.array, "torch": torch.tensor}
libraries = pytest.mark.parametrize("library", LIBRARIES)
SIDES = st.integers(1, 40)


def picture(height: int, width: int, seed: int = 0) -> Pixels:
    """Noise, with flat, grey, black and white parts."""
    rng = np.random.default_rng([height, width, seed])
    pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
    pixels[rng.random((height, width)) < 0.2] = rng.choice([0, 1, 127, 254, 255])
    return pixels


def all_colours() -> Any:
    """256 images (256, 256, 3): every colour once."""
    green, blue = np.mgrid[0:256, 0:256].astype(np.uint8)
    return (np.stack([np.full_like(green, red), green, blue], axis=-1) for red in range(256))


def levels(pixels: Pixels, library: str = "numpy") -> Any:
    """float32 (3, H, W)."""
    return LIBRARIES[library](np.ascontiguousarray(np.moveaxis(pixels, -1, 0)).astype(np.float32))


def pixels_of(x: Any) -> Pixels:
    """uint8 (H, W, 3) of float32 levels, which must be whole."""
    found = np.moveaxis(np.asarray(x), -3, -1)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, found.astype(np.uint8))
    return found.astype(np.uint8)


def pillow_hue(pixels: Pixels, hue: float) -> Pixels:
    """`adjust_hue` of torchvision's _functional_pil, without its limit on hue."""
    hues, saturation, value = Image.fromarray(pixels).convert("HSV").split()
    turned = np.asarray(hues) + np.int32(hue * 255).astype(np.uint8)
    return np.asarray(Image.merge("HSV", (Image.fromarray(turned), saturation, value)).convert("RGB"))


def pillow_jitter(pixels: Pixels, order: list[int], factors: tuple[float, float, float, float]) -> Pixels:
    image = Image.fromarray(pixels)
    ops = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for number in order:
        if number == 3:
            image = tv.adjust_hue(image, factors[3])
        else:
            image = ops[number](image).enhance(factors[number])
    return np.asarray(image)


@libraries
def test_the_hue_of_every_colour_turns_as_pillow_turns_it(library: str) -> None:
    for pixels in all_colours():
        found = adjust_hue(levels(pixels, library), -0.0733)
        assert np.array_equal(pixels_of(found), pillow_hue(pixels, -0.0733))


def test_every_colour_has_pillows_hue() -> None:
    table = jitter_tables._table("hue", None)
    for pixels in all_colours():
        place = ours._hue_place(*levels(pixels)).astype(np.int64)
        assert np.array_equal(table[place], np.asarray(Image.fromarray(pixels).convert("HSV"))[..., 0])


def test_every_turn_of_every_value_and_saturation_is_pillows() -> None:
    # Red, of hue 0, in each value and saturation: with the hues above, all that hue turning can meet.
    value, difference = np.mgrid[0:256, 0:256]
    other = np.maximum(value - difference, 0)
    pixels = np.stack([value, other, other], axis=-1).astype(np.uint8)
    for turn in range(256):
        hue = (turn + 0.5) / 255
        assert np.array_equal(pixels_of(adjust_hue(levels(pixels, "torch"), hue)), pillow_hue(pixels, hue))


@libraries
def test_the_grey_of_every_colour_is_pillows(library: str) -> None:
    for pixels in all_colours():
        found = np.asarray(grey(levels(pixels, library)))[0]
        assert np.array_equal(found, np.asarray(Image.fromarray(pixels).convert("L")))


@pytest.mark.parametrize("factor", [0.6, 1.4])
def test_the_saturation_of_every_colour_is_pillows(factor: float) -> None:
    for pixels in all_colours():
        found = pixels_of(adjust_saturation(levels(pixels, "torch"), factor))
        assert np.array_equal(found, np.asarray(ImageEnhance.Color(Image.fromarray(pixels)).enhance(factor)))


@libraries
@given(factor=FACTORS)
@settings(max_examples=100, deadline=None)
def test_blending_any_two_levels_equals_pillow(library: str, factor: float) -> None:
    low, high = np.mgrid[0:256, 0:256].astype(np.uint8)
    wanted = np.asarray(Image.blend(Image.fromarray(low), Image.fromarray(high), factor))
    a, b = (LIBRARIES[library](one.astype(np.float32)) for one in (low, high))
    assert np.array_equal(np.asarray(blend(a, b, factor)), wanted)


@libraries
@given(SIDES, SIDES, FACTORS, FACTORS, FACTORS, HUES, st.integers(0, 255))
@settings(max_examples=100, deadline=None)
def test_each_op_equals_pillow(
    library: str,
    height: int,
    width: int,
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float,
    mean: int,
) -> None:
    pixels = picture(height, width)
    image, x = Image.fromarray(pixels), levels(pixels, library)
    flat = Image.new("RGB", image.size, (mean, mean, mean))
    wanted = {
        "brightness": ImageEnhance.Brightness(image).enhance(brightness),
        "contrast": Image.blend(flat, image, contrast),
        "saturation": ImageEnhance.Color(image).enhance(saturation),
        "hue": tv.adjust_hue(image, hue),
    }
    found = {
        "brightness": adjust_brightness(x, brightness),
        "contrast": adjust_contrast(x, contrast, mean),
        "saturation": adjust_saturation(x, saturation),
        "hue": adjust_hue(x, hue),
    }
    for name, one in wanted.items():
        np.testing.assert_array_equal(pixels_of(found[name]), np.asarray(one), err_msg=name)
    assert np.array_equal(pixels_of(x), pixels), "an argument was changed"


@libraries
@given(SIDES, SIDES, st.permutations(range(4)), FACTORS, FACTORS, FACTORS, HUES)
@settings(max_examples=100, deadline=None)
def test_the_jitter_equals_pillows_in_any_order(
    library: str,
    height: int,
    width: int,
    order: list[int],
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float,
) -> None:
    pixels, factors = picture(height, width), (brightness, contrast, saturation, hue)
    (mean,) = grey_means(np.moveaxis(pixels, -1, 0)[None], [np.ones(pixels.size // 3)], order, *factors)
    found = jitter(levels(pixels, library), order, *factors, mean=mean)
    np.testing.assert_array_equal(pixels_of(found), pillow_jitter(pixels, order, factors))


@libraries
def test_one_number_for_each_image_does_what_a_number_does(library: str) -> None:
    images = [picture(9, 13, seed) for seed in range(5)]
    x = np.stack([levels(one) for one in images])
    factors, means = np.linspace(0.5, 1.5, 5), np.arange(5) * 60
    hues = np.linspace(-0.5, 0.5, 5)
    factor, mean, hue = (LIBRARIES[library](one.reshape(5, 1, 1, 1)) for one in (factors, means, hues))
    amounts = {"brightness": factor, "contrast": factor, "saturation": factor, "hue": hue}
    found = np.asarray(jitter(LIBRARIES[library](x), [3, 1, 0, 2], **amounts, mean=mean))
    for row, one in enumerate(x):
        f = factors[row]  # a numpy scalar must not draw the arithmetic into float64
        alone = jitter(LIBRARIES[library](one), [3, 1, 0, 2], f, f, f, hues[row], mean=means[row])
        assert np.array_equal(found[row], np.asarray(alone))


def test_any_layout_in_memory_gives_the_same() -> None:
    pixels = picture(20, 30)
    strided = torch.from_numpy(pixels).movedim(-1, 0).float()
    found = jitter(strided, range(4), 1.2, 0.8, 1.3, 0.05, mean=90)
    wanted = jitter(levels(pixels, "torch"), range(4), 1.2, 0.8, 1.3, 0.05, mean=90)
    assert not strided.is_contiguous()
    assert torch.equal(found, wanted)


def drawn(count: int, **options: Any) -> PhotometricDraws:
    return draw_photometric(AugmentConfig(**options), 3, 1, np.arange(count, dtype=np.int64))


def batch(count: int) -> tuple[torch.Tensor, NDArray[np.int64]]:
    rng = np.random.default_rng(count)
    x = torch.from_numpy(rng.integers(0, 256, (count, 2, 3, 11, 17), np.uint8))
    return x, rng.integers(0, 256, (count, 2))


def part_of(draws: PhotometricDraws, rows: Any) -> PhotometricDraws:
    return replace(draws, **{name: one[rows] for name, one in vars(draws).items()})


def test_a_batch_is_jittered_as_its_images_are() -> None:
    (x, means), draws = batch(30), drawn(30, jitter_p=0.7)
    before, found = x.clone(), jitter_batch(x, draws, means)
    assert found.dtype == torch.uint8
    assert 5 < draws.jitter.sum() < 30
    for row in range(30):
        names = ("brightness", "contrast", "saturation", "hue")
        amounts = [float(getattr(draws, name)[row]) for name in names]
        for image in range(2):
            wanted = x[row, image]
            if draws.jitter[row]:
                mean = int(means[row, image])
                wanted = jitter(wanted.float(), draws.order[row].tolist(), *amounts, mean=mean).byte()
            assert torch.equal(found[row, image], wanted)
    assert torch.equal(x, before)


def test_many_pairs_at_once_come_out_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    (x, means), draws = batch(40), drawn(40)
    one_by_one = jitter_batch(x, draws, means)
    monkeypatch.setattr(ours, "_by_image", ours._by_op)
    assert torch.equal(jitter_batch(x, draws, means), one_by_one)
    assert torch.equal(jitter_batch(x[:1], part_of(draws, [0]), means[:1]), one_by_one[:1])


@given(st.permutations(range(12)), st.integers(1, 12))
@settings(max_examples=20, deadline=None)
def test_a_pair_does_not_depend_on_its_batch(order: list[int], count: int) -> None:
    (x, means), draws, rows = batch(12), drawn(12), order[:count]
    found = jitter_batch(x[rows], part_of(draws, rows), means[rows])
    assert torch.equal(found, jitter_batch(x, draws, means)[rows])


def test_draws_may_be_tensors() -> None:
    (x, means), draws = batch(6), drawn(6)
    tensors = replace(draws, **{name: torch.from_numpy(np.array(one)) for name, one in vars(draws).items()})
    assert torch.equal(jitter_batch(x, tensors, torch.from_numpy(means)), jitter_batch(x, draws, means))


def test_a_batch_may_have_no_pair_to_jitter() -> None:
    (x, means), draws = batch(4), drawn(4, jitter_p=0.0)
    assert torch.equal(jitter_batch(x, draws, means), x)
    assert len(jitter_batch(x[:0], part_of(draws, []), means[:0])) == 0


def test_equal_images_of_a_pair_stay_equal() -> None:
    (x, means), draws = batch(20), drawn(20, jitter_p=1.0)
    x[:, 1], means[:, 1] = x[:, 0], means[:, 0]
    found = jitter_batch(x, draws, means)
    assert torch.equal(found[:, 0], found[:, 1])


def test_it_imports_neither_torch_nor_numba() -> None:
    code = (
        "import sys, numpy as np; from train.ops.jitter import grey_means; "
        "grey_means(np.zeros((1, 3, 4, 4), np.uint8), [np.ones(16)], [3, 2, 0, 1], 1.1, 1.1, 1.1, .1); "
        "sys.exit(bool({'torch', 'numba'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
