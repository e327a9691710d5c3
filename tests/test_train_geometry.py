"""Windows: where they lie, that they hold what the final crop needs, that their pixels are the image's."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import functional as tv

from recon.base.errors import UserError
from recon.image.codec import Pixels
from train.draws.boxes import resized_box
from train.draws.config import PHOTOMETRIC, AugmentConfig
from train.draws.parameters import GeometryDraws, draw_geometry
from train.window.geometry import (
    FRAME,
    WindowPlan,
    augmented_image,
    centre_crop,
    cut,
    cut_out,
    mirror,
    plan_window,
    whole_window,
)
from train.window.images import Decoded

OFF: dict[str, Any] = dict.fromkeys(PHOTOMETRIC, 0.0)
RECIPES: dict[str, dict[str, Any]] = {
    "aligned-iclr25": {},
    "none": OFF,
    "no jpeg": {"jpeg_p": 0.0},
    "jpeg alone": OFF | {"jpeg_p": 1.0},
    "webp alone": OFF | {"webp_p": 1.0},
    "no halo": OFF | {"noise_p": 1.0},
    "narrow blur": {"blur_sigma": (0.0, 1.0)},
}

pairs = st.integers(0, 2**62)
sides = st.integers(8, 400)
places = st.integers(-150, 150)
recipes = st.sampled_from(sorted(RECIPES))


def recipe(name: str, crop: int, **options: Any) -> AugmentConfig:
    return AugmentConfig(crop=crop, **RECIPES[name] | options)


def draws(pair: int, config: AugmentConfig) -> GeometryDraws:
    return draw_geometry(config, 0, 0, np.array([pair], np.int64))


def planned(pair: int, height: int, width: int, config: AugmentConfig) -> WindowPlan:
    return plan_window(draws(pair, config), 0, height, width, config)


def picture(height: int, width: int) -> Pixels:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), np.uint8)


def published(pixels: Pixels, drawn: GeometryDraws, crop: int) -> Pixels:
    """The published order of operations: resize, rotate, flip, pad and crop the whole image."""
    x = torch.from_numpy(pixels).movedim(-1, 0)
    if drawn.resized[0]:
        top, left, h, w = resized_box(drawn.resized_tries[0], *pixels.shape[:2])
        part = tv.to_pil_image(x[:, top : top + h, left : left + w])
        x = tv.pil_to_tensor(tv.resize(part, [256, 256]))
    x = torch.rot90(x, int(drawn.rotation[0]), (-2, -1))
    x = x.flip(-1) if drawn.flip[0] else x
    pads = [max(0, crop - side) for side in x.shape[1:]]
    padded = np.pad(x.numpy(), [(0, 0), *[(pad, pad) for pad in pads]], mode="symmetric")
    top, left = (int(u * (side - crop + 1)) for u, side in zip(drawn.crop[0], padded.shape[1:], strict=True))
    return np.moveaxis(padded[:, top : top + crop, left : left + crop], 0, -1)


def final_crop(window: Pixels, plan: WindowPlan, config: AugmentConfig) -> Pixels:
    """The crop out of a window's core, padded by mirroring the image, and turned."""
    radius, side = config.blur_radius, config.crop
    if config.is_photometric:
        core = window[radius : radius + config.core_side, radius : radius + config.core_side]
        rows = mirror(plan.crop_top, side, plan.height) - (plan.top + radius)
        columns = mirror(plan.crop_left, side, plan.width) - (plan.left + radius)
        assert min(rows.min(), columns.min()) >= 0
        window = core[rows[:, None], columns]
    turned = np.rot90(window, plan.rotation)
    return turned[:, ::-1] if plan.flip else turned


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 120), recipes, pairs)
@settings(max_examples=300, deadline=None)
def test_the_crop_out_of_the_window_is_that_of_the_whole_image(
    height: int, width: int, crop: int, name: str, pair: int
) -> None:
    config, pixels = recipe(name, crop), picture(height, width)
    plan = planned(pair, height, width, config)
    window = cut_out(augmented_image(Decoded(pixels), plan), plan.box)
    expected = published(pixels, draws(pair, config), crop)
    np.testing.assert_array_equal(final_crop(window, plan, config), expected)


@given(sides, sides, st.integers(8, 120), recipes, pairs)
@settings(max_examples=300, deadline=None)
def test_window_pixels_are_the_mirrored_images_at_their_coordinates(
    height: int, width: int, crop: int, name: str, pair: int
) -> None:
    config = recipe(name, crop)
    plan = planned(pair, height, width, config)
    image = augmented_image(Decoded(picture(height, width)), plan)
    assert image.size == (plan.height, plan.width)
    margin = plan.side + crop
    whole = image.part((0, 0, *image.size))
    padded = np.pad(whole, [(margin, margin), (margin, margin), (0, 0)], mode="symmetric")
    top, left = plan.top + margin, plan.left + margin
    expected = padded[top : top + plan.side, left : left + plan.side]
    np.testing.assert_array_equal(cut_out(image, plan.box), expected)


