"""Every drawn parameter has its distribution, as the table of the recipe gives it."""

import hashlib
import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from torchvision.transforms import transforms as published

from train.draws import parameters as draws_module
from train.draws.boxes import cutout_box, pick, resized_box
from train.draws.config import AugmentConfig
from train.draws.noise import NORMALS, noise_keys, noise_levels
from train.draws.parameters import (
    JITTER,
    GeometryDraws,
    PhotometricDraws,
    draw_geometry,
    draw_photometric,
    visit_ids,
)

Numbers = NDArray[Any]

COUNT = 100_000
ALL = AugmentConfig(
    webp_p=0.3, sharpen_p=0.2, mix_p=0.1, frequency_mix_p=0.2, pre_crop_p=0.3, resized_crop_side=(128, 255)
)
OPS = ("jitter", "grey", "noise", "blur", "jpeg", "webp", "sharpen", "mix", "frequency_mix")
INT64 = st.integers(-(2**63), 2**63 - 1)
ID_SETS = {
    "successive": np.arange(COUNT, dtype=np.int64),
    "hashed": visit_ids(np.arange(COUNT, dtype=np.int64), 1),
}
IDS_5000 = np.arange(5000, dtype=np.int64)


@pytest.fixture(scope="module", params=list(ID_SETS))
def geometry(request: pytest.FixtureRequest) -> GeometryDraws:
    return draw_geometry(ALL, 5, 2, ID_SETS[request.param])


@pytest.fixture(scope="module", params=list(ID_SETS))
def photometric(request: pytest.FixtureRequest) -> PhotometricDraws:
    return draw_photometric(ALL, 5, 2, ID_SETS[request.param])


def assert_uniform(values: Numbers, low: float, high: float) -> None:
    assert low <= values.min()
    assert values.max() <= high
    assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 1e-4


def assert_equally_likely(places: Numbers, count: int) -> None:
    """Each of 0..count-1."""
    found = np.bincount(places, minlength=count)
    assert len(found) == count
    assert stats.chisquare(found).pvalue > 1e-4


def assert_probability(on: Numbers, p: float) -> None:
    assert on.dtype == np.bool_
    assert stats.binomtest(int(on.sum()), on.size, p).pvalue > 1e-4


# Distributions: design section 6


@pytest.mark.parametrize("op", OPS)
def test_an_op_comes_with_its_probability(photometric: PhotometricDraws, op: str) -> None:
    assert_probability(getattr(photometric, op), getattr(ALL, f"{op}_p"))


def test_a_geometric_op_comes_with_its_probability(geometry: GeometryDraws) -> None:
    assert_probability(geometry.resized, 0.2)
    assert_probability(geometry.cutout, 0.2)
    assert_probability(geometry.flip, 0.5)
    assert_probability(geometry.pre_crop, 0.3)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("brightness", 0.6, 1.4),
        ("contrast", 0.6, 1.4),
        ("saturation", 0.6, 1.4),
        ("hue", -0.1, 0.1),
        ("blur_sigma", 0.0, 3.0),
        ("sharpen_amount", *ALL.sharpen),
        ("mix_fake", *ALL.mix_fake),
        ("frequency_mix_fake", *ALL.frequency_mix_fake),
    ],
)
def test_a_parameter_is_uniform(photometric: PhotometricDraws, name: str, low: float, high: float) -> None:
    assert_uniform(getattr(photometric, name), low, high)


def test_the_noise_variance_is_uniform(photometric: PhotometricDraws) -> None:
    assert_uniform(photometric.noise_sigma**2, 10 - 1e-9, 50 + 1e-9)


@pytest.mark.parametrize("name", ["jpeg_quality", "webp_quality"])
def test_qualities_are_equally_likely_integers(photometric: PhotometricDraws, name: str) -> None:
    assert_equally_likely(getattr(photometric, name) - 30, 71)


def test_the_sides_of_the_resized_crop_are_equally_likely(geometry: GeometryDraws) -> None:
    assert_equally_likely(geometry.resized_side - 128, 128)


def test_the_orders_of_the_jitter_are_equally_likely(photometric: PhotometricDraws) -> None:
    found, counts = np.unique(photometric.order, axis=0, return_counts=True)
    assert found.tolist() == [list(order) for order in itertools.permutations(range(len(JITTER)))]
    assert stats.chisquare(counts).pvalue > 1e-4


