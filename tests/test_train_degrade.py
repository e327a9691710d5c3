"""Degradations in the loader: equal to plain calls of Pillow on whole images, and shared by the pair."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from degrade_reference import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dctn, idctn
from test_train_oracle import NOTHING, Case, augmented, bmp, case, cuts_of, expected
from train_data import make_dataset, steps_of, world

from pack.shard.schema import MASK_FIELD
from recon.base.errors import UserError
from train.chains.chain import MOST_SIDE, parse_chains
from train.chains.declared import OPS
from train.draws.config import AugmentConfig
from train.draws.degrade import NONE, drawn_chains
from train.order.counter import signed
from train.window.cutter import WindowCutter, mixed_fake
from train.window.degraded import degraded
from train.window.images import Decoded

QUALITY = {"from": 30, "to": 95}
ALONE: dict[str, dict[str, Any]] = {
    "jpeg": {"quality": QUALITY, "subsampling": "any"},
    "webp": {"quality": QUALITY},
    "avif": {"quality": QUALITY, "speed": 10},
    "resize": {"factor": {"from": 0.3, "to": 2.5}, "resampler": "any"},
    "square": {"side": {"from": 40, "to": 200}, "resampler": "any"},
    "thumbnail": {"side": {"from": 40, "to": 200}, "resampler": "any"},
    "screenshot": {"display": "any"},
    "blur": {"sigma": {"from": 0, "to": 4}},
    "noise": {"sigma": {"from": 1, "to": 20}},
}
CHAINS: list[dict[str, Any]] = [
    {"p": 0.4, "chain": [{"resize": ALONE["resize"]}, {"jpeg": ALONE["jpeg"]}, {"noise": {"sigma": 9}}]},
    {
        "p": 0.3,
        "chain": [{"jpeg": {"quality": 60}}, {"screenshot": {"display": 1.5}}, {"webp": {"quality": 50}}],
    },
    {"p": 0.2, "chain": [{"blur": {"sigma": 1.5}}, {"noise": {"sigma": 9}}]},
]
SIZES = [(30, 40), (137, 210), (300, 200), (96, 96), (260, 333), (64, 500)]
CASES = [case(number, *size) for number, size in enumerate(SIZES)]


def chained(op: str, **options: Any) -> AugmentConfig:
    return AugmentConfig(**NOTHING | {"degrade": [{"p": 1.0, "chain": [{op: ALONE[op]}]}]} | options)


def assert_as_the_reference(augment: AugmentConfig, cases: list[Case]) -> None:
    """The windows are those of the plain recipe on images that the reference degraded."""
    plain = replace(augment, degrade=[], pre_crop_p=0)
    found = augmented(augment, cuts_of(augment, cases))
    for (real, fake, pair_id), images in zip(cases, found, strict=True):
        changed = reference([real, fake], augment, 3, 1, pair_id)
        [whole] = expected(plain, [(changed[0], changed[1], pair_id)])
        np.testing.assert_array_equal(images, whole, err_msg=f"{real.shape}, pair {pair_id}")


@pytest.mark.parametrize("op", ALONE)
def test_each_degradation_of_a_pair_is_pillows_on_whole_images(op: str) -> None:
    assert_as_the_reference(chained(op, degrade_side=150), CASES)


@pytest.mark.parametrize("side", [0, 64, 200])
def test_chains_before_the_whole_recipe_are_pillows(side: int) -> None:
    augment = AugmentConfig(degrade=CHAINS, degrade_side=side, pre_crop_p=0.4, pre_crop_side=128)
    assert_as_the_reference(augment, [case(40 + number, *SIZES[number % 6]) for number in range(18)])


def test_a_resized_crop_has_the_side_that_it_drew() -> None:
    augment = AugmentConfig(resized_crop_p=1.0, resized_crop_side=(96, 300), pre_crop_p=0.5)
    assert_as_the_reference(augment, CASES)
    assert len({cut.plan.height for [cut] in cuts_of(augment, CASES)}) == len(CASES)


@pytest.mark.parametrize("op", [*ALONE, "crop", "highpass"])
def test_equal_halves_stay_equal_through_every_degradation(op: str) -> None:
    steps = [{op: {"crop": {"keep": 0.5}, "highpass": {"sigma": 1.0}}.get(op) or ALONE[op]}]
    augment = AugmentConfig(**NOTHING | {"degrade": [{"p": 1.0, "chain": steps}]})
    found = augmented(augment, cuts_of(augment, [(real, real, pair) for real, _, pair in CASES]))
    np.testing.assert_array_equal(found[:, 0], found[:, 1])


def test_every_degradation_is_tested_here() -> None:
    assert {*ALONE, "crop", "highpass"} == set(OPS)


def test_without_a_chain_images_are_those_of_the_plain_recipe() -> None:
    chains = [{**one, "p": one["p"] / 3} for one in CHAINS]
    augment = AugmentConfig(degrade=chains, degrade_side=64)
    cases = [case(80 + number, *SIZES[number % 6]) for number in range(12)]
    ids = np.array([signed(pair_id) for _, _, pair_id in cases], np.int64)
    untouched = drawn_chains(augment.chains, 1, 3, 1, ids) == NONE
    assert 4 < untouched.sum() < 12
    plain = augmented(AugmentConfig(), cuts_of(AugmentConfig(), cases))
    same = (augmented(augment, cuts_of(augment, cases)) == plain).all(axis=(1, 2, 3, 4))
    np.testing.assert_array_equal(same, untouched)


def test_a_chain_of_another_view_leaves_a_view_alone() -> None:
    recipe = AugmentConfig(views=3, degrade=[{"p": 1.0, "view": 2, "chain": [{"jpeg": {"quality": 5}}]}])
    images = [Decoded(CASES[1][0]), Decoded(CASES[1][1])]
    assert degraded(images, recipe, 0, 0, 7) is images
    assert degraded(images, recipe, 0, 0, 7, view=3) is images
    changed = degraded(images, recipe, 0, 0, 7, view=2)[0]
    assert not np.array_equal(changed.part((0, 0, *changed.size)), images[0].pixels)


def test_a_loaders_views_get_the_chains_for_them() -> None:
    plain = AugmentConfig(views=2, jpeg_p=0, blur_p=0)
    chain = {"p": 1.0, "view": 2, "chain": [{"jpeg": {"quality": 5}}]}
    for before, after in zip(
        cuts_of(plain, CASES), cuts_of(replace(plain, degrade=[chain], degrade_side=0), CASES), strict=True
    ):
        same = [
            np.array_equal(one.windows_PHWC, other.windows_PHWC)
            for one, other in zip(before, after, strict=True)
        ]
        assert same == [True, False]


def test_a_mask_goes_where_its_images_go() -> None:
    """The photograph shows its own mask: they must fit after any geometry."""
    moved: dict[str, dict[str, Any]] = {"screenshot": {"display": 2}, "resize": {"factor": 0.9}}
    moved |= {"square": {"side": 170}, "thumbnail": {"side": 150}}
    steps: list[Any] = [{op: {**values, "resampler": "nearest"}} for op, values in moved.items()]
    chains = [{"p": 1.0, "chain": [*steps, {"crop": {"keep": 0.9}}]}]
    options = {"degrade": chains, "degrade_side": 128, "pre_crop_p": 1.0, "rotate": True}
    augment = AugmentConfig(**NOTHING | options)
    marks = np.random.default_rng(0).random((7, 9)) < 0.5
    mask = np.kron(marks, np.ones((30, 30), bool)).astype(np.uint8)[..., None].repeat(3, axis=2) * 255
    for pair in range(5):
        sample = {"__key__": "a", "__url__": "u", "__pair_id__": pair, "__copy__": 0, MASK_FIELD: bmp(mask)}
        cutter = WindowCutter(augment, side=96, seed=3, epoch=1)
        [drawn] = cutter.drawn([sample | {"real.bmp": bmp(mask), "fake.bmp": bmp(mask)}])
        views = cutter(drawn)
        assert isinstance(views, tuple)
        [cut] = views
        [[image, _]] = augmented(augment, [views])
        np.testing.assert_array_equal(image[..., 0], cut.mask_HW)
        assert np.unique(image).tolist() == [0, 255]


@given(
    st.lists(st.sampled_from(sorted(ALONE)), min_size=1, max_size=4),
    st.integers(0, 9000),
    st.floats(0.01, 16),
)
@settings(max_examples=200, deadline=None)
def test_no_chain_makes_a_side_longer_than_it_may(ops: list[str], side: int, factor: float) -> None:
    own = {**ALONE, "resize": {"factor": {"from": 0.01, "to": factor}, "resampler": "box"}}
    given: dict[str, Any] = {"p": 1, "chain": [{op: own[op]} for op in ops]}
    try:
        [chain] = parse_chains([given], "x")
    except UserError:
        assert factor > 2.5  # only screenshots and resizing make images larger
        return
    region = chain.region(side)
    assert 64 <= region or region == side
    assert chain.reach(region) <= MOST_SIDE
    assert region == min(side or MOST_SIDE, MOST_SIDE) or chain.reach(region + 1) > MOST_SIDE - 4**4


def test_large_results_are_cut_by_construction() -> None:
    [chain] = parse_chains([{"p": 1, "chain": [{"resize": {"factor": 16, "resampler": "box"}}]}], "x")
    recipe = AugmentConfig(degrade=[{"p": 1, "chain": [{"resize": {"factor": 16, "resampler": "box"}}]}])
    photo = np.zeros((900, 20, 3), np.uint8)
    assert chain.region(0) == 256
    images = [Decoded(photo), Decoded(photo)]
    assert [one.size for one in degraded(images, recipe, 0, 0, 5)] == [(4096, 320)] * 2


WRONG: dict[str, tuple[Any, str]] = {
    "no chain": ({"p": 1}, "expected {p: .2, chain: [...]}"),
    "no mapping": (3, "expected {p: .2, chain: [...]}"),
    "unknown": ({"p": 1, "chain": [{"noise": {"sigma": 1}}], "q": 1}, "expected {p: .2, chain"),
    "p": ({"p": 1.5, "chain": [{"noise": {"sigma": 1}}]}, "degrade[0]: p=1.5, expected a probability"),
    "p true": ({"p": True, "chain": [{"noise": {"sigma": 1}}]}, "p=True, expected a probability"),
    "view": (
        {"p": 1, "view": 0, "chain": [{"noise": {"sigma": 1}}]},
        "view=0, expected the number of a view",
    ),
    "empty": ({"p": 1, "chain": []}, "degrade[0]: expected a list of operations, found []"),
    "operation": ({"p": 1, "chain": [{"jpg": {}}]}, "no operation is called 'jpg', expected one of jpeg"),
    "missing": (
        {"p": 1, "chain": [{"jpeg": {}}]},
        "jpeg, quality: expected a whole number 1 to 100; it is missing",
    ),
    "sweep": (
        {"p": 1, "chain": [{"jpeg": {"quality": [1, 2]}}]},
        "a list is for the cells of a robustness grid",
    ),
    "display": (
        {"p": 1, "chain": [{"screenshot": {"display": 3}}]},
        "expected one of 1.25, 1.5, 1.75, 2, or 'any'",
    ),
    "large": ({"p": 1, "chain": [{"square": {"side": 5000, "resampler": "box"}}]}, "expected at most 4096"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_in_a_chain_is_told_with_its_place_and_the_choices(name: str) -> None:
    wrong, told = WRONG[name]
    with pytest.raises(UserError) as found:
        AugmentConfig(degrade=[wrong])
    assert str(found.value).startswith("augment.degrade[0]")
    assert told in str(found.value)


def test_probabilities_of_a_view_add_up_to_at_most_1() -> None:
    def two(first: int | None, second: int | None) -> list[dict[str, Any]]:
        views = [{} if view is None else {"view": view} for view in (first, second)]
        return [{"p": 0.6, "chain": [{"noise": {"sigma": 1}}]} | view for view in views]

    AugmentConfig(views=2, degrade=two(1, 2))
    with pytest.raises(UserError, match=r"degrade\[1\] is for view 2, and augment\.views=1; raise views"):
        AugmentConfig(degrade=two(1, 2))
    for first, second, told in ((None, None, "ies add"), (2, 2, "of view 2 add"), (None, 1, "of view 1 add")):
        with pytest.raises(UserError, match=rf"{told} up to 1\.2, expected at most 1"):
            AugmentConfig(views=2, degrade=two(first, second))
    tenths = [{"p": 0.1, "chain": [{"noise": {"sigma": 1}}]}] * 10  # which are less than 1 in float64
    assert len(AugmentConfig(degrade=tenths).chains) == 10


def test_a_loader_degrades_in_its_worker_as_in_the_trainer(tmp_path: Path) -> None:
    url = make_dataset(tmp_path, pairs=12, shard_pairs=12)
    augment = AugmentConfig(crop=24, degrade=[*CHAINS, {"p": 0.1, "chain": [{"avif": ALONE["avif"]}]}])
    here, there = (steps_of(world(url, 1, augment=augment, workers=workers)) for workers in (0, 1))
    plain = steps_of(world(url, 1, augment=replace(augment, degrade=[])))
    assert [list(step) for step in here] == [list(step) for step in there]
    pairs = [(one[key], other[key]) for one, other in zip(here, there, strict=True) for key in one]
    assert all(torch.equal(one, other) for one, other in pairs)
    changed = [
        not torch.equal(one[key], other[key]) for one, other in zip(here, plain, strict=True) for key in one
    ]
    assert sum(changed) > 6


def test_the_loading_process_degrades_without_torch() -> None:
    code = (
        "import sys, numpy as np\n"
        "from train.draws.config import AugmentConfig\n"
        "import train.loader.reader\n"
        "from train.window.degraded import degraded\n"
        "from train.window.images import Decoded\n"
        "steps = [{'blur': {'sigma': 1}}, {'noise': {'sigma': 1}}, {'avif': {'quality': 9}},\n"
        "    {'webp': {'quality': 9}}, {'jpeg': {'quality': 9}}, {'highpass': {'sigma': 1}}]\n"
        "recipe = AugmentConfig(degrade=[{'p': 1, 'chain': steps}])\n"
        "degraded([Decoded(np.zeros((30, 30, 3), np.uint8))] * 2, recipe, 0, 0, 1)\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)


# The mixture of spectra


@given(st.floats(0.05, 1), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_a_mixture_of_spectra_is_a_mixture_of_pixels(weight: float, number: int) -> None:
    """The whole image's DCT of each channel, mixed, inverted, clipped and rounded, as DDA's code does it."""
    real, fake, _ = case(number, 37, 53)
    spectra = [dctn(one.astype(np.float64), axes=(0, 1), norm="ortho") for one in (real, fake)]
    levels = idctn((1 - weight) * spectra[0] + weight * spectra[1], axes=(0, 1), norm="ortho").clip(0, 255)
    sure = np.abs(levels % 1 - 0.5) > 1e-9  # a tie's rounding is at the mercy of the transform
    np.testing.assert_array_equal(np.rint(levels)[sure], mixed_fake(real, fake, weight)[sure])


def test_both_mixtures_leave_the_fake_its_drawn_share() -> None:
    recipe = AugmentConfig(
        **NOTHING
        | {"mix_p": 1.0, "frequency_mix_p": 1.0, "mix_fake": (0.5, 0.5), "frequency_mix_fake": (0.4, 0.4)}
    )
    real, fake = np.full((96, 96, 3), 50, np.uint8), np.full((96, 96, 3), 150, np.uint8)
    [[one, other]] = augmented(recipe, cuts_of(recipe, [(real, fake, 5)]))
    assert (np.unique(one).tolist(), np.unique(other).tolist()) == ([50], [70])
    only = replace(recipe, mix_p=0.0)
    [[_, other]] = augmented(only, cuts_of(only, [(real, fake, 5)]))
    assert np.unique(other).tolist() == [90]


def test_a_pair_is_not_mixed_into_one_image() -> None:
    for name in ("mix_fake", "frequency_mix_fake"):
        with pytest.raises(UserError, match=f"{name}=.*expected a low of 0.05 or more"):
            AugmentConfig(**{name: (0.0, 0.8)})  # type: ignore[arg-type]
    low: dict[str, Any] = {"mix_p": 0.2, "mix_fake": (0.1, 1.0), "frequency_mix_fake": (0.2, 1.0)}
    AugmentConfig(**low)
    with pytest.raises(UserError, match=r"as little as 0\.02 of a fake that is mixed twice, expected 0\.04"):
        AugmentConfig(frequency_mix_p=0.2, **low)
