from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from torchvision.transforms import functional as tv

from recon.codec import Pixels
from recon.errors import UserError
from train.augment.draws import GeometryDraws, draw_geometry, resized_box
from train.augment.geometry import centre_crop, cut_window, plan_window
from train.augment.turn import turn
from train.config import AugmentConfig

IDS = np.arange(20_000, dtype=np.int64) * 7919


def draws(pair_ids: Sequence[int], seed: int = 0, epoch: int = 0, **options: float) -> GeometryDraws:
    return draw_geometry(AugmentConfig(**options), seed, epoch, np.array(pair_ids, np.int64))  # type: ignore[arg-type]


def picture(height: int, width: int) -> Pixels:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), np.uint8)


def whole_image(pixels: Pixels, drawn: GeometryDraws, crop: int) -> Pixels:
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


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(0, 2**62))
@settings(max_examples=300, deadline=None)
def test_the_window_equals_the_whole_image_pipeline(height: int, width: int, crop: int, pair: int) -> None:
    drawn, pixels = draws([pair]), picture(height, width)
    plan = plan_window(drawn, 0, height, width, crop)
    window = torch.from_numpy(cut_window(pixels, plan).copy()).movedim(-1, 0)[None, None]
    turned = turn(window, torch.tensor([plan.rotation]), torch.tensor([plan.flip]))[0, 0]
    np.testing.assert_array_equal(turned.movedim(0, -1).numpy(), whole_image(pixels, drawn, crop))


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 50))
@settings(max_examples=100, deadline=None)
def test_the_centre_crop_is_padded_symmetrically(height: int, width: int, side: int) -> None:
    pixels = picture(height, width)
    pads = [max(0, side - n) for n in (height, width)]
    padded = np.pad(pixels, [(pads[0],) * 2, (pads[1],) * 2, (0, 0)], mode="symmetric")
    top, left = ((n - side) // 2 for n in padded.shape[:2])
    np.testing.assert_array_equal(centre_crop(pixels, side), padded[top : top + side, left : left + side])


def test_a_pair_draws_the_same_in_any_company() -> None:
    together, alone = draws([5, 6, 7], seed=3), draws([6], seed=3)
    for name in vars(alone):
        np.testing.assert_array_equal(getattr(together, name)[1:2], getattr(alone, name))


def test_pairs_epochs_and_seeds_draw_apart() -> None:
    lines = [draws(IDS[:100], seed=seed, epoch=epoch).crop.ravel() for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(line) for line in lines}) == 4
    assert np.abs(np.corrcoef(lines) - np.eye(4)).max() < 0.35


def test_draws_have_their_distributions() -> None:
    drawn = draws(IDS)
    uniform = [drawn.crop[:, 0], drawn.crop[:, 1], *np.moveaxis(drawn.resized_tries, 0, -1).reshape(40, -1)]
    assert min(stats.kstest(values, "uniform").pvalue for values in uniform) > 1e-4
    assert stats.chisquare(np.bincount(drawn.rotation, minlength=4)).pvalue > 1e-4
    assert stats.binomtest(int(drawn.flip.sum()), len(IDS), 0.5).pvalue > 1e-4
    assert stats.binomtest(int(drawn.resized.sum()), len(IDS), 0.2).pvalue > 1e-4


def test_options_switch_operations_off() -> None:
    drawn = draws(IDS[:1000], resized_crop_p=0.0, rotate=False, flip_p=0.0)
    assert not drawn.resized.any()
    assert not drawn.rotation.any()
    assert not drawn.flip.any()


@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 2**62))
@settings(max_examples=200, deadline=None)
def test_a_resized_crop_lies_inside_and_keeps_its_ratio(height: int, width: int, pair: int) -> None:
    top, left, h, w = resized_box(draws([pair]).resized_tries[0], height, width)
    assert 0 <= top <= height - h
    assert 0 <= left <= width - w
    if min(h, w) >= 20:
        assert 0.70 < w / h < 1.43


def test_the_resized_crop_falls_back_to_the_centre() -> None:
    misses: NDArray[np.float64] = np.ones((10, 4)) * 0.999999
    assert resized_box(misses, 10, 100) == (0, 43, 10, 13)
    assert resized_box(misses, 100, 10) == (43, 0, 13, 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": 0}, "augment.crop=0, expected at least 1"),
        ({"flip_p": 1.5}, r"augment.flip_p=1.5, expected a probability in \[0, 1\]"),
        ({"crop": 300}, "exceeds the resized crop's 256"),
    ],
)
def test_bad_options_are_named(options: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        AugmentConfig(**options)  # type: ignore[arg-type]
