"""Grey, hole, noise, sharpening and mixing equal Pillow or plain numpy, bit for bit."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

from recon.image.codec import Pixels
from train.draws.noise import NORMALS, noise_keys, noise_levels
from train.ops import pixel
from train.ops.pixel import add_noise, cutout, mix, noise, sharpen, to_grey

SIDES = st.integers(1, 40)
SEEDS = st.integers(0, 2**32 - 1)


def pairs(count: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """(B, 2, 3, H, W) of noise, smooth in part."""
    rng = np.random.default_rng([count, height, width, seed])
    x = rng.integers(0, 256, (count, 2, 3, height, width), np.uint8)
    x[..., : width // 2] = (x[..., : width // 2] // 8) + 200
    return torch.from_numpy(x)


def images(x_BPCHW: torch.Tensor) -> list[Pixels]:
    """All (H, W, 3)."""
    return [np.ascontiguousarray(one.movedim(0, -1).numpy()) for one in x_BPCHW.flatten(0, 1)]


def assert_images(x_BPCHW: torch.Tensor, wanted: list[Pixels]) -> None:
    assert x_BPCHW.dtype == torch.uint8
    for found, one in zip(images(x_BPCHW), wanted, strict=True):
        np.testing.assert_array_equal(found, one)


@given(SIDES, SIDES, SEEDS)
@settings(max_examples=50, deadline=None)
def test_grey_equals_pillow(height: int, width: int, seed: int) -> None:
    x = pairs(3, height, width, seed)
    wanted = [np.asarray(Image.fromarray(one).convert("L").convert("RGB")) for one in images(x)]
    assert_images(to_grey(x), wanted)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_hole_in_the_window_is_the_windows_part_of_a_hole(data: st.DataObject) -> None:
    height, width = data.draw(SIDES), data.draw(SIDES)
    side = data.draw(st.integers(1, 30))
    y1, x1 = data.draw(st.integers(0, height)), data.draw(st.integers(0, width))
    y2, x2 = data.draw(st.integers(y1, height)), data.draw(st.integers(x1, width))
    top, left = (data.draw(st.integers(-10, size + 10)) for size in (height, width))
    x, whole = pairs(1, side, side), np.zeros((height, width), bool)
    whole[y1:y2, x1:x2] = True
    rows, columns = np.arange(top, top + side), np.arange(left, left + side)
    inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
    hole = inside & whole[rows.clip(0, height - 1)[:, None], columns.clip(0, width - 1)]
    found = cutout(x, np.array([[y1, x1, y2, x2]]), np.array([[top, left]]), 128)
    np.testing.assert_array_equal(found.numpy(), np.where(hole, 128, x.numpy()))


def test_each_pair_has_its_own_hole_and_the_argument_stays() -> None:
    x, before = pairs(2, 20, 20), pairs(2, 20, 20)
    found = cutout(x, torch.tensor([[5, 6, 9, 8], [0, 0, 0, 0]]), torch.tensor([[0, 0], [3, 3]]), 7)
    wanted = before.clone()
    wanted[0, :, :, 5:9, 6:8] = 7
    assert torch.equal(found, wanted)
    assert torch.equal(x, before)


@given(SIDES, SIDES, SEEDS, st.one_of(st.sampled_from([0.0, 3.1622776601683795]), st.floats(0, 300)))
@settings(max_examples=100, deadline=None)
def test_noise_equals_numpy(height: int, width: int, seed: int, sigma: float) -> None:
    x = pairs(2, height, width, seed)
    levels = np.random.default_rng(seed).integers(0, 65536, (2, 3, height, width))
    sigmas = np.array([sigma, sigma / 3])
    fields = sigmas.astype(np.float32)[:, None, None, None] * NORMALS[levels]
    sums = x.numpy().astype(np.float32) + fields[:, None]
    wanted = np.floor(np.clip(sums, 0, 255)).astype(np.uint8)
    np.testing.assert_array_equal(add_noise(x, torch.from_numpy(levels), sigmas).numpy(), wanted)


def test_noise_is_a_matter_of_the_place_in_the_image() -> None:
    keys, sigma = noise_keys(1, 2, np.array([5, 6, 7])), np.array([2.0, 5.0, 7.0])
    whole = pairs(3, 40, 50)
    levels = noise_levels(keys, np.arange(40)[None], np.arange(50)[None])
    wanted = add_noise(whole, torch.from_numpy(levels), sigma)
    origins = np.array([[0, 0], [3, 20], [15, 7]])
    windows = torch.stack(
        [one[..., y : y + 25, x : x + 25] for one, (y, x) in zip(whole, origins, strict=True)]
    )
    found = noise(windows, keys, origins, sigma)
    for one, noisy, (y, x) in zip(found, wanted, origins, strict=True):
        assert torch.equal(one, noisy[..., y : y + 25, x : x + 25])
    alone = noise(windows[1:2], torch.from_numpy(keys[1:2]), torch.from_numpy(origins[1:2]), sigma[1:2])
    assert torch.equal(alone, found[1:2])


def test_real_and_fake_get_the_same_noise() -> None:
    x = torch.full((2, 2, 3, 30, 30), 128, dtype=torch.uint8)
    found = noise(x, noise_keys(0, 0, np.arange(2)), np.zeros((2, 2), np.int64), np.array([6.0, 6.0]))
    assert torch.equal(found[:, 0], found[:, 1])
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[:, :, 0], found[:, :, 1])
    assert abs(found.double().std() - 6.0) < 0.2


AMOUNTS = st.one_of(st.sampled_from([-1.0, -0.5, 0.0, 2.0**-30, 1.0, 10.0]), st.floats(-1, 4))


@given(SIDES, SIDES, SEEDS, AMOUNTS)
@settings(max_examples=200, deadline=None)
def test_sharpening_equals_pillow(height: int, width: int, seed: int, amount: float) -> None:
    x = pairs(2, height, width, seed)
    amounts = np.array([amount, 0.3])
    wanted = [
        np.asarray(ImageEnhance.Sharpness(Image.fromarray(one)).enhance(1 + amounts[row // 2]))
        for row, one in enumerate(images(x))
    ]
    assert_images(sharpen(x, amounts), wanted)


def test_the_least_amount_smooths_as_pillows_filter() -> None:
    x = pairs(1, 30, 30)
    wanted = [np.asarray(Image.fromarray(one).filter(ImageFilter.SMOOTH)) for one in images(x)]
    assert_images(sharpen(x, np.array([-1.0])), wanted)


@given(st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1)))
@settings(max_examples=100, deadline=None)
def test_mixing_any_two_levels_equals_numpy(weight: float) -> None:
    real, fake = np.mgrid[0:256, 0:256].astype(np.uint8)
    x = torch.from_numpy(np.stack([real, fake]))[None, :, None].expand(2, 2, 3, 256, 256)
    found = mix(x, np.array([weight, 1.0]))
    wanted = np.rint(weight * fake.astype(np.float64) + (1 - weight) * real)
    np.testing.assert_array_equal(found[0, 1, 2], wanted)
    np.testing.assert_array_equal(found[1, 1, 0], fake)
    np.testing.assert_array_equal(found[0, 0, 1], real)
    ends = {0.0: real, 1.0: fake}
    np.testing.assert_array_equal(wanted, ends.get(weight, wanted))


KEYS: NDArray[np.int64] = noise_keys(4, 0, np.arange(5))
OPS: dict[str, Callable[[torch.Tensor, slice], torch.Tensor]] = {
    "grey": lambda x, _: to_grey(x),
    "noise": lambda x, rows: noise(x, KEYS[rows], np.arange(10).reshape(5, 2)[rows], np.arange(5.0)[rows]),
    "sharpen": lambda x, rows: sharpen(x, np.linspace(-1, 2, 5)[rows]),
    "mix": lambda x, rows: mix(x, np.linspace(0, 1, 5)[rows]),
}


@pytest.mark.parametrize("op", OPS)
def test_pairs_come_out_together_as_alone(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, before = pairs(5, 17, 13), pairs(5, 17, 13)
    alone = torch.cat([OPS[op](x[row : row + 1], slice(row, row + 1)) for row in range(5)])
    assert torch.equal(OPS[op](x, slice(None)), alone)
    monkeypatch.setattr(pixel, "_parts", lambda _: [slice(None)])  # as on a GPU
    for name in ("noise", "to_grey"):
        monkeypatch.setitem(globals(), name, getattr(pixel, f"{name.removeprefix('to_')}_tensor"))
    assert torch.equal(OPS[op](x, slice(None)), alone)
    assert torch.equal(x, before)
    assert OPS[op](x[:0], slice(0, 0)).shape == x[:0].shape
