"""`python -m pack.audit --used_on FOLDER`: photographs from elsewhere against those of the dataset."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from audit_data import as_png, photograph, write_dataset
from PIL import Image, ImageFilter

from pack.base.config import PackConfig
from pack.dataset.dataset import open_dataset
from pack.inspect.audit import command
from pack.inspect.audit.judge.separation import Separation, apart, area, right
from pack.inspect.audit.measured.images import read_sample
from pack.inspect.audit.networks import network, used_on
from pack.inspect.audit.networks.network import SIDE
from pack.inspect.audit.networks.pairs import Windows
from pack.inspect.audit.networks.used_on import find, judge_elsewhere, quality_of, read_elsewhere
from pack.publish.packing import pack
from recon.base.errors import UserError
from recon.image.codec import Pixels, decode

PAIRS, STEPS = 12, 12
OTHERS = range(100, 110)


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A twelfth of the work of a training step."""
    monkeypatch.setattr(network, "_CROP", 32)
    monkeypatch.setattr(network, "_BATCH", 6)


def soft(pixels: Pixels) -> Pixels:
    """What a decoder makes of it."""
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(0.8)))


def window(pixels: Pixels) -> Pixels:
    return network.window(pixels)


def dataset() -> Windows:
    reals = [photograph(seed) for seed in range(PAIRS)]
    windows = [np.stack([window(real), window(soft(real))]) for real in reals]
    return Windows(windows=windows, names=[f"{number}.png" for number in range(PAIRS)])


def elsewhere(*pixels: Pixels) -> Windows:
    return Windows(
        windows=[window(one)[None] for one in pixels],
        names=[f"{number}.png" for number in range(len(pixels))],
    )


def test_photographs_with_the_trace_of_the_fakes_are_found_before_a_detector_is_trained() -> None:
    others = elsewhere(*(soft(photograph(seed)) for seed in OTHERS))
    finding = judge_elsewhere(dataset(), others, "soft", 0.6, steps=STEPS)
    assert finding.verdict == "UNLIKE"
    assert finding.separation
    assert finding.separation.low > 0.9
    assert "look more like the dataset's fakes" in finding.advice


def test_photographs_like_those_of_the_dataset_are_taken_for_such() -> None:
    others = elsewhere(*(photograph(seed) for seed in OTHERS))
    finding = judge_elsewhere(dataset(), others, "alike", 0.8, steps=STEPS)
    assert finding.verdict == "ok"
    assert finding.real.endswith("called real")
    assert finding.fake.endswith("of alike")


