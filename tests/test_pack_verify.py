"""`pack.verify` finds any change; `pack.info` and `pack.preview` show what is there."""

import json
import re
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pack.dataset.dataset import open_dataset
from pack.inspect import info, preview, verify
from pack.shard.index import read_index
from pack.storage import LocalStore
from recon.base.errors import UserError
from recon.image.drawing import fitted

SECOND = "shard-000001"


@pytest.fixture
def dataset(packed: Path, tmp_path: Path) -> Path:
    """A copy of the packed photographs, to be damaged."""
    return Path(shutil.copytree(packed, tmp_path / "photos"))


def status(monkeypatch: pytest.MonkeyPatch, main: Callable[[], None], *arguments: object) -> int:
    """Exit status of a command; a traceback fails the test."""
    monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    assert isinstance(end.value.code, int)
    return end.value.code


def row(root: Path, number: int = 1) -> dict[str, Any]:
    """An index row of the second shard."""
    rows: list[dict[str, Any]] = read_index((root / f"{SECOND}.parquet").read_bytes()).to_pylist()
    return rows[number]


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def flip_payload(root: Path, member: str) -> None:
    flip(root / f"{SECOND}.tar", row(root)[f"{member}_offset"] + row(root)[f"{member}_size"] // 2)


def flip_header(root: Path) -> None:
    flip(root / f"{SECOND}.tar", row(root)["fake_offset"] - 512 + 5)


def flip_padding(root: Path) -> None:
    end = row(root)["json_offset"] + row(root)["json_size"]
    assert end % 512
    flip(root / f"{SECOND}.tar", end)


def truncate(root: Path, size: int) -> None:
    with (root / f"{SECOND}.tar").open("r+b") as file:
        file.truncate(size)


def append(root: Path) -> None:
    with (root / f"{SECOND}.tar").open("ab") as file:
        file.write(b"\0")


def exchange(root: Path) -> None:
    one, other = root / "shard-000000.tar", root / f"{SECOND}.tar"
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "real payload": (lambda root: flip_payload(root, "real"), r"\.real\.\w+: CRC-32 differs from the index"),
    "fake payload": (lambda root: flip_payload(root, "fake"), r"\.fake\.\w+: CRC-32 differs from the index"),
    "json payload": (lambda root: flip_payload(root, "json"), r"\.json: CRC-32 differs from the index"),
    "tar header": (flip_header, r"\.fake\.\w+: broken tar header"),
    "padding": (flip_padding, rf"{SECOND}\.tar: sha256 differs"),
    "end of tar": (lambda root: flip(root / f"{SECOND}.tar", -1), rf"{SECOND}\.tar: sha256 differs"),
    "truncated at a pair": (
        lambda root: truncate(root, row(root)["real_offset"] - 512),
        r"bytes, the manifest",
    ),
    "truncated by a byte": (
        lambda root: truncate(root, -1 + (root / f"{SECOND}.tar").stat().st_size),
        r"bytes",
    ),
    "truncated to nothing": (lambda root: truncate(root, 0), r"0 bytes, the manifest says"),
    "appended byte": (append, r"bytes, the manifest says"),
    "exchanged tars": (exchange, r"the tar has .* the index says"),
    "removed tar": (lambda root: (root / f"{SECOND}.tar").unlink(), rf"{SECOND}\.tar not found"),
    "removed index": (lambda root: (root / f"{SECOND}.parquet").unlink(), rf"{SECOND}\.parquet not found"),
    "edited index": (
        lambda root: flip(root / f"{SECOND}.parquet", 99),
        rf"{SECOND}\.parquet differs from the",
    ),
    "index of another": (
        lambda root: shutil.copy(root / "shard-000000.parquet", root / f"{SECOND}.parquet"),
        rf"{SECOND}\.parquet differs from the manifest",
    ),
    "extra shard": (
        lambda root: shutil.copy(root / f"{SECOND}.tar", root / "shard-000007.tar"),
        r"shard-000007\.tar: not in the manifest",
    ),
}