def test_rotations_are_equally_likely(geometry: GeometryDraws) -> None:
    assert_equally_likely(geometry.rotation, 4)


def test_the_crop_lies_anywhere(geometry: GeometryDraws) -> None:
    for u in geometry.crop.T:
        assert_uniform(u, 0, 1)
        assert_equally_likely(np.array([pick(value, 160 - 96 + 1) for value in u]), 65)


def test_the_hole_is_centred_anywhere_both_borders_included(geometry: GeometryDraws) -> None:
    boxes = np.array([cutout_box(centre, 1, 30, 40) for centre in geometry.cutout_centre])
    assert_equally_likely(boxes[:, 0], 31)
    assert_equally_likely(boxes[:, 1], 41)


def test_the_first_try_of_the_resized_crop_has_its_distribution(geometry: GeometryDraws) -> None:
    """A try of up to .75 of a square's area fits at every ratio; larger ones may not, which skews them."""
    side, low = 1_000_000, np.log(3 / 4)
    tries = np.repeat(geometry.resized_tries[:, :1], 10, axis=1)
    top, left, h, w = np.array([resized_box(one, side, side) for one in tries]).T
    areas = h / side * (w / side)
    small = areas < 0.75
    assert_probability(small, (0.75 - 0.08) / (1 - 0.08))
    assert_uniform(areas[small], 0.08 - 1e-5, 0.75)
    assert_uniform(np.log(w / h)[small], low - 1e-5, -low + 1e-5)
    assert_uniform((top[small] + 0.5) / (side - h[small] + 1), 0, 1)
    assert_uniform((left[small] + 0.5) / (side - w[small] + 1), 0, 1)


@pytest.mark.parametrize("name", ["resized_tries", "cutout_centre", "pre_crop_place"])
def test_all_uniform_numbers_are_uniform(geometry: GeometryDraws, name: str) -> None:
    for u in getattr(geometry, name).reshape(COUNT, -1).T:
        assert_uniform(u, 0, 1)


# The noise field


def fields_of(ids: Numbers, side: int, seed: int = 5, epoch: int = 2) -> Numbers:
    place = np.arange(side, dtype=np.int64)[None]
    return noise_levels(noise_keys(seed, epoch, ids), place, place)


def test_noise_is_normal() -> None:
    levels = fields_of(np.arange(100), 64)
    assert levels.shape == (100, 3, 64, 64)
    assert_equally_likely(levels.ravel() >> 6, 1024)
    values = NORMALS[levels].astype(np.float64)
    assert abs(values.mean()) < 5 / values.size**0.5
    assert abs(values.var() - 1) < 5 * (2 / values.size) ** 0.5
    assert stats.kstest(values.ravel(), "norm").pvalue > 1e-4


def test_noise_of_pixels_channels_pairs_and_epochs_is_uncorrelated() -> None:
    """At every shift in both directions, by a Fourier transform."""
    both = np.concatenate([fields_of(np.arange(2), 512), fields_of(np.arange(1), 512, epoch=3)])
    spectra = np.fft.rfft2(NORMALS[both.reshape(9, 512, 512)].astype(np.float64))
    for i, j in itertools.combinations_with_replacement(range(9), 2):
        shifts = np.fft.irfft2(spectra[i] * spectra[j].conj()) / 512
        if i == j:
            shifts[0, 0] = 0
        assert np.abs(shifts).max() < 6.5  # of 12 million normal numbers


def test_the_noise_of_a_window_is_that_part_of_the_images_noise() -> None:
    keys, place = noise_keys(0, 0, np.arange(3)), np.arange(200, dtype=np.int64)
    whole = noise_levels(keys, place[None], place[None])
    starts = np.array([[3], [0], [90]], np.int64)
    part = noise_levels(keys, starts + np.arange(60), starts + 5 + np.arange(70))
    for row, (start,) in enumerate(starts):
        window = whole[row, :, start : start + 60, start + 5 : start + 75]
        np.testing.assert_array_equal(part[row], window)


def test_the_normals_are_mirrored_quantiles() -> None:
    assert NORMALS.dtype == np.float32
    np.testing.assert_array_equal(NORMALS, -NORMALS[::-1])
    exact = stats.norm.ppf((np.arange(65536) + 0.5) / 65536)
    np.testing.assert_array_equal(NORMALS, exact.astype(np.float32))
    assert NORMALS.astype(np.float64).var() == pytest.approx(0.99998, abs=1e-6)


