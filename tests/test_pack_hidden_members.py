"""Hidden members, such as those that macOS adds to each file in a tar, are no data: they are counted."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import run
from stranger_tars import Members, members_of, write_members

from pack import index, verify
from pack.adopt.adopt import adopt
from pack.adopt.config import IndexConfig
from pack.base.config import PackConfig
from pack.dataset.dataset import open_dataset
from pack.inspect.audit.partners import lonely
from pack.sources.find import find_items
from train.evaluation.inputs.find import open_source

APPLE = b"\0\5\x16\7" + bytes(116)
"""How macOS' files of metadata begin."""


def of_macos(members: Members) -> Members:
    """A folder's tar as the tar of macOS writes it: before each member one of metadata."""
    found: Members = []
    for name, data in members:
        folder, slash, file = name.rpartition("/")
        found += [(f"{folder}{slash}._{file}", APPLE), (name, data)]
    return [("g/.DS_Store", b"what"), *found]


def pairs(*prefixes: str) -> Members:
    return [one for number, prefix in enumerate(prefixes) for one in members_of(number, f"{prefix}k{number}")]


def rows(folder: Path) -> list[dict[str, Any]]:
    """The index without the places in the tar."""
    table = pq.read_table(folder / "0.parquet")
    places = [name for name in table.column_names if name.endswith(("_offset", "_header"))]
    found: list[dict[str, Any]] = table.drop_columns(places).to_pylist()
    return found


@pytest.mark.parametrize("prefix", ["", "g/", "./g/", "../g/", "/g/"])
def test_a_tar_of_macos_is_indexed_like_one_without_its_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, prefix: str
) -> None:
    plain = pairs(prefix, prefix)
    write_members(tmp_path / "plain/0.tar", plain)
    write_members(tmp_path / "macos/0.tar", of_macos(plain))
    for name in ("plain", "macos"):
        assert run(monkeypatch, index.main, tmp_path / name, "--name", "n") == 0
        assert run(monkeypatch, verify.main, tmp_path / name) == 0
    assert rows(tmp_path / "macos") == rows(tmp_path / "plain")
    told = [line for line in caplog.messages if "left out" in line]
    assert len(told) == 1
    assert "macos: left out hidden names: 5 (e.g. " in told[0]


@pytest.mark.parametrize("prefix", ["", "g/", "g/" + "long" * 30 + "/"])
def test_the_audit_counts_what_webdataset_takes_for_samples_and_no_hidden_member(
    tmp_path: Path, prefix: str
) -> None:
    odd = [(f"{prefix}odd.real.jpg", b""), (f"{prefix}notes", b"no sample")]
    # Of unequal sizes, so that no gap between pairs is the usual one.
    texts = [(f"{prefix}k{number}.txt", bytes(600 * number)) for number in range(12)]
    contents = pairs(*[prefix] * 12) + texts
    contents.sort(key=lambda one: one[0].partition(".")[0])
    write_members(tmp_path / "0.tar", of_macos([*contents, *odd]))
    adopt(IndexConfig(url=[str(tmp_path)], skip_incomplete=True))
    [line] = lonely(open_dataset(str(tmp_path)))
    assert line == f"{tmp_path}/0.tar: {prefix}odd.real.jpg belongs to no pair"


def test_packing_and_evaluation_count_hidden_members_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(2):
        write_members(tmp_path / f"t/{number}.tar", of_macos(pairs("g/")))
    config = PackConfig(source=f"{tmp_path}/t/*.tar", out="o", image_field="real.jpg")
    assert [item.path for item in find_items(config)[None]] == ["0.tar/g/k0.real.jpg", "1.tar/g/k0.real.jpg"]
    assert open_source(f"{tmp_path}/t").total == 4
    told = [line for line in caplog.messages if "left out" in line]
    assert [line.partition(": ")[2] for line in told] == [
        "left out hidden names: 6 (e.g. 0.tar/g/.DS_Store)"
    ] * 2
