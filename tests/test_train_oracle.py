"""The window pipeline gives the whole-image pipeline's pixels to the bit: each op, their chain, any batch."""

import time
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from conftest import photograph
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import functional as tv

from recon.base.errors import UserError
from recon.image.codec import Pixels
from recon.image.colours import palette
from train.augment import oracle as whole
from train.augment.oracle import OPS, oracle, stages
from train.augment.pipeline import PairAugment
from train.draws.config import PROBABILITIES, AugmentConfig
from train.draws.parameters import JITTER
from train.window.cutter import WindowCutter
from train.window.masked_batch import Views, collate

Case = tuple[Pixels, Pixels, int]  # real, fake, pair id

NOTHING: dict[str, Any] = dict.fromkeys(PROBABILITIES, 0.0) | {"rotate": False}
ALONE: dict[str, dict[str, Any]] = {
    "crop": {},
    "resized_crop": {"resized_crop_p": 1.0},
    "jitter": {"jitter_p": 1.0},
    "grey": {"grey_p": 1.0},
    "cutout": {"cutout_p": 1.0},
    "noise": {"noise_p": 1.0},
    "blur": {"blur_p": 1.0},
    "jpeg": {"jpeg_p": 1.0},
    "rotation": {"rotate": True},
    "flip": {"flip_p": 1.0},
}
BEGINNINGS = ["jitter", "grey", "cutout", "noise", "blur", "jpeg", "rotation", "flip"]
"""Of the published order, after the resized crop."""

SIZES = [(30, 40), (95, 97), (96, 96), (137, 210), (375, 500), (600, 500)]  # heights and widths


def config(**options: Any) -> AugmentConfig:
    return AugmentConfig(**NOTHING | options)


def case(number: int, height: int, width: int) -> Case:
    """A photograph, another that differs by some levels as a reconstruction does, and a pair id."""
    real = photograph(height, width, number)
    error = np.random.default_rng(number).integers(-9, 10, real.shape)
    return real, (real + error).clip(0, 255).astype(np.uint8), number * 7919 - 2**62


def random_cases(count: int, first: int, height: tuple[int, int], width: tuple[int, int]) -> Iterator[Case]:
    rng = np.random.default_rng(first)
    for number in range(first, first + count):
        h, w = (int(np.exp(rng.uniform(*np.log((low, high + 1))))) for low, high in (height, width))
        yield case(number, h, w)


def cuts_of(augment: AugmentConfig, cases: Sequence[Case]) -> list[Views]:
    cutter = WindowCutter(augment, side=augment.crop, seed=3, epoch=1)
    samples = [
        {"__key__": str(pair_id), "__url__": "u", "__pair_id__": pair_id, "__copy__": 0}
        | {"real.bmp": bmp(real), "fake.bmp": bmp(fake)}
        for real, fake, pair_id in cases
    ]
    return [cut for cut in map(cutter, cutter.drawn(samples)) if isinstance(cut, tuple)]


def bmp(pixels: Pixels) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "BMP")
    return file.getvalue()


def augmented(augment: AugmentConfig, cuts: Sequence[Views]) -> Pixels:
    """(B, 2, crop, crop, 3) by the window pipeline, as one batch."""
    side = augment.window_side
    batch = collate(cuts, np.empty((len(cuts), 2, side, side, 3), np.uint8))
    windows = torch.from_numpy(batch.windows_BPHWC)
    images = PairAugment(augment, 3)(1, windows, batch.ids_B, batch.frames_B, batch.grey_BP)
    return images.movedim(2, -1).numpy()


def expected(augment: AugmentConfig, cases: Sequence[Case]) -> Pixels:
    return np.stack([oracle(real, fake, augment, 3, 1, pair_id) for real, fake, pair_id in cases])


def assert_equal(augment: AugmentConfig, cases: Sequence[Case]) -> None:
    found = augmented(augment, cuts_of(augment, cases))
    for one, other, (real, _, pair_id) in zip(found, expected(augment, cases), cases, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=f"{real.shape}, pair {pair_id}")


@pytest.mark.parametrize("op", ALONE)
def test_each_op_alone_equals_the_oracle(op: str) -> None:
    assert_equal(config(**ALONE[op]), [case(number, *size) for number, size in enumerate(SIZES)])


@pytest.mark.parametrize("last", BEGINNINGS)
def test_each_beginning_of_the_recipe_equals_the_oracle(last: str) -> None:
    ops = BEGINNINGS[: BEGINNINGS.index(last) + 1]
    options = {name: value for op in ops for name, value in ALONE[op].items()}
    if last not in ("grey", "flip"):
        options["grey_p"] = 0.5
    cases = list(random_cases(5, 100 * len(ops), (40, 500), (30, 600)))
    assert_equal(config(resized_crop_p=0.3, **options), cases)