def test_no_normal_is_at_the_mercy_of_a_librarys_last_bit() -> None:
    """Quantiles keep their distance from where the rounding turns: libraries differ by about 1e-15."""
    exact = stats.norm.ppf((np.arange(65536) + 0.5) / 65536)
    for side in (-np.inf, np.inf):
        turns = (NORMALS.astype(np.float64) + np.nextafter(NORMALS, np.float32(side))) / 2
        assert np.abs(turns / exact - 1).min() > 1e-12


@given(st.floats(0, 255**2, width=32))
def test_no_sigma_is_at_the_mercy_of_a_roots_last_bit(variance: float) -> None:
    root = variance**0.5
    near = [float(np.float32(np.nextafter(root, side))) for side in (0, np.inf)]
    config = AugmentConfig(noise_variance=(variance, variance))
    found = draw_photometric(config, 0, 0, np.array([0])).noise_sigma.tolist()
    assert variance == 0 or [*found, *found] == near


# Boxes


class Feed:
    """Stands in for torch in torchvision's `get_params`: gives it the uniform numbers of given tries."""

    log, exp = staticmethod(torch.log), staticmethod(torch.exp)

    def __init__(self, tries: Numbers) -> None:
        self.tries, self.numbers = iter(tries), iter(())

    def tensor(self, values: Any) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float64)

    def empty(self, _count: int) -> Any:
        def uniform(low: float, high: float) -> torch.Tensor:
            if low == 0.08:  # an area: the next try begins
                self.numbers = iter(next(self.tries))
            return torch.as_tensor(low + next(self.numbers) * (high - low))

        return SimpleNamespace(uniform_=uniform)

    def randint(self, low: int, high: int, size: tuple[int]) -> torch.Tensor:
        assert (low, size) == (0, (1,))
        return torch.tensor([pick(next(self.numbers), high)])


@given(st.integers(1, 900), st.integers(1, 900), INT64)
@settings(max_examples=400, deadline=None)
def test_the_resized_crop_is_torchvisions(height: int, width: int, pair: int) -> None:
    tries = draw_geometry(ALL, 0, 0, np.array([pair])).resized_tries[0]
    assert resized_box(tries, height, width) == torchvisions_box(tries, height, width)


@given(st.integers(1, 60), st.integers(100, 900), st.booleans(), INT64)
@settings(max_examples=100, deadline=None)
def test_the_fallback_is_torchvisions(short: int, long: int, wide: bool, pair: int) -> None:
    """Elongated images, of which few tries fit."""
    height, width = (short, long) if wide else (long, short)
    tries = draw_geometry(ALL, 0, 0, np.array([pair])).resized_tries[0]
    assert resized_box(tries, height, width) == torchvisions_box(tries, height, width)


@given(st.integers(1, 900), st.integers(1, 900), st.floats(0.1, 1), INT64)
@settings(max_examples=100, deadline=None)
def test_the_resized_crop_is_torchvisions_for_any_ratio(
    height: int, width: int, ratio: float, pair: int
) -> None:
    tries = draw_geometry(ALL, 0, 0, np.array([pair])).resized_tries[0]
    assert resized_box(tries, height, width, ratio) == torchvisions_box(tries, height, width, ratio)


def torchvisions_box(tries: Numbers, height: int, width: int, ratio: float = 3 / 4) -> tuple[int, ...]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(published, "torch", Feed(tries))
        image = torch.empty(1, height, width)
        box: tuple[int, ...] = published.RandomResizedCrop.get_params(image, [0.08, 1.0], [ratio, 1 / ratio])
        return box