def test_untouched_dataset_agrees(
    packed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(monkeypatch, verify.main, packed) == 0
    assert capsys.readouterr().out == "11 pairs in 3 shards: every byte agrees\n"


def test_index_that_another_reader_laid_beside_a_tar_is_no_difference(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (dataset / f"{SECOND}.tar.idx").write_bytes(b"of Energon")
    assert status(monkeypatch, verify.main, dataset) == 0


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_and_told(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    harm, message = DAMAGES[damage]
    harm(dataset)
    assert status(monkeypatch, verify.main, dataset) == 1
    *differences, verdict = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"11 pairs in 3 shards: {len(differences)} differences?", verdict)
    assert any(re.search(message, line) for line in differences), differences


def test_every_flipped_byte_of_every_file_is_found(packed: Path, tmp_path: Path) -> None:
    dataset = Path(shutil.copytree(packed, tmp_path / "photos"))
    (dataset / "README.md").unlink()  # the card, which its owner may edit
    sizes = {path.name: path.stat().st_size for path in sorted(dataset.iterdir())}
    places = st.sampled_from(list(sizes)).flatmap(
        lambda name: st.tuples(st.just(name), st.integers(0, sizes[name] - 1), st.integers(1, 255))
    )

    @settings(deadline=None, max_examples=80)
    @given(place=places)
    def check(place: tuple[str, int, int]) -> None:
        name, position, mask = place
        whole = (dataset / name).read_bytes()
        data = bytearray(whole)
        data[position] ^= mask
        (dataset / name).write_bytes(data)
        try:
            found = list(verify.verify(open_dataset(str(dataset))))
        except UserError as error:
            assert name == "dataset.json"
            found = [str(error)]
        (dataset / name).write_bytes(whole)
        assert found

    check()


def test_white_space_that_changed_in_the_manifest_is_found(packed: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(packed, tmp_path / "out"))
    data = (out / "dataset.json").read_bytes()
    assert data[:2] == b"{\n"
    (out / "dataset.json").write_bytes(b"{ " + data[2:])
    [found] = verify.verify(open_dataset(str(out)))
    assert found.startswith("dataset.json: the values are right, but not the bytes")


def test_differences_come_in_the_order_of_the_shards_however_fast_each_is_read(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Path(shutil.copytree(packed, tmp_path / "out"))
    for tar in out.glob("*.tar"):
        tar.write_bytes(tar.read_bytes()[:-1] + b"\1")
    read, first = LocalStore.read_range, threading.Event()

    def late(store: LocalStore, name: str, start: int, length: int, **options: Any) -> memoryview:
        if name.startswith("shard-000000"):
            assert first.wait(300)
        elif name.startswith("shard-000002"):
            first.set()
        return read(store, name, start, length, **options)

    monkeypatch.setattr(LocalStore, "read_range", late)
    expected = [f"shard-00000{number}.tar: sha256 differs from the manifest" for number in range(3)]
    assert list(verify.verify(open_dataset(str(out)))) == expected


def test_doubled_key_across_shards_is_found(packed: Path) -> None:
    opened = open_dataset(str(packed))
    first = opened.index(0)
    opened.index(1).keys[0] = first.keys[0]
    assert f"{SECOND}: key {first.keys[0]} is in the dataset twice" in list(verify.verify(opened))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda text: text.replace('"pairs": 11', '"pairs": 12'), "was changed after it was written"),
        (
            lambda text: text.replace("pairstream/2", "pairstream/4"),
            "format 'pairstream/4', expected 'pairstream/2', 'pairstream/3' or 'pairstream/1'",
        ),
        (lambda text: text[:-20], "is not JSON"),
        (lambda _: "[]", "format None, expected 'pairstream/2'"),
        (lambda _: "", "is not JSON"),
    ],
)
def test_manifest_that_is_no_longer_ours_is_one_line_with_status_2(
    dataset: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    edit: Callable[[str], str],
    message: str,
) -> None:
    path = dataset / "dataset.json"
    path.write_text(edit(path.read_text()))
    assert status(monkeypatch, verify.main, dataset) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}")
    assert error.count("\n") == 1
    assert message in error


@pytest.mark.parametrize("main", [verify.main, info.main, preview.main])
def test_directory_that_is_no_dataset_is_one_line_with_status_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    main: Callable[[], None],
) -> None:
    assert status(monkeypatch, main, tmp_path) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path}/dataset.json not found")
    assert error.count("\n") == 1


def test_info_counts_every_pair_once_in_every_property(
    packed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(monkeypatch, info.main, packed, "--as_json", "true") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["name"], facts["pairs"], facts["shards"], facts["rejected"]) == ("photos", 11, 3, 0)
    assert all(sum(counts.values()) == 11 for counts in facts["counts"].values())
    assert facts["counts"]["group"] == {"b": 5, "a": 3, "photos": 2, "Grüße": 1}
    assert facts["counts"]["real_codec"] == facts["counts"]["fake_codec"] == {"jpeg": 7, "png": 3, "webp": 1}
    assert facts["counts"]["channels"] == {"3": 9, "1": 2}


def test_info_shows_totals_and_the_most_frequent_values(
    packed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(monkeypatch, info.main, packed, "--top", "2") == 0
    text = capsys.readouterr().out
    assert text.startswith("photos (no split): 11 pairs in 3 shards, ")
    assert "... 2 more values" in text


@pytest.mark.parametrize(("count", "rows"), [(3, 3), (50, 11)])
def test_preview_is_a_png_with_a_row_a_pair_and_three_pictures_a_row(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, rows: int
) -> None:
    out = tmp_path / "sheet.png"
    assert status(monkeypatch, preview.main, packed, "--out", out, "--count", count, "--side", 16) == 0
    with Image.open(out) as sheet:
        assert sheet.format == "PNG"
        assert sheet.mode == "RGB"
        assert sheet.width == 3 * (16 + 8)
        pictures = sheet.height - preview.TITLE - preview.SCALE - rows * (8 + 2 * preview.LINE)
        assert rows * 8 < pictures <= rows * 16


def test_preview_of_the_identity_shows_no_difference_under_a_lossless_codec(packed: Path) -> None:
    sheet = preview.contact_sheet(open_dataset(str(packed)), count=11, gain=8, side=64)
    assert sheet.shape[1] == 3 * 72
    names = [record["path"] for record in _records(packed)]
    row_of_png = names.index("b/rgb.png")
    above = [fitted(one["height"], one["width"], 64)[0] for one in _records(packed)[:row_of_png]]
    top = preview.TITLE + sum(above) + row_of_png * (8 + 2 * preview.LINE)
    height, width = fitted(17, 23, 64)
    assert width == 64
    difference = sheet[top + 4 : top + 4 + height, 2 * 72 + 4 : 2 * 72 + 4 + width]
    assert (difference == 128).all()


def _records(root: Path) -> list[dict[str, Any]]:
    opened = open_dataset(str(root))
    return [row for shard in range(3) for row in opened.table(shard).to_pylist()]


def test_preview_that_cannot_be_written_is_one_line_with_status_2(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    out = tmp_path / "file/sheet.png"
    assert status(monkeypatch, preview.main, packed, "--out", out) == 2
    line = f"error: can't write {out}: {out.parent} is a file, expected a folder\n"
    assert capsys.readouterr().err == line