def test_the_recipe_equals_the_oracle() -> None:
    assert_equal(AugmentConfig(), list(random_cases(40, 1000, (30, 500), (40, 600))))


@pytest.mark.parametrize(
    "options",
    [
        {"crop": 33, "blur_sigma": (2.0, 5.0)},
        {"crop": 128, "jpeg_quality": (1, 100), "hue": 0.5, "cutout_side": 7, "cutout_fill": 0},
        {"crop": 96, "blur_sigma": (0.0, 0.0), "brightness": 2.0, "contrast": 3.0, "saturation": 9.0},
        {"crop": 1, "noise_variance": (4000.0, 9000.0)},
        {"crop": 256, "blur_p": 1.0},
        {"random_crop": False, "resized_crop_p": 0.5, "resized_crop_resampler": "lanczos"},
        {"random_crop": False, "resized_crop_p": 0.0},
        {"resized_crop_p": 1.0, "resized_crop_ratio": 0.3, "resized_crop_side": (96, 200)},
    ],
)
def test_other_recipes_equal_the_oracle(options: dict[str, Any]) -> None:
    assert_equal(AugmentConfig(**options), list(random_cases(8, 2000, (20, 300), (20, 300))))


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (3, 5), (16, 400), (17, 17), (48, 47), (31, 96)])
def test_images_smaller_than_crop_and_halo_equal_the_oracle(size: tuple[int, int]) -> None:
    augment = AugmentConfig(resized_crop_p=0.0, cutout_p=0.7, noise_p=0.7, blur_p=0.7, jpeg_p=0.7)
    assert_equal(augment, [case(number, *size) for number in range(6)])


@pytest.mark.soak
@pytest.mark.parametrize("part", range(10))
def test_recipe_and_ops_of_500_photographs_equal_the_oracle(part: int) -> None:
    cases = list(random_cases(50, 10_000 + 50 * part, (30, 2000), (40, 3000)))
    assert_equal(AugmentConfig(), cases[:30])
    assert_equal(config(**ALONE[list(ALONE)[part]]), cases[30:])


RECIPE = AugmentConfig()
CASES = [case(number, *SIZES[number % 5]) for number in range(13)]


@pytest.fixture(scope="module")
def cuts() -> list[Views]:
    return cuts_of(RECIPE, CASES)


@pytest.fixture(scope="module")
def together(cuts: list[Views]) -> Pixels:
    return augmented(RECIPE, cuts)


@given(places=st.lists(st.integers(0, len(CASES) - 1), min_size=1, max_size=9))
@settings(max_examples=40, deadline=None)
def test_a_pair_comes_out_the_same_in_any_batch_and_place(
    cuts: list[Views], together: Pixels, places: list[int]
) -> None:
    found = augmented(RECIPE, [cuts[place] for place in places])
    np.testing.assert_array_equal(found, together[places])


def test_pairs_go_through_the_ops_together_as_they_do_apart(
    cuts: list[Views], together: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PairAugment, "_apart", PairAugment._together)  # as on a GPU
    np.testing.assert_array_equal(augmented(RECIPE, cuts), together)


def test_equal_pixels_of_real_and_fake_come_out_equal() -> None:
    cases = [(real, real, pair_id) for real, _, pair_id in CASES]
    found = augmented(RECIPE, cuts_of(RECIPE, cases))
    np.testing.assert_array_equal(found[:, 0], found[:, 1])


def test_they_do_with_the_ops_beyond_the_paper_too() -> None:
    often = dict.fromkeys(PROBABILITIES, 0.6) | {"mix_fake": (0.2, 0.9)}
    recipe = AugmentConfig(**often)  # type: ignore[arg-type]
    cases = [(real, real, pair) for real, _, pair in random_cases(60, 3000, (90, 300), (90, 300))]
    found = augmented(recipe, cuts_of(recipe, cases))
    np.testing.assert_array_equal(found[:, 0], found[:, 1])


def test_the_oracle_goes_through_the_published_order() -> None:
    names = [name for name, _ in stages(*CASES[0][:2], RECIPE, 0, 0, 5)]
    published = ["resized_crop", *BEGINNINGS, "crop"]
    assert names == published == list(OPS)


def test_the_oracle_augments_each_epoch_seed_copy_and_pair_in_its_own_way() -> None:
    real, fake, _ = CASES[4]
    ways = [(0, 0, 1, 0), (1, 0, 1, 0), (0, 1, 1, 0), (0, 0, 2, 0), (0, 0, 1, 1)]
    outcomes = {
        oracle(real, fake, RECIPE, seed, epoch, pair, copy).tobytes() for seed, epoch, pair, copy in ways
    }
    assert len(outcomes) == len(ways)


