import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from train.order.counter import permutation, stream_key, uniform, words

INT64 = st.integers(-(2**63), 2**63 - 1)


@given(INT64, st.lists(INT64, min_size=1, max_size=50), st.integers(0, 100))
def test_numpy_and_torch_give_equal_bits(key: int, ids: list[int], draw: int) -> None:
    array, tensor = np.array(ids, np.int64), torch.tensor(ids, dtype=torch.int64)
    np.testing.assert_array_equal(words(key, array, draw), words(key, tensor, draw).numpy())
    ours, theirs = uniform(key, array, draw), uniform(key, tensor, draw).numpy()
    assert ours.dtype == theirs.dtype == np.float64
    np.testing.assert_array_equal(ours, theirs)


@given(INT64, st.lists(INT64, min_size=1, max_size=50), st.integers(0, 100))
def test_uniform_numbers_lie_in_0_to_1(key: int, ids: list[int], draw: int) -> None:
    found = uniform(key, np.array(ids, np.int64), draw)
    assert (found >= 0).all()
    assert (found < 1).all()


@pytest.mark.parametrize("draw", [0, 1, 7])
@pytest.mark.parametrize("name", ["crop", "flip"])
def test_successive_ids_are_uniform_and_uncorrelated(name: str, draw: int) -> None:
    found = uniform(stream_key(3, 1, name), np.arange(50_000, dtype=np.int64), draw)
    assert stats.kstest(found, "uniform").pvalue > 1e-4
    assert abs(np.corrcoef(found[1:], found[:-1])[0, 1]) < 0.02


def test_draws_of_an_id_are_uncorrelated() -> None:
    ids = np.arange(20_000, dtype=np.int64)
    draws = [uniform(stream_key(0, 0, "crop"), ids, draw) for draw in range(5)]
    assert np.abs(np.corrcoef(draws) - np.eye(5)).max() < 0.04


@pytest.mark.parametrize(
    ("seed", "epoch", "name", "key", "word", "number"),
    [
        (0, 0, "crop", 3787104039505163255, 6183973753484270771, 0.3352338889060492),
        (1, 0, "flip", 5631506067625140672, -7901155688654366683, 0.5716774918607367),
        (2**62, 9, "blocks", 2386348579516799289, -3390764541767485869, 0.8161862858714437),
    ],
)
def test_the_numbers_never_change(
    seed: int, epoch: int, name: str, key: int, word: int, number: float
) -> None:
    """A change here would change the order and the crops of every run that is resumed."""
    ids = np.array([-5, 7], np.int64)
    assert stream_key(seed, epoch, name) == key
    assert words(key, ids, 2).tolist()[1] == word
    assert uniform(key, ids, 2).tolist()[1] == number


def test_words_equal_the_published_generator() -> None:
    """SplitMix64's first outputs from state 0, as in Vigna's splitmix64.c, by our mixing steps."""
    published = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    # `_mix` of 0 is 0, so that id = key gives SplitMix64 started at 0, its draws being the steps.
    found = [int(words(11, np.array([11], np.int64), draw)[0]) % 2**64 for draw in range(3)]
    assert found == published


@given(INT64, st.integers(0, 300))
def test_a_permutation_holds_every_number_once(key: int, count: int) -> None:
    assert sorted(permutation(key, count).tolist()) == list(range(count))


def test_the_order_and_its_numbers_do_without_torch() -> None:
    """The process that reads for a rank would pay for it in start time and 400 MB."""
    code = "import sys, train.order.epoch, train.order.counter; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)
