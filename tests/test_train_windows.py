"""Samples to windows: what is cut, what goes with it to the device, and whose fault a bad pair is."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pack.dataset.pairs import DamagedPair
from recon.base.errors import UserError
from recon.image.codec import Pixels, decode_rgb
from recon.image.colours import palette
from train.draws.config import AugmentConfig
from train.draws.parameters import JITTER, draw_geometry, draw_photometric, visit_ids
from train.ops.jitter import grey_means
from train.ops.pixel import mix
from train.stream.samples import Sample
from train.window.cutter import WindowCutter, mixed_fake
from train.window.geometry import (
    FRAME,
    augmented_image,
    centre_crop,
    cut_out,
    plan_window,
    whole_window,
)
from train.window.images import Decoded
from train.window.masked_batch import Cut, Views, collate
from train.window.part import needed_part

SEED, EPOCH = 3, 2
CONTRAST = JITTER.index("contrast")
RECIPE = AugmentConfig()
PLAIN = AugmentConfig(
    jitter_p=0.0, grey_p=0.0, cutout_p=0.0, noise_p=0.0, blur_p=0.0, jpeg_p=0.0, resized_crop_p=0.0
)


def picture(height: int, width: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def file_of(pixels: Pixels, codec: str = "PNG") -> bytes:
    out = BytesIO()
    Image.fromarray(pixels).save(out, codec)
    return out.getvalue()


def sample(real: Pixels, fake: Pixels, pair: int = 17, copy: int = 0, **other: Any) -> Sample:
    members = {"real.png": file_of(real), "fake.png": file_of(fake)}
    names = {"__key__": "a17", "__url__": "shard-000003.tar", "__pair_id__": pair, "__copy__": copy}
    return names | members | other


def cut_all(cutter: WindowCutter, samples: list[Any]) -> list[Views | DamagedPair]:
    return [cutter(one) for one in cutter.drawn(samples)]


def cutter(augment: AugmentConfig | None = RECIPE, side: int = 64) -> WindowCutter:
    return WindowCutter(augment, side=side, seed=SEED, epoch=EPOCH)


def cut(one: Sample, augment: AugmentConfig | None = RECIPE, side: int = 64) -> Cut:
    (views,) = cut_all(cutter(augment, side), [one])
    assert isinstance(views, tuple)
    (result,) = views
    return result


@given(st.integers(8, 200), st.integers(8, 200), st.integers(0, 2**62), st.integers(0, 2))
@settings(max_examples=50, deadline=None)
def test_both_windows_are_cut_where_the_pair_drew_it(height: int, width: int, pair: int, copy: int) -> None:
    real, fake = picture(height, width), picture(height, width, 1)
    found = cut(sample(real, fake, pair, copy))
    ids = visit_ids(np.array([pair], np.int64), copy)
    plan = plan_window(draw_geometry(RECIPE, SEED, EPOCH, ids), 0, height, width, RECIPE)
    assert (found.key, found.view_id, found.plan) == ("a17", ids[0], plan)
    assert found.windows_PHWC.shape == (2, 152, 152, 3)
    part = needed_part(plan.frame(), draw_photometric(RECIPE, SEED, EPOCH, ids), 0, RECIPE)
    at = (part.rows, part.columns)
    for window, image in zip(found.windows_PHWC, (real, fake), strict=True):
        expected = np.zeros((152, 152, 3), np.uint8)
        expected[at] = cut_out(augmented_image(Decoded(image), plan), plan.box)[at]
        np.testing.assert_array_equal(window, expected)


def test_equal_images_give_equal_windows_and_greys() -> None:
    image = picture(200, 300)
    for pair in range(30):
        found = cut(sample(image, image, pair))
        assert np.array_equal(*found.windows_PHWC)
        assert found.grey_P[0] == found.grey_P[1]


def test_the_grey_means_are_of_the_augmented_images_palette_before_contrast() -> None:
    real, fake = picture(200, 300) // 2, picture(200, 300, 1)
    drawn = 0
    for pair in range(40):
        found = cut(sample(real, fake, pair))
        draws = draw_photometric(RECIPE, SEED, EPOCH, np.array([pair], np.int64))
        if not draws.jitter[0]:
            assert found.grey_P == (0, 0)
            continue
        drawn += 1
        factors = {name: float(getattr(draws, name)[0]) for name in JITTER}
        for mean, image in zip(found.grey_P, (real, fake), strict=True):
            colours, weights = augmented_image(Decoded(image), found.plan).palette()
            order = draws.order[0].tolist()
            assert [mean] == grey_means(colours.T[None, ..., None], [weights], order, **factors)
            if draws.order[0, 0] == CONTRAST and not found.plan.resized:
                assert mean == pillows_mean(colours[None])
    assert 20 < drawn < 40


def pillows_mean(pixels: Pixels) -> int:
    """As ImageEnhance.Contrast takes it."""
    return int(np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).convert("L")).mean() + 0.5)


def test_the_fakes_grey_mean_is_that_of_the_mixed_fake() -> None:
    recipe = AugmentConfig(jitter_p=1.0, mix_p=1.0, mix_fake=(0.3, 0.4), resized_crop_p=0.0)
    real, fake = picture(60, 70) // 4, 255 - picture(60, 70, 1) // 4
    found, pair = None, 0
    while found is None:
        draws = draw_photometric(recipe, SEED, EPOCH, np.array([pair], np.int64))
        if draws.order[0, 0] == CONTRAST:
            found = cut(sample(real, fake, pair), recipe)
        pair += 1
    colours = np.stack([palette(real)[None], palette(fake)[None]])
    mixed = mix(torch.from_numpy(colours).movedim(-1, 1)[None], draws.mix_fake)[0, 1].movedim(0, -1).numpy()
    assert found.grey_P == (pillows_mean(colours[0]), pillows_mean(mixed))
    assert pillows_mean(mixed) not in (pillows_mean(real), pillows_mean(fake))


@given(st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_the_fake_is_mixed_as_the_device_does_it(weight: float) -> None:
    real, fake = np.mgrid[0:256, 0:256].astype(np.uint8)
    both = torch.from_numpy(np.stack([real, fake]))[None, :, None].repeat(1, 1, 3, 1, 1)
    expected = mix(both, np.array([weight]))[0, 1, 0].numpy()
    np.testing.assert_array_equal(mixed_fake(real, fake, weight), expected)


@pytest.mark.parametrize("recipe", [PLAIN, AugmentConfig(contrast=0.0), AugmentConfig(jitter_p=0.0)])
def test_no_grey_mean_is_taken_where_no_contrast_is_drawn(
    recipe: AugmentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.window.cutter.grey_means", lambda *_, **__: pytest.fail("taken"))
    assert {cut(sample(picture(99, 98), picture(99, 98), pair), recipe).grey_P for pair in range(5)} == {
        (0, 0)
    }


def test_a_recipe_of_geometry_alone_cuts_the_crop_itself() -> None:
    found = cut(sample(picture(120, 130), picture(120, 130)), PLAIN)
    plan = found.plan
    assert found.windows_PHWC.shape == (2, 96, 96, 3)
    assert (plan.top, plan.left) == (plan.crop_top, plan.crop_left)


@pytest.mark.parametrize("size", [(40, 100), (64, 64), (333, 90)])
def test_a_clean_crop_is_the_centre_with_nothing_left_to_do(size: tuple[int, int]) -> None:
    real, fake = picture(*size), picture(*size, 1)
    found = cut(sample(real, fake), None, side=64)
    expected = np.stack([centre_crop(real, 64), centre_crop(fake, 64)])
    np.testing.assert_array_equal(found.windows_PHWC, expected)
    assert (found.plan, found.grey_P) == (whole_window(64), (0, 0))


def test_collate_lays_pairs_into_slots_and_masks_the_others() -> None:
    images = [sample(picture(150, 160, n), picture(150, 160, n + 9), pair=n) for n in range(3)]
    damaged = DamagedPair(key="d", url="u", cause="bits")
    first, second, third = ((cut(one),) for one in images)
    cuts = [first, damaged, second, third]
    memory = np.full((6, 2, 152, 152, 3), 7, np.uint8)
    batch = collate(cuts, memory)
    assert batch.windows_BPHWC is memory
    assert batch.mask_B.tolist() == [True, False, True, True, False, False]
    assert (batch.keys, batch.damaged) == (["a17"] * 3, [damaged])
    assert (batch.ids_B.dtype, batch.frames_B.dtype, batch.grey_BP.dtype) == (np.int64, FRAME, np.int64)
    for row, one in enumerate([*cuts, None, None]):
        if isinstance(one, tuple):
            (one,) = one
            np.testing.assert_array_equal(memory[row], one.windows_PHWC)
            assert batch.frames_B[row].item() == one.plan.frame()
            assert (batch.ids_B[row], tuple(batch.grey_BP[row])) == (one.view_id, one.grey_P)
        else:
            assert not memory[row].any()
            assert not batch.grey_BP[row].any()
            assert batch.frames_B[row].item() == (152, 152, *[0] * 10)
            assert batch.ids_B[row] == 0


def test_a_pair_is_cut_the_same_in_any_company() -> None:
    one = sample(picture(150, 160), picture(150, 160, 1), pair=5)
    others = [sample(picture(90, 400, n), picture(90, 400), pair=n) for n in range(3)]
    alone = collate([(cut(one),)], np.empty((1, 2, 152, 152, 3), np.uint8))
    company = collate([(cut(other),) for other in (*others, one)], np.empty((5, 2, 152, 152, 3), np.uint8))
    for name in ("windows_BPHWC", "ids_B", "frames_B", "grey_BP"):
        np.testing.assert_array_equal(getattr(alone, name)[0], getattr(company, name)[3])


def test_images_smaller_than_the_crop_are_refused_where_the_recipe_says_so() -> None:
    strict = AugmentConfig(pad=False, resized_crop_p=1.0)  # whatever the pair draws
    with pytest.raises(
        UserError, match=r"(?s)'a17' in shard-000003.tar: .*crop=96 .*200x95.*pad=true.*filter"
    ):
        cut(sample(picture(95, 200), picture(95, 200)), strict)
    assert cut(sample(picture(96, 96), picture(96, 96)), strict).windows_PHWC.shape == (2, 152, 152, 3)
    assert cut(sample(picture(8, 9), picture(8, 9))).windows_PHWC.shape == (2, 152, 152, 3)


def test_images_of_different_sizes_are_refused_by_key() -> None:
    with pytest.raises(UserError, match=r"'a17' in shard-000003.tar: real and fake are 20x10 and 21x10"):
        cut(sample(picture(10, 20), picture(10, 21)))


def test_a_pair_that_cannot_be_decoded_is_damaged() -> None:
    broken = sample(picture(10, 20), picture(10, 20)) | {"fake.png": b"\xff\xd8\xff nothing"}
    (found,) = cut_all(cutter(), [broken])
    assert found == DamagedPair(key="a17", url="shard-000003.tar", cause="fake can't be decoded")
    assert cut_all(cutter(), [found]) == [found]


def test_a_sample_without_an_image_is_the_fault_of_a_stage() -> None:
    one = sample(picture(10, 20), picture(10, 20))
    del one["fake.png"]
    with pytest.raises(UserError, match=r"no bytes under fake\.\*; check your stages"):
        cut(one)


def test_a_jpeg_pair_is_cut_from_what_pillow_decodes() -> None:
    data = file_of(picture(150, 150), "JPEG")
    one = sample(picture(1, 1), picture(1, 1))
    del one["real.png"], one["fake.png"]
    found = cut(one | {"real.jpg": data, "fake.jpg": data}, None, side=150)
    with Image.open(BytesIO(data)) as image:
        np.testing.assert_array_equal(found.windows_PHWC[0], np.asarray(image))
    np.testing.assert_array_equal(found.windows_PHWC[1], decode_rgb(data))