def _after(op: str, options: dict[str, Any], pixels: Pixels, pair_id: int) -> tuple[Pixels, whole.Drawn]:
    """An image after one op of the oracle, and what was drawn."""
    drawn = whole.draw(config(**options), 0, 0, pair_id)
    return OPS[op]([pixels, pixels], drawn)[0], drawn


@pytest.mark.parametrize("pair_id", range(8))
def test_the_oracle_jitters_as_torchvision_does_where_the_palette_has_all_colours(pair_id: int) -> None:
    colours = np.random.default_rng(pair_id).integers(0, 256, (8, 8, 3), np.uint8)
    pixels = colours.repeat(13, axis=0).repeat(12, axis=1)
    found, drawn = _after("jitter", ALONE["jitter"], pixels, pair_id)
    draws, image = drawn.photometric, Image.fromarray(pixels)
    adjust = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)
    factors = (draws.brightness[0], draws.contrast[0], draws.saturation[0], draws.hue[0])
    for number in draws.order[0]:
        image = adjust[number](image, float(factors[number]))
    np.testing.assert_array_equal(found, np.asarray(image))


def test_the_oracle_s_contrast_takes_the_palette_s_mean() -> None:
    pixels = photograph(300, 400, 7)
    for pair_id in range(40):
        options = ALONE["jitter"] | {"brightness": 0.0, "saturation": 0.0, "hue": 0.0}
        found, drawn = _after("jitter", options, pixels, pair_id)
        if drawn.photometric.order[0, 0] == JITTER.index("contrast"):
            break
    mean = whole.mean_grey(palette(pixels)[None])
    grey = Image.new("RGB", (400, 300), (mean, mean, mean))
    changed = Image.blend(grey, Image.fromarray(pixels), float(drawn.photometric.contrast[0]))
    hue = whole.ADJUST["hue"](changed, 0.0, 0)  # a turn by nothing goes through 8-bit HSV too
    np.testing.assert_array_equal(found, np.asarray(hue))


@pytest.mark.parametrize("pair_id", range(4))
def test_the_oracle_resizes_turns_and_pads_as_torchvision_does(pair_id: int) -> None:
    pixels = photograph(61, 130, pair_id)
    found, drawn = _after("resized_crop", ALONE["resized_crop"], pixels, pair_id)
    box = whole.resized_box(drawn.geometry.resized_tries[0], 61, 130)
    np.testing.assert_array_equal(
        found, np.asarray(tv.resized_crop(Image.fromarray(pixels), *box, [256, 256]))
    )
    turned, drawn = _after("rotation", ALONE["rotation"], pixels, pair_id)
    upright = torch.from_numpy(pixels).movedim(-1, 0)
    rotated = torch.rot90(upright, int(drawn.geometry.rotation[0]), (1, 2))
    np.testing.assert_array_equal(turned, rotated.movedim(0, -1).numpy())
    found, drawn = _after("crop", {"crop": 100}, pixels, pair_id)
    padded = tv.pad(Image.fromarray(pixels), [0, 39], padding_mode="symmetric")
    top, left = (drawn.geometry.crop[0] * (139 - 100 + 1, 130 - 100 + 1)).astype(int)
    np.testing.assert_array_equal(found, np.asarray(tv.crop(padded, top, left, 100, 100)))


def test_the_oracle_s_noise_has_the_drawn_variance_and_is_shared() -> None:
    flat = np.full((300, 400, 3), 128, np.uint8)
    drawn = whole.draw(config(noise_p=1.0, noise_variance=(25.0, 25.0)), 0, 0, 9)
    real, fake = whole.noise([flat, flat], drawn)
    np.testing.assert_array_equal(real, fake)
    assert abs(real.std() - 5.0) < 0.05
    assert abs(real.mean() - 127.5) < 0.05  # floored


def test_the_oracle_refuses_what_was_not_published() -> None:
    with pytest.raises(UserError, match="webp_p is no op of the published recipe"):
        oracle(*CASES[0][:2], config(webp_p=0.5), 0, 0, 1)
    with pytest.raises(UserError, match=r"augment.crop=96 exceeds 30x40"):
        oracle(*CASES[0][:2], config(pad=False), 0, 0, 1)


@pytest.mark.soak
def test_the_oracle_takes_at_most_35_ms_a_pair() -> None:
    real, fake, _ = case(0, 375, 500)
    start = time.process_time()
    for pair_id in range(60):
        oracle(real, fake, RECIPE, 0, 0, pair_id * 7919)
    assert (time.process_time() - start) / 60 <= 0.035
