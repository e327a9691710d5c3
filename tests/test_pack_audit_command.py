"""`python -m pack.audit` as a command: partners, duplicates, its files and its exit status."""

import json
import sys
import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from audit_data import as_jpeg, as_png, brighter, photograph, photographs, planted, write_dataset
from PIL import Image
from s3_server import S3Env

from pack.dataset.dataset import open_dataset
from pack.inspect.audit import command
from pack.inspect.audit.judge import probe
from pack.inspect.audit.judge.separation import area, paired, unpaired
from pack.inspect.audit.judge.separation import photographs as number_photographs
from pack.inspect.audit.partners import lonely
from pack.storage import open_store

Line = tuple[str, bytes, bytes]


def status(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        command.main()
    assert isinstance(end.value.code, int)
    return end.value.code


def leaks(*urls: str) -> dict[str, str]:
    found = command.audit(command.AuditConfig(urls=list(urls), threads=2))
    return {one.name: one.advice for one in found.leaks}


def equal(path: str, seed: int) -> Line:
    data = as_png(photograph(seed, 48))
    return path, data, data


def test_clean_dataset_ends_with_0_and_writes_table_json_and_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url, out = planted(tmp_path / "clean", lambda pixels: pixels), tmp_path / "deep" / "out"
    assert status(monkeypatch, url, "--out", out) == 0
    table = capsys.readouterr().out
    assert table.split()[:3] == ["nuisance", "real", "fake"]
    assert "0 leaks in 24 pairs of 24 photographs" in table
    facts = json.loads((out / "audit.json").read_text())
    assert (facts["pairs"], facts["photographs"], facts["leaks"]) == (24, 24, [])
    named = {one["name"] for one in facts["findings"]}
    assert named >= {"size", "codec", "jpeg_quality", "red", "gaps", "blocking", "high_frequency", "probe"}
    with Image.open(out / "audit.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 1000


def test_leak_ends_with_1_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = planted(tmp_path / "codecs", lambda pixels: pixels, coded=as_jpeg)
    assert status(monkeypatch, url, "--out", tmp_path / "out") == 1
    assert "LEAK codec: 24 of 24 pairs differ, e.g. real jpeg against fake png" in capsys.readouterr().out
    assert "codec" in json.loads((tmp_path / "out/audit.json").read_text())["leaks"]


def test_output_is_named_after_the_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = planted(tmp_path / "mine", lambda pixels: pixels, photographs(3))
    monkeypatch.chdir(tmp_path)
    assert status(monkeypatch, url) == 0
    assert (tmp_path / "audit-mine/audit.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere/dataset.json not found"),
        (["URL", "URL"], "a dataset is given twice"),
        (["URL", "--bound", "1.5"], "expected 0.5 <= bound < 1"),
        (["URL", "--pairs", "0"], "pairs=0, expected at least 1"),
        ([], "urls"),
    ],
)
def test_mistake_is_one_line_with_status_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    url = write_dataset(tmp_path / "set", [equal("a", 0)])
    assert status(monkeypatch, *(url if one == "URL" else one for one in arguments)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error


def test_dataset_of_nothing_but_broken_images_is_one_line_with_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = write_dataset(tmp_path / "set", [("a", as_png(photograph(0)), b"")])
    assert status(monkeypatch, url, "--out", tmp_path / "out") == 2
    assert "no pair can be measured" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_same_photograph_in_two_splits_is_found_among_all_pairs_by_its_file(tmp_path: Path) -> None:
    train = write_dataset(tmp_path / "train", [equal(f"{n}", n) for n in range(30)])
    val = write_dataset(tmp_path / "val", [equal(f"{n}", n) for n in range(29, 40)])
    few = command.audit(command.AuditConfig(urls=[train, val], pairs=5, threads=2))
    assert [one.name for one in few.leaks] == ["duplicates across splits"]
    assert few.leaks[0].real == "1"
    assert f"{train}: 29-" in few.leaks[0].advice


def test_same_photograph_in_another_coding_is_found_by_its_pixels(tmp_path: Path) -> None:
    jpeg = as_jpeg(photograph(3, 48))
    with Image.open(BytesIO(jpeg)) as image:
        png = as_png(np.asarray(image))
    train = write_dataset(tmp_path / "train", [*(equal(f"{n}", n) for n in range(3)), ("x", jpeg, jpeg)])
    val = write_dataset(tmp_path / "val", [*(equal(f"{n}", n) for n in range(5, 8)), ("y", png, png)])
    assert list(leaks(train, val)) == ["duplicates across splits"]


def test_same_photograph_compressed_for_one_split_is_found_by_name_and_colours(
    tmp_path: Path,
) -> None:
    train = write_dataset(tmp_path / "train", [equal(f"{n}", n) for n in range(3)])
    jpegs = [
        (f"{n}", as_jpeg(photograph(seed, 48)), as_jpeg(photograph(seed, 48))) for n, seed in ((1, 1), (2, 9))
    ]
    val = write_dataset(tmp_path / "val", jpegs)  # 2 is another photograph of that name
    (leak,) = command.audit(command.AuditConfig(urls=[train, val], threads=2)).leaks
    assert (leak.name, leak.real) == ("duplicates across splits", "1")
    assert f"{train}: 1-" in leak.advice


def test_splits_without_a_common_photograph_are_silent(tmp_path: Path) -> None:
    train = write_dataset(tmp_path / "train", [equal(f"{n}", n) for n in range(5)])
    val = write_dataset(tmp_path / "val", [equal(f"{n}", n) for n in range(5, 9)])
    assert leaks(train, val) == {}


@pytest.mark.parametrize("missing", ["real", "fake"])
def test_pair_without_a_half_is_found_by_name(tmp_path: Path, missing: str) -> None:
    path, real, fake = equal("lonely", 9)
    half = (path, b"", fake) if missing == "real" else (path, real, b"")
    advice = leaks(write_dataset(tmp_path / "set", [*(equal(f"{n}", n) for n in range(5)), half]))
    assert list(advice) == ["missing partners"]
    assert "lonely-" in advice["missing partners"]


def test_damaged_pair_is_found_and_the_others_are_measured(tmp_path: Path) -> None:
    url = write_dataset(tmp_path / "set", [equal(f"{n}", n) for n in range(5)])
    index = open_dataset(url).index(0)
    tar = bytearray((tmp_path / "set/shard-000000.tar").read_bytes())
    tar[int(index.offsets[2, 1]) + 20] ^= 1
    (tmp_path / "set/shard-000000.tar").write_bytes(tar)
    found = command.audit(command.AuditConfig(urls=[url], threads=2))
    assert len(found.sample.pairs) == 4
    assert "CRC-32 of fake differs" in found.leaks[0].advice


def test_image_that_the_index_does_not_know_is_found_in_its_tar(tmp_path: Path) -> None:
    """As adopting leaves it: the tar holds a sample of one image, which became no pair."""
    url = write_dataset(tmp_path / "set", [equal(f"{n}", n) for n in range(3)])
    assert list(lonely(open_dataset(url))) == []
    path = tmp_path / "set/shard-000000.tar"
    with tarfile.open(path, "a") as tar:
        for name in ("orphan.real.png", f"{open_dataset(url).index(0).keys[0]}.txt"):
            tar.addfile(tarfile.TarInfo(name))
    manifest = json.loads((tmp_path / "set/dataset.json").read_text())
    opened = open_dataset(url)
    entry = opened.index(0).entry
    object.__setattr__(entry, "bytes", path.stat().st_size)
    assert manifest["pairs"] == 3
    assert list(lonely(opened)) == [f"{opened.tar_url(0)}: orphan.real.png belongs to no pair"]


def test_probe_keeps_a_photograph_in_one_fold() -> None:
    photograph_N = np.repeat(np.arange(30), 4)
    fold_N = probe.folds(photograph_N)
    assert all(len(set(fold_N[photograph_N == one])) == 1 for one in range(30))
    assert set(fold_N) == set(range(probe.FOLDS))


def test_probe_does_not_learn_photographs_by_heart() -> None:
    """Each photograph's tiles share numbers, drawn anew for real and fake: nothing general separates them.

    Folds that cut through photographs would recognise the tiles of those it was fitted to.
    """
    rng = np.random.default_rng(0)
    photograph_N = np.repeat(np.arange(40), 10)
    real_KF, fake_KF = rng.normal(size=(2, 40, 60))
    real_NF, fake_NF = real_KF[photograph_N], fake_KF[photograph_N]
    names = [f"f{number}" for number in range(60)]
    grouped = probe.probe(names, real_NF, fake_NF, photograph_N)
    cut = probe.probe(names, real_NF, fake_NF, np.arange(400))
    assert grouped is not None
    assert cut is not None
    assert cut.area.low > 0.9
    assert grouped.area.low < 0.5 < grouped.area.high


def test_probe_finds_what_separates() -> None:
    rng = np.random.default_rng(0)
    real_NF, fake_NF = rng.normal(size=(2, 100, 3))
    fake_NF[:, 1] += 3
    found = probe.probe(["a", "b", "c"], real_NF, fake_NF, np.arange(100))
    assert found is not None
    assert found.area.low > 0.9
    assert found.accuracy.low > 0.8
    assert max(found.weights, key=lambda name: abs(found.weights[name])) == "b"


def test_tiles_of_one_photograph_count_once() -> None:
    """Eighty tiles of eight photographs prove no more than eight photographs."""
    rng = np.random.default_rng(0)
    real_K, fake_K = rng.normal(size=8), rng.normal(1, size=8)
    few = unpaired(real_K, fake_K, 0.0, np.arange(8))
    many = unpaired(np.repeat(real_K, 10), np.repeat(fake_K, 10), 0.0, np.repeat(np.arange(8), 10))
    assert few is not None
    assert many is not None
    assert many.low == pytest.approx(few.low)


def test_paired_noise_cancels_and_a_common_shift_adds_up() -> None:
    rng = np.random.default_rng(0)
    number_N = np.arange(400)
    noise, shift = paired(rng.normal(size=400), 0.1, number_N), paired(np.full(400, 0.3), 0.1, number_N)
    assert noise is not None
    assert shift is not None
    assert noise.low < 0.55
    assert shift.value == 1
    assert shift.low > 0.95


def test_area_of_equal_numbers_is_one_half() -> None:
    values = np.random.default_rng(0).normal(size=50)
    found = area(values, values, 0.0, np.arange(50))
    assert found is not None
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)


def test_photographs_are_one_where_path_or_pixels_are() -> None:
    numbers = number_photographs(["a", "a", "b", "c"], [b"1", b"2", b"2", b"3"])
    assert numbers[0] == numbers[1] == numbers[2] != numbers[3]


def test_bucket_is_audited_like_a_folder(
    s3_env: S3Env, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(tmp_path / "set", brighter, photographs(12))
    store = open_store(s3_env.url)
    for path in sorted((tmp_path / "set").iterdir()):
        with store.publish(path.name) as file:
            file.write(path.read_bytes())
    assert status(monkeypatch, s3_env.url, "--out", f"{s3_env.url}/audit") == 1
    facts = json.loads(open_store(f"{s3_env.url}/audit").read("audit.json"))
    assert {"red", "green", "blue"} <= set(facts["leaks"])
