"""`python -m pack.audit --probe net`: a network on pairs whose halves differ in their coding alone."""

import json
import sys
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from audit_data import as_jpeg, as_png, photograph, unpacked, write_dataset
from PIL import Image

from pack.dataset.dataset import open_dataset
from pack.dataset.pairs import StoredPair
from pack.inspect.audit import command
from pack.inspect.audit.judge.separation import Separation
from pack.inspect.audit.measured.images import changed_share
from pack.inspect.audit.networks import coding, network
from pack.inspect.audit.networks.control import control
from pack.inspect.audit.networks.network import SIDE
from pack.inspect.audit.networks.pairs import Windows, read_pairs
from recon.image.codec import Pixels, decode

PAIRS, STEPS = 20, 10
SEEDS = range(PAIRS)


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A twelfth of the work of a training step."""
    monkeypatch.setattr(network, "_CROP", 32)
    monkeypatch.setattr(network, "_BATCH", 6)


def controls(*halves: tuple[Pixels, Pixels]) -> Windows:
    windows = [np.stack([one.transpose(2, 0, 1) for one in pair]) for pair in halves]
    return Windows(windows=windows, names=[f"{number}.png" for number in range(len(halves))])


def found(pairs: Windows, **options: int) -> Separation:
    area = coding.net_probe(pairs, **{"steps": STEPS} | options)
    assert area is not None
    return area


def small(seed: int) -> Pixels:
    return photograph(seed, 64)


def recompressed(pixels: Pixels) -> Pixels:
    return unpacked(as_jpeg(pixels))


def read(folder: Path, pairs: Iterable[tuple[str, bytes, bytes]]) -> Windows:
    result = Windows()
    for _ in read_pairs(result, [open_dataset(write_dataset(folder, pairs))], PAIRS, control):
        pass
    return result


def test_fakes_that_were_jpeg_against_reals_that_were_not_are_found() -> None:
    pairs = controls(*((one, recompressed(one)) for one in map(small, SEEDS)))
    finding = coding.judge_net(pairs, 0.6, steps=STEPS)
    assert (finding.verdict, finding.separation) == ("LEAK", found(pairs))  # the same twice: by seed
    assert "code both halves alike" in finding.advice


def test_halves_exchanged_by_chance_give_an_interval_that_holds_one_half() -> None:
    flips = np.random.default_rng(0).permutation(PAIRS) % 2
    both = [(one, recompressed(one)) for one in map(small, SEEDS)]
    area = found(controls(*(pair[:: 1 - 2 * flip] for pair, flip in zip(both, flips, strict=True))))
    assert area.low < 0.5 < area.high


def test_equal_halves_need_no_training_and_give_one_half() -> None:
    finding = coding.judge_net(controls(*((one, one) for one in map(small, SEEDS))), 0.6, steps=0)
    assert finding.separation == Separation(value=0.5, low=0.5, high=0.5)
    assert "equal" in finding.advice


def test_pairs_of_one_photograph_are_too_few_and_no_photograph_is_in_two_folds() -> None:
    one = photograph(0, 64)
    finding = coding.judge_net(controls(*[(one, recompressed(one))] * PAIRS), 0.6, steps=0)
    assert finding.verdict == "too few"


def test_lossless_fakes_of_png_become_equal_halves_whatever_the_decoder_left(tmp_path: Path) -> None:
    one = small(0)
    pairs = read(tmp_path / "set", [("a.png", as_png(one), as_png(small(1)))])
    assert np.array_equal(pairs.windows[0][0], pairs.windows[0][1])


def test_content_of_a_control_is_equal_and_each_half_coded_as_it_is_stored(tmp_path: Path) -> None:
    real, fake = photograph(0, SIDE), photograph(1, SIDE)
    files = {"png": as_png, "jpg": as_jpeg}
    lines = [(f"{a} {b}", files[a](real), files[b](fake)) for a in files for b in files if "jpg" in (a, b)]
    pairs = read(tmp_path / "set", lines)
    expected = {
        "png jpg": (real, recompressed(real)),
        "jpg png": (recompressed(fake), fake),
        "jpg jpg": (recompressed(real), recompressed(recompressed(real))),
    }
    for name, window in zip(pairs.names, pairs.windows, strict=True):
        for half, pixels in zip(window, expected[name], strict=True):
            assert np.array_equal(half.transpose(1, 2, 0), pixels), name


@pytest.mark.parametrize(("autoencoder", "is_stored"), [("identity", True), ("sd15", False)])
def test_pair_of_the_identity_is_taken_as_it_is_stored(autoencoder: str, is_stored: bool) -> None:
    """A JPEG that only the fake went through, before both became PNG."""
    one = small(0)
    about = json.dumps({"autoencoder": autoencoder}).encode()
    members = {"real.png": as_png(one), "fake.png": as_png(recompressed(one)), "json": about}
    real, fake = control(StoredPair(key="a", url="", group="", pair_id=0, members=members))
    assert np.array_equal(real, fake) != is_stored


def test_lossy_webp_is_left_out_with_its_cause(tmp_path: Path) -> None:
    out = BytesIO()
    Image.fromarray(small(0)).save(out, "WEBP", quality=80)
    pairs = read(tmp_path / "set", [("a.webp", out.getvalue(), as_png(small(0)))])
    assert not pairs.windows
    assert "lossy WebP" in pairs.describe("control pair")


def test_command_prints_what_the_network_found_and_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(network, "STEPS", STEPS)
    lines = [(f"{seed}.png", as_png(small(seed)), as_jpeg(small(seed))) for seed in SEEDS]
    url = write_dataset(tmp_path / "set", lines)
    monkeypatch.setattr(
        sys, "argv", ["audit", url, "--probe", "net", "--threads", "2", "--out", f"{tmp_path}/out"]
    )
    with pytest.raises(SystemExit) as end:
        command.main()
    assert end.value.code == 1
    assert "LEAK net: a small network tells the halves" in capsys.readouterr().out
    assert "net" in json.loads((tmp_path / "out/audit.json").read_text())["leaks"]


def test_share_of_values_that_one_more_compression_changes_falls_with_every_compression() -> None:
    once = decode(as_jpeg(photograph(0)), max_pixels=1 << 24)
    twice = decode(as_jpeg(once.pixels), max_pixels=1 << 24)
    assert 0 < changed_share(twice) < changed_share(once)
    assert np.isnan(changed_share(decode(as_png(photograph(0)), max_pixels=1 << 24)))
