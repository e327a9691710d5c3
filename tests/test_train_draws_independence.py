"""A draw depends on its seed, epoch, pair and op alone, not on its batch or on numpy or torch."""

import itertools
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from train.draws.config import AugmentConfig
from train.draws.noise import noise_keys, noise_levels
from train.draws.parameters import draw_geometry, draw_photometric, view_ids, visit_ids

Numbers = NDArray[Any]
Draw = Callable[[int, int, Numbers], Numbers]

ALL = AugmentConfig(
    webp_p=0.3, sharpen_p=0.2, mix_p=0.1, frequency_mix_p=0.2, pre_crop_p=0.3, resized_crop_side=(128, 255)
)
IDS = st.lists(
    st.integers(-(2**63), 2**63 - 1) | st.sampled_from([-(2**63), 2**63 - 1, -1, 0, 1]),
    min_size=1,
    max_size=30,
)
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")),
]


def noise_of(ids: Numbers, side: int, seed: int = 5, epoch: int = 2) -> Numbers:
    place = np.arange(side, dtype=np.int64)[None]
    return noise_levels(noise_keys(seed, epoch, ids), place, place)


# Independence


def all_numbers(seed: int, epoch: int, ids: Numbers) -> Numbers:
    """(parameters, n): everything that is drawn."""
    geometry, photometric = draw_geometry(ALL, seed, epoch, ids), draw_photometric(ALL, seed, epoch, ids)
    columns = [getattr(geometry, field.name).reshape(len(ids), -1).T for field in fields(geometry)]
    for field in fields(photometric):
        values = getattr(photometric, field.name)
        # The places of a permutation depend on each other; its number says all.
        columns.append((values @ [64, 16, 4, 1] if field.name == "order" else values)[None])
    columns.append(noise_keys(seed, epoch, ids)[None] / 2.0**63)
    return np.concatenate(columns).astype(np.float64)


def dependences(draw: Draw, count: int = 20_000) -> list[str]:
    """What the draws of `draw`, all parameters of `count` pairs, depend on and should not.

    Each parameter is correlated with each parameter of other pairs, epochs, seeds and ops; a
    coefficient beyond 5.5 / sqrt(count) is a dependence. So is another answer to the same question.
    """
    ids = np.arange(count, dtype=np.int64)
    first = draw(3, 1, ids)

    def normed(x: Numbers) -> Numbers:
        centred = x - x.mean(axis=1, keepdims=True)
        result: Numbers = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True))
        return result

    def related(x: Numbers, y: Numbers) -> Numbers:
        result: Numbers = np.abs(normed(x) @ normed(y).T) / np.sqrt(x.shape[1])
        return result

    ops = related(first, first)
    np.fill_diagonal(ops, 0)
    found = {"ops": ops}
    for lag in (1, 2, 64):
        found[f"pairs {lag} apart"] = related(first[:, lag:], first[:, :-lag])
    others = {
        "pairs with distant ids": draw(3, 1, ids ^ 2**40),
        "epochs": draw(3, 2, ids),
        "seeds": draw(4, 1, ids),
        "visits": draw(3, 1, visit_ids(ids, 1)),
        "views": draw(3, 1, view_ids(ids, 2)[:, 1]),
    }
    found |= {name: related(first, other) for name, other in others.items()}
    faults = [name for name, values in found.items() if values.max() > 5.5]
    return faults if np.array_equal(first, draw(3, 1, ids)) else [*faults, "time"]


def test_draws_of_pairs_epochs_seeds_and_ops_are_independent() -> None:
    assert dependences(all_numbers) == []


def wall_clock() -> Draw:
    """Seeds each pair from the wall clock in seconds, as the reference does, at 50 pairs a second."""
    clock = itertools.count(1_700_000_000 * 50)

    def draw(_seed: int, _epoch: int, ids: Numbers) -> Numbers:
        seeds = np.array([int(next(clock) / 50) for _ in ids])
        distinct, place = np.unique(seeds, return_inverse=True)
        return np.stack([np.random.default_rng(seed).random(5) for seed in distinct])[place].T

    return draw


