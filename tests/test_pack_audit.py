"""`pack.audit` fires on each planted leak, and is silent where nothing but a decoder's trace differs."""

from pathlib import Path

import numpy as np
import pytest
from audit_data import (
    as_fine_jpeg,
    as_jpeg,
    as_png,
    brighter,
    darker,
    packed_by,
    photograph,
    photographs,
    planted,
    truncated,
    unpacked,
    write_dataset,
)

from pack.dataset.dataset import iterate_pairs
from pack.inspect.audit.command import Audit, AuditConfig, audit
from pack.inspect.audit.judge.nuisances import Finding
from recon.image.codec import Pixels


def audited(*urls: str, **options: object) -> Audit:
    return audit(AuditConfig(urls=list(urls), threads=2, **options))  # type: ignore[arg-type]


def leaks(*urls: str, **options: object) -> set[str]:
    return {one.name for one in audited(*urls, **options).leaks}


def finding(found: Audit, name: str) -> Finding:
    return next(one for one in found.findings if one.name == name)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Photographs and their reconstructions by the embedded autoencoder, both PNG; to be read only."""
    return packed_by("tiny", tmp_path_factory.mktemp("tiny"), "png")


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [("png", "match"), ("png", "lossless-png"), ("png", "lossless-webp"), ("jpg", "match")],
)
def test_null_control_is_silent(tmp_path: Path, suffix: str, codec: str) -> None:
    if codec == "lossless-webp":  # from PNG, it is another codec that gives the fake away
        assert leaks(packed_by("identity", tmp_path, suffix, codec)) == {"codec", "probe"}
    else:
        assert leaks(packed_by("identity", tmp_path, suffix, codec)) == set()


def test_reconstructions_by_a_clean_autoencoder_are_silent(tiny: str) -> None:
    assert leaks(tiny) == set()


def test_jpeg_reconstructions_that_match_are_silent(tmp_path: Path) -> None:
    assert leaks(packed_by("tiny", tmp_path, "jpg")) == set()


def test_truncation_is_found_by_its_shift_and_its_gaps(tmp_path: Path) -> None:
    found = audited(planted(tmp_path / "truncated", truncated))
    assert {one.name for one in found.leaks} >= {"red", "lost_level"}
    assert "without rounding" in finding(found, "red").advice
    assert finding(found, "lost_level").fake == "100% lack 63"


def test_truncation_is_found_behind_a_jpeg_of_the_same_coding(tmp_path: Path) -> None:
    url = planted(tmp_path / "truncated", truncated, coded=as_fine_jpeg, fakes_coded=as_fine_jpeg)
    assert leaks(url) & {"red", "green", "blue"}


def test_png_against_jpeg_is_found_and_says_what_to_do(tmp_path: Path) -> None:
    found = audited(planted(tmp_path / "codecs", lambda pixels: pixels, coded=as_jpeg))
    assert "codec" in {one.name for one in found.leaks}
    assert "real jpeg against fake png" in finding(found, "codec").advice
    assert "--codec match" in finding(found, "codec").advice


def test_coarser_jpeg_is_found(tmp_path: Path) -> None:
    url = planted(tmp_path / "quality", lambda p: p, coded=lambda p: as_jpeg(p, 90), fakes_coded=as_jpeg)
    assert leaks(url) >= {"jpeg_quality", "jpeg_tables"}


def test_jpeg_that_was_stored_anew_as_png_is_found_by_its_traces(tmp_path: Path) -> None:
    url = planted(tmp_path / "traces", lambda pixels: unpacked(as_jpeg(pixels, 70)))
    assert leaks(url) >= {"jpeg_traces"}


def test_three_pixels_of_size_are_found(tmp_path: Path) -> None:
    found = audited(planted(tmp_path / "sizes", lambda pixels: pixels[:, :-3]))
    assert "size" in {one.name for one in found.leaks}
    assert "real 96x96 against fake 93x96" in finding(found, "size").advice


def test_one_pair_of_unequal_sizes_is_found(tmp_path: Path) -> None:
    images = photographs()
    pairs = [(f"{n}.png", as_png(one), as_png(one if n else one[:-1])) for n, one in enumerate(images)]
    assert leaks(write_dataset(tmp_path / "one", pairs)) == {"size"}


@pytest.mark.parametrize("change", [brighter, darker])
def test_shift_by_one_level_is_found(tmp_path: Path, change: object) -> None:
    assert leaks(planted(tmp_path / "shifted", change)) >= {"red", "green", "blue"}  # type: ignore[arg-type]


def test_shift_of_one_channel_is_found_there(tmp_path: Path) -> None:
    def bluer(pixels: Pixels) -> Pixels:
        return np.concatenate([pixels[..., :2], brighter(pixels[..., 2:])], axis=2)

    assert leaks(planted(tmp_path / "blue", bluer)) & {"red", "green", "blue"} == {"blue"}


@pytest.mark.parametrize(("change", "end"), [(brighter, "low_end"), (darker, "high_end")])
def test_shift_is_found_on_top_of_a_decoder_with_a_bias_of_its_own(
    tmp_path: Path, change: object, end: str
) -> None:
    """A stand-in for a good decoder: smooth noise, and a bias that varies more than the shift."""

    def decoded(pixels: Pixels) -> Pixels:
        rng = np.random.default_rng(int(pixels.sum()))
        soft = pixels + rng.normal(0.3, 1.5) + rng.normal(0, 3, pixels.shape)
        return np.rint(soft.clip(0, 255)).astype(np.uint8)

    assert leaks(planted(tmp_path / "clean", decoded)) == set()
    assert leaks(planted(tmp_path / "shifted", lambda pixels: change(decoded(pixels)))) >= {end}  # type: ignore[operator]


def test_shift_in_half_of_the_pairs_is_found(tmp_path: Path) -> None:
    pairs = [(f"{n}", as_png(p), as_png(brighter(p) if n % 2 else p)) for n, p in enumerate(photographs(60))]
    assert leaks(write_dataset(tmp_path / "half", pairs)) >= {"red", "green", "blue"}


def test_bound_decides(tmp_path: Path) -> None:
    pairs = [
        (f"{n}", as_png(p), as_jpeg(p) if n % 3 == 0 else as_png(p)) for n, p in enumerate(photographs(30))
    ]
    url = write_dataset(tmp_path / "some", pairs)
    assert "codec" in leaks(url, bound=0.6)
    assert "codec" not in leaks(url, bound=0.7)


def test_few_photographs_are_too_few_for_numbers_but_not_for_facts(tmp_path: Path) -> None:
    found = audited(planted(tmp_path / "few", lambda p: brighter(p)[:-3], photographs(3)))
    assert [one.name for one in found.leaks] == ["size"]
    assert finding(found, "red").verdict == finding(found, "probe").verdict == "too few"


def test_sample_is_spread_over_all_splits_and_bounds_what_is_measured(tmp_path: Path) -> None:
    one = planted(tmp_path / "one", lambda p: p, photographs(20))
    other = planted(tmp_path / "other", lambda p: p, [photograph(seed) for seed in range(50, 60)])
    sample = audited(one, other, pairs=15).sample
    assert [pair.split for pair in sample.pairs].count(0) == 10
    assert len(sample.pairs) == len({(pair.split, pair.key) for pair in sample.pairs}) == 15


def test_sample_does_not_depend_on_threads(tmp_path: Path) -> None:
    url = planted(tmp_path / "one", truncated)
    results = [audit(AuditConfig(urls=[url], threads=threads)).findings for threads in (1, 5)]
    assert results[0] == results[1]


def test_shift_moves_levels_alone(tmp_path: Path) -> None:
    """The planted dataset is what its name says, so that what fires does so for the right reason."""
    for pair in iterate_pairs(planted(tmp_path / "shifted", brighter, photographs(4))):
        real, fake = unpacked(pair.real), unpacked(pair.fake)
        assert ((fake.astype(int) - real == 1) | (real == 255)).all()


def test_truncation_moves_a_quarter_of_the_levels_by_one() -> None:
    levels = np.arange(256, dtype=np.uint8)
    moved = levels.astype(int) - truncated(levels)
    assert set(moved) == {0, 1}
    assert moved.sum() == 63