def test_whole_interval_decides_and_few_photographs_leave_it_open(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = used_on._called
    seen: list[used_on._Called] = []

    def once(*given: Any) -> used_on._Called:
        seen.extend([] if seen else [trained(*given)])
        return seen[0]

    monkeypatch.setattr(used_on, "_called", once)
    for low, high, verdict in ((0.61, 0.9, "UNLIKE"), (0.45, 0.61, "unsure"), (0.4, 0.6, "ok")):
        told = Separation(value=(low + high) / 2, low=low, high=high)
        monkeypatch.setattr(used_on, "apart", lambda *_, told=told: told)
        others = elsewhere(*map(photograph, OTHERS))
        assert judge_elsewhere(dataset(), others, "some", 0.6, steps=STEPS).verdict == verdict


def test_pairs_of_equal_halves_say_nothing_of_other_photographs() -> None:
    pairs = dataset()
    equal = Windows(windows=[one[[0, 0]] for one in pairs.windows], names=pairs.names)
    finding = judge_elsewhere(equal, elsewhere(*map(photograph, OTHERS)), "alike", 0.6, steps=2)
    assert finding.verdict == "shown"
    assert "says nothing" in finding.advice


def test_few_photographs_are_not_judged() -> None:
    finding = judge_elsewhere(dataset(), elsewhere(*map(photograph, range(3))), "few", 0.6, steps=STEPS)
    assert finding.verdict == "too few"


def test_photographs_that_can_not_be_read_are_named_also_where_none_is_left(tmp_path: Path) -> None:
    (tmp_path / "c.png").write_bytes(b"no image")
    found = Windows()
    for _ in read_elsewhere(found, find(str(tmp_path))):
        pass
    finding = judge_elsewhere(dataset(), found, "bad", 0.6, steps=STEPS)
    assert finding.verdict == "too few"
    assert finding.advice.startswith("0 photographs of bad; 1 photograph left out: c.png: ")


def test_large_photograph_has_nine_windows_a_small_one_one_and_a_broken_one_none(
    tmp_path: Path,
) -> None:
    large = photograph(0, 2 * SIDE)
    for name, data in (("a", as_png(large)), ("b", as_png(photograph(1))), ("c", b"no image")):
        (tmp_path / f"{name}.png").write_bytes(data)
    found = Windows()
    for _ in read_elsewhere(found, find(str(tmp_path))):
        pass
    assert found.names == ["a.png"] * 9 + ["b.png"]
    assert np.array_equal(found.windows[0][0], large[:SIDE, :SIDE].transpose(2, 0, 1))
    assert np.array_equal(found.windows[8][0], large[SIDE:, SIDE:].transpose(2, 0, 1))
    assert [cause.split(":")[0] for cause in found.causes] == ["c.png"]


def test_photographs_are_compressed_as_codec_both_has_compressed_those_of_the_dataset(tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    (photos / "a.png").write_bytes(as_png(photograph(0)))
    Image.fromarray(photograph(1)[..., 0]).save(photos / "b.png")
    pack(PackConfig(source=str(photos), out=str(out), autoencoder="identity", codec="both", quality=60))
    dataset = open_dataset(str(out))
    stored = {
        path: decode(pair.real, max_pixels=1 << 20).pixels for _, path, pair in read_sample([dataset], 2)
    }
    found = Windows()
    for _ in read_elsewhere(found, find(str(photos)), quality_of(dataset)):
        pass
    assert len(found.windows) == 2
    for name, seen in zip(found.names, found.windows, strict=True):
        assert np.array_equal(seen[0], window(stored[name]))


def test_area_between_samples_of_different_photographs_is_that_of_the_pairs_and_its_interval_wider() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(0, 1, 40), rng.normal(1, 1, 40)
    number = np.arange(40)
    above, below = (
        (one[:, None] > other).mean(axis=1) for one, other in ((second, first), (-first, -second))
    )
    found, paired = apart(below, number, above, number), area(first, second, 0.0, number)
    assert paired
    assert found.value == pytest.approx(paired.value)
    assert found.high - found.low == pytest.approx(
        2 * np.hypot(*(one.value - one.low for one in (right(below, number), right(above, number))))
    )


def test_command_warns_of_photographs_from_elsewhere_and_ends_with_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(used_on, "STEPS", STEPS)
    reals = [photograph(seed) for seed in range(PAIRS)]
    lines = [(f"{number}.png", as_png(real), as_png(soft(real))) for number, real in enumerate(reals)]
    url = write_dataset(tmp_path / "set", lines)
    folder = tmp_path / "soft"
    folder.mkdir()
    for seed in OTHERS:
        (folder / f"{seed}.png").write_bytes(as_png(soft(photograph(seed))))
    options = ["--used_on", str(folder), "--threads", "1", "--out", f"{tmp_path}/out"]
    monkeypatch.setattr(sys, "argv", ["audit", url, *options])
    with pytest.raises(SystemExit) as end:
        command.main()
    printed = capsys.readouterr().out
    assert end.value.code == 1
    assert f"UNLIKE used_on: photographs of {folder} look more like the dataset's fakes" in printed
    assert "photographs of --used_on are UNLIKE those of the dataset" in printed
    assert json.loads((tmp_path / "out/audit.json").read_text())["used_on"] == str(folder)


def test_folder_without_photographs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="used_on is empty"):
        command.AuditConfig(urls=["a"], used_on="")
    with pytest.raises(UserError, match=r"--used_on .* holds no images"):
        find(str(tmp_path))
    with pytest.raises(UserError, match=r"--used_on .*/none is not a directory"):
        find(f"{tmp_path}/none")
