"""`pack.audit` sees what a detector sees beside the decoder's trace: 24 pairs of 96 pixels show each leak."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from audit_data import SIDE, as_png, photographs, write_dataset
from audit_leaks import HIDDEN_LEAKS, LEAKS, Change, Leak, jpeg

from pack.inspect.audit.command import Audit, AuditConfig, audit
from pack.inspect.audit.judge.judged import OF_PAIRS, OFTEN_UNKNOWN
from pack.inspect.audit.judge.nuisances import judge_beats
from pack.inspect.audit.judge.separation import smallest_share
from pack.inspect.audit.measured.images import Measurements
from pack.inspect.audit.traces.image import image_values
from recon.image.codec import Pixels
from recon.models.config import ReconstructionConfig
from recon.models.load import load
from recon.reconstruct import reconstruct


@pytest.fixture(scope="module")
def tiny() -> list[Pixels]:
    """The photographs' reconstructions by the embedded autoencoder."""
    images = photographs()
    autoencoder = load(ReconstructionConfig(autoencoder="tiny", device="cpu", threads=1))
    return reconstruct(autoencoder, images, [f"{number}" for number in range(len(images))], 8)


def audited(folder: Path, reals: list[Pixels], fakes: list[Pixels]) -> Audit:
    lines = [
        (f"{number}", as_png(real), as_png(fake))
        for number, (real, fake) in enumerate(zip(reals, fakes, strict=True))
    ]
    return audit(AuditConfig(urls=[write_dataset(folder / "set", lines)], threads=1))


def leaks(folder: Path, reals: list[Pixels], fakes: list[Pixels]) -> set[str]:
    return {one.name for one in audited(folder, reals, fakes).leaks}


@pytest.mark.parametrize("leak", LEAKS.values(), ids=LEAKS)
def test_leak_is_found_behind_a_decoder(tmp_path: Path, tiny: list[Pixels], leak: Leak) -> None:
    reals, fakes = map(leak.of_real, photographs()), map(leak.of_fake, tiny)
    assert leak.name in leaks(tmp_path, list(reals), list(fakes))


@pytest.mark.parametrize("leak", HIDDEN_LEAKS.values(), ids=HIDDEN_LEAKS)
def test_leak_that_decoders_cause_too_is_found_without_one(tmp_path: Path, leak: Leak) -> None:
    """Sharpening, and colours weaker by 3 %: a decoder's own changes of both are larger."""
    found = leaks(tmp_path, photographs(), [leak.of_fake(one) for one in photographs()])
    assert leak.name in found
    assert not found & {"low_end", "high_end"}


def test_old_jpeg_of_the_photographs_says_what_to_do(tmp_path: Path, tiny: list[Pixels]) -> None:
    found = audited(tmp_path, [jpeg(75, down=3, across=5)(one) for one in photographs()], tiny)
    leak = next(one for one in found.leaks if one.name == "jpeg_photographs")
    assert (leak.real, leak.fake) == ("100% were", "0% were")
    assert leak.advice.startswith("your photographs were JPEG once, your fakes were not")
    assert "--codec both" in leak.advice


def test_exchange_of_real_and_fake_is_silent(tmp_path: Path, tiny: list[Pixels]) -> None:
    pairs = [
        pair[:: -1 if number % 2 else 1] for number, pair in enumerate(zip(photographs(), tiny, strict=True))
    ]
    assert leaks(tmp_path, [one for one, _ in pairs], [other for _, other in pairs]) == set()


def test_soft_reconstructions_are_not_called_sharpened_in_whatever_order(tmp_path: Path) -> None:
    """Half of the exchanged pairs have the sharper image as their fake, and half the softer one."""
    sharp = photographs(36)
    soft = [softened(one) for one in sharp]
    turned = [pair[:: -1 if n % 2 else 1] for n, pair in enumerate(zip(sharp, soft, strict=True))]
    assert "sharpness" not in leaks(tmp_path / "in order", sharp, soft)
    assert "sharpness" not in leaks(tmp_path / "turned", [a for a, _ in turned], [b for _, b in turned])
    assert "sharpness" in leaks(tmp_path / "sharper", soft, sharp)


def softened(pixels: Pixels) -> Pixels:
    """The mean of each pixel and its neighbours, those beside it counting half."""
    wide = np.pad(pixels.astype(np.float64), ((1, 1), (1, 1), (0, 0)), "edge")
    rows = (wide[:-2] + 2 * wide[1:-1] + wide[2:]) / 4
    return np.asarray(((rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 4).round(), np.uint8)


@pytest.mark.parametrize("coded", [jpeg(80, "4:4:4", down=2, across=6), jpeg(90)])
def test_old_jpeg_in_both_halves_alike_is_silent(tmp_path: Path, tiny: list[Pixels], coded: Change) -> None:
    found = leaks(tmp_path, [coded(one) for one in photographs()], [coded(one) for one in tiny])
    assert found & {"jpeg_photographs", "jpeg_steps", "chroma_halved", "resampled"} == set()


def test_halved_chroma_is_seen_beside_clipped_colours() -> None:
    """Clipping changes the chroma of some pixels, so that it is no longer exactly halved."""
    bright = [np.minimum(one.astype(np.uint16) + 30, 255).astype(np.uint8) for one in photographs(5)]
    assert [image_values(jpeg(90)(one))["chroma_halved"] for one in bright] == [1.0] * 5
    assert [image_values(one)["chroma_halved"] for one in bright] == [0.0] * 5


def test_smooth_chroma_may_be_halved_or_not() -> None:
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    smooth = np.stack([x + 60, y + 60, 220 - x], axis=2).astype(np.uint8)
    assert np.isnan(image_values(smooth)["chroma_halved"])


def test_images_below_64_pixels_are_named_as_too_small(tmp_path: Path) -> None:
    small = [one[:48, :48] for one in photographs(8)]
    verdicts = {one.name: one.verdict for one in audited(tmp_path, small, small).findings}
    assert {name for name in verdicts if verdicts[name] == "too small"} == {*OFTEN_UNKNOWN, *OF_PAIRS} - {
        "jpeg_before"
    }


@pytest.mark.parametrize("count", [8, 12])
def test_chance_seldom_looks_like_scaling(count: int) -> None:
    """The strongest of eight frequencies always agrees with itself; only other photographs may name it."""
    rng, named = np.random.default_rng(0), 0
    for _ in range(400):
        beats_NK = rng.normal(size=(count, 8)) + 1j * rng.normal(size=(count, 8))
        pairs = [SimpleNamespace(beats=one) for one in beats_NK]
        found = judge_beats(Measurements(pairs=pairs), np.arange(count), 0.6)  # type: ignore[arg-type]
        named += found.verdict == "LEAK"
    assert named <= 10


def test_power_says_how_large_a_leak_must_be(tmp_path: Path, tiny: list[Pixels]) -> None:
    found = audited(tmp_path, photographs(), tiny)
    assert found.leaks == []
    power = next(one for one in found.findings if one.name == "power")
    share = smallest_share(24, 0.6)
    assert share is not None
    assert power.real == f"leaks in {share:.0%} of the pairs show"


@pytest.mark.parametrize(("photographs", "at_most"), [(8, 1.0), (24, 0.7), (106, 0.4), (2000, 0.25)])
def test_more_photographs_show_smaller_leaks(photographs: int, at_most: float) -> None:
    share = smallest_share(photographs, 0.6)
    assert share is not None
    assert 0.2 < share <= at_most


def test_fewer_than_eight_photographs_show_nothing() -> None:
    assert smallest_share(7, 0.6) is None