@given(sides, sides, st.integers(8, 250), recipes, pairs)
@settings(max_examples=500, deadline=None)
def test_the_core_lies_on_the_grid_around_the_crop_and_its_halo(
    height: int, width: int, crop: int, name: str, pair: int
) -> None:
    config = recipe(name, crop)
    plan = planned(pair, height, width, config)
    assert plan.side == config.window_side
    compressed = bool(config.jpeg_p or config.webp_p)
    halo = 2 if compressed else 0
    for start, crop_start, size in (
        (plan.top, plan.crop_top, plan.height),
        (plan.left, plan.crop_left, plan.width),
    ):
        if not config.is_photometric:
            assert start == crop_start
            continue
        core = start + config.blur_radius
        assert core >= 0
        assert not compressed or core % 16 == 0
        first, last = (crop_start, crop_start + crop) if size >= crop else (0, size)
        assert core <= max(0, first - halo)
        assert min(size, last + halo) <= core + config.core_side


@given(sides, sides, st.integers(1, 250), pairs)
@settings(max_examples=200, deadline=None)
def test_the_crop_lies_in_the_image_or_around_it(height: int, width: int, crop: int, pair: int) -> None:
    plan = planned(pair, height, width, recipe("aligned-iclr25", crop))
    for start, size in ((plan.crop_top, plan.height), (plan.crop_left, plan.width)):
        low, high = sorted((0, size - crop))
        assert low - max(0, crop - size) <= start <= high + max(0, crop - size)


def test_the_published_recipe_has_windows_of_152_at_16_k_less_12() -> None:
    config = AugmentConfig()
    plans = [planned(pair, 375, 500, config) for pair in range(200)]
    assert {plan.side for plan in plans} == {152}
    assert {(plan.top + 12) % 16 for plan in plans} == {(plan.left + 12) % 16 for plan in plans} == {0}
    assert {plan.rotation for plan in plans} == {0, 1, 2, 3}
    assert len({plan.top for plan in plans}) > 10


def test_the_hole_and_the_size_are_those_of_the_augmented_image() -> None:
    config = AugmentConfig(cutout_p=1.0, resized_crop_p=0.5)
    for pair in range(50):
        plan = planned(pair, 60, 500, config)
        assert (plan.height, plan.width) == ((256, 256) if plan.resized else (60, 500))
        assert plan.cutout is not None
        y1, x1, y2, x2 = plan.cutout
        assert 0 <= y1 <= y2 <= plan.height
        assert 0 <= x1 <= x2 <= plan.width
    assert planned(0, 60, 500, AugmentConfig(cutout_p=0.0)).cutout is None


def test_a_frame_holds_the_plan() -> None:
    plan = planned(3, 375, 500, AugmentConfig(cutout_p=1.0))
    frame = np.array(plan.frame(), FRAME)
    for name in FRAME.names or ():
        if not name.startswith("cut_"):
            assert frame[name] == getattr(plan, name)
    assert tuple(int(frame[f"cut_{end}"]) for end in ("top", "left", "bottom", "right")) == plan.cutout
    assert frame[None].view(np.int64).shape == (12,)
    assert whole_window(7).frame() == (7, 7, *[0] * 10)


@given(
    *(st.integers(1, 60), st.integers(1, 60), st.integers(1, 70), st.integers(1, 70)),
    *(st.integers(-150, 150), st.integers(-150, 150)),
)
@settings(max_examples=300, deadline=None)
def test_a_box_anywhere_is_cut_from_the_mirrored_image(
    height: int, width: int, high: int, wide: int, top: int, left: int
) -> None:
    pixels = picture(height, width)
    padded = np.pad(pixels, [(150, 230), (150, 230), (0, 0)], mode="symmetric")
    expected = padded[top + 150 :, left + 150 :][:high, :wide]
    np.testing.assert_array_equal(cut(pixels, (top, left, high, wide)), expected)


def test_cutting_never_touches_the_rest_of_the_image() -> None:
    inside = cut(picture(300, 300), (10, 20, 152, 152))
    assert inside.base is not None
    untouched = np.lib.stride_tricks.as_strided  # a view on an image that there is no memory for
    row = np.zeros(3, np.uint8)
    endless = untouched(row, (10**9, 10**9, 3), (0, 0, 1), writeable=False)
    assert cut(endless, (-12, 10**9 - 100, 152, 152)).shape == (152, 152, 3)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 50))
@settings(max_examples=100, deadline=None)
def test_the_centre_crop_is_padded_symmetrically(height: int, width: int, side: int) -> None:
    pixels = picture(height, width)
    pads = [max(0, side - n) for n in (height, width)]
    padded = np.pad(pixels, [(pads[0],) * 2, (pads[1],) * 2, (0, 0)], mode="symmetric")
    top, left = ((n - side) // 2 for n in padded.shape[:2])
    np.testing.assert_array_equal(centre_crop(pixels, side), padded[top : top + side, left : left + side])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": 0}, "augment.crop=0, expected at least 1"),
        ({"flip_p": 1.5}, r"augment.flip_p=1.5, expected a probability in \[0, 1\]"),
        ({"crop": 300}, "exceeds the resized crop's 256"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        AugmentConfig(**options)