def test_a_seed_from_the_wall_clock_is_found_out() -> None:
    faults = dependences(wall_clock())
    assert {"pairs 1 apart", "pairs 2 apart", "time"} <= set(faults)


@pytest.mark.parametrize(
    ("planted", "fault"),
    [
        (lambda seed, _epoch, ids: all_numbers(seed, 0, ids), "epochs"),
        (lambda _seed, epoch, ids: all_numbers(0, epoch, ids), "seeds"),
        (lambda seed, epoch, ids: all_numbers(seed, epoch, ids)[[0, 1, 0]], "ops"),
        (lambda seed, epoch, ids: all_numbers(seed, epoch, ids % 2**32), "pairs with distant ids"),
        (lambda seed, epoch, ids: all_numbers(seed + epoch, 0, ids // 2), "pairs 1 apart"),
    ],
)
def test_a_forgotten_argument_is_found_out(planted: Draw, fault: str) -> None:
    assert fault in dependences(planted)


@given(IDS, st.randoms(use_true_random=False), st.data())
@settings(deadline=None)
def test_a_pair_draws_the_same_in_any_batch(ids: list[int], random: Any, data: st.DataObject) -> None:
    batch, rows = np.array(ids, np.int64), list(range(len(ids)))
    random.shuffle(rows)
    rows = rows[: data.draw(st.integers(1, len(rows)))]
    for draw in (draw_geometry, draw_photometric):
        whole, part = draw(ALL, 1, 2, batch), draw(ALL, 1, 2, batch[rows])
        for field in fields(whole):
            np.testing.assert_array_equal(getattr(whole, field.name)[rows], getattr(part, field.name))
    np.testing.assert_array_equal(noise_of(batch, 4)[rows], noise_of(batch[rows], 4))


# Numpy and torch


@pytest.mark.parametrize("device", DEVICES)
@given(IDS, st.integers(0, 2**63 - 1), st.integers(0, 1000))
@settings(deadline=None)
def test_torch_draws_equal_bits(device: str, ids: list[int], seed: int, epoch: int) -> None:
    array, tensor = np.array(ids, np.int64), torch.tensor(ids, device=device)
    ours, theirs = draw_photometric(ALL, seed, epoch, array), draw_photometric(ALL, seed, epoch, tensor)
    for field in fields(ours):
        expected, found = getattr(ours, field.name), getattr(theirs, field.name)
        assert found.device.type == device
        assert found.cpu().numpy().dtype == expected.dtype
        np.testing.assert_array_equal(found.cpu().numpy(), expected)


@pytest.mark.parametrize("device", DEVICES)
@given(IDS, st.integers(-(2**31), 2**31), st.integers(-(2**23), 2**23))
@settings(deadline=None)
def test_torch_gives_equal_noise(device: str, ids: list[int], y: int, x: int) -> None:
    keys = noise_keys(7, 8, np.array(ids, np.int64))
    other = noise_keys(7, 8, torch.tensor(ids, device=device))
    np.testing.assert_array_equal(other.cpu().numpy(), keys)
    ys, xs = y + np.arange(3)[None], x + np.arange(5)[None]
    levels = noise_levels(other, torch.tensor(ys, device=device), torch.tensor(xs, device=device))
    assert levels.dtype == torch.int64
    np.testing.assert_array_equal(levels.cpu().numpy(), noise_levels(keys, ys, xs))


def test_a_numpy_draw_does_without_torch() -> None:
    """The process that reads for a rank would pay for it in start time and 400 MB."""
    code = (
        "import sys, numpy as np; from train.draws.parameters import *;"
        "from train.draws.noise import *; ids = np.arange(3);"
        "draw_geometry(AugmentConfig(), 0, 0, ids); draw_photometric(AugmentConfig(), 0, 0, ids);"
        "noise_levels(ids, ids[None], ids[None]); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)