@given(
    st.integers(1, 99), st.integers(1, 300), st.integers(1, 300), st.floats(0, 1, exclude_max=True), st.data()
)
def test_the_hole_is_cut_off_at_the_border(
    side: int, height: int, width: int, u_y: float, data: st.DataObject
) -> None:
    u_x = data.draw(st.floats(0, 1, exclude_max=True))
    y, x = pick(u_y, height + 1), pick(u_x, width + 1)
    y1, x1 = max(y - side // 2, 0), max(x - side // 2, 0)
    expected = (y1, x1, min(y1 + side, height), min(x1 + side, width))
    assert cutout_box(np.array([u_y, u_x]), side, height, width) == expected
    assert expected[2] >= y1
    assert expected[3] >= x1


@pytest.mark.parametrize(
    ("u", "box"),
    [(0.0, (0, 0, 48, 48)), (0.5, (26, 126, 74, 174)), (1 - 2**-53, (76, 276, 100, 300))],
)
def test_the_hole_reaches_both_borders(u: float, box: tuple[int, ...]) -> None:
    assert cutout_box(np.array([u, u]), 48, 100, 300) == box


# Options and edges


@pytest.mark.parametrize(
    ("u", "end", "order"), [(0.0, 0, [0, 1, 2, 3]), (1 - 2**-53, 1, [3, 2, 1, 0])], ids=["first", "last"]
)
def test_the_first_and_the_last_number_stay_in_all_ranges(
    monkeypatch: pytest.MonkeyPatch, u: float, end: int, order: list[int]
) -> None:
    monkeypatch.setattr(draws_module, "uniform", lambda *_: np.full((1, 21), u))
    for quality in itertools.combinations_with_replacement(range(1, 101), 2):
        found = draw_photometric(AugmentConfig(jpeg_quality=quality), 0, 0, np.array([0]))
        assert found.jpeg_quality.tolist() == [quality[end]]
        assert found.order.tolist() == [order]


@pytest.mark.parametrize("p", [0.0, 1.0, 0, 1])
def test_probabilities_0_and_1_are_never_and_always(p: float) -> None:
    geometric = {"resized_crop": "resized", "flip": "flip", "cutout": "cutout", "pre_crop": "pre_crop"}
    config = AugmentConfig(**{f"{op}_p": p for op in (*geometric, *OPS)})  # type: ignore[arg-type]
    places, colours = draw_geometry(config, 0, 0, IDS_5000), draw_photometric(config, 0, 0, IDS_5000)
    found = [getattr(places, name) for name in geometric.values()]
    found += [getattr(colours, name) for name in OPS]
    assert (np.stack(found) == bool(p)).all()


def test_options_set_the_ranges() -> None:
    options: dict[str, Any] = {
        "noise_variance": [4, 4],
        "jpeg_quality": [7, 8],
        "kornia": [{"name": "RandomErasing"}],
    }
    config = AugmentConfig(brightness=2.0, hue=0.5, **options)
    arrays, tensors = IDS_5000, torch.from_numpy(IDS_5000)
    for found in (draw_photometric(config, 0, 0, arrays), draw_photometric(config, 0, 0, tensors)):
        assert_uniform(np.asarray(found.brightness), 0, 3)
        assert_uniform(np.asarray(found.hue), -0.5, 0.5)
        assert (found.noise_sigma == 2).all()
        assert set(found.jpeg_quality.tolist()) == {7, 8}


def test_the_numbers_never_change() -> None:
    """A change here would change the pixels of every run that is resumed."""
    ids = np.array([-5, 7], np.int64)
    geometry, photometric = draw_geometry(ALL, 1, 2, ids), draw_photometric(ALL, 1, 2, ids)
    assert geometry.crop[1].tolist() == pytest.approx([0.88130568, 0.91081944], abs=1e-8)
    assert geometry.cutout_centre[1].tolist() == pytest.approx([0.28206279, 0.47990362], abs=1e-8)
    assert geometry.resized_tries[1, 3, :2].tolist() == pytest.approx([0.2357586, 0.63529647], abs=1e-8)
    assert photometric.brightness.tolist() == [0.9945755183429998, 0.6334706725352981]
    assert photometric.noise_sigma.tolist() == [5.6106696128845215, 6.951603412628174]
    assert photometric.jpeg_quality.tolist() == [64, 85]
    levels = noise_levels(noise_keys(1, 2, ids), np.array([[-1, 70000]]), np.array([[3]]))
    assert levels[1, :, :, 0].tolist() == [[31688, 23917], [9866, 7525], [9066, 59297]]
    table = hashlib.sha256(NORMALS.astype("<f4").tobytes()).hexdigest()
    assert table == "1cfbba1e07e34386a57626f82aeb43e6ed54ba70a3ea6b7d964dc66a841074a8"
