"""Datasets of the older format: read, verified, evaluated as before; upgraded without a change of a tar.

``pairstream1.tar.xz`` holds three of ``pairstream/1``, written by the version that wrote that format (commit
9df1ee8): ``mixed`` (six pairs of JPEG, PNG and WebP, one image rejected), ``plain`` (three pairs of PNG) and
``adopted`` (a JPEG and a PNG in a tar with names of its own). ``loader.json`` is the state of a loader of
``mixed`` after its first step, and the keys of the steps after it.
"""

import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from pack_runs import Interruption, config, files
from rewritten_indexes import hinted_pairs

from pack import finish, info, preview, upgrade, verify
from pack.adopt.adopt import adopt
from pack.adopt.config import IndexConfig
from pack.adopt.upgrade import upgrade as upgraded
from pack.dataset.dataset import iterate_pairs, open_dataset
from pack.dataset.selection import select
from pack.inspect.verify import verify as differences
from pack.publish.packing import pack
from pack.shard.manifest import FORMAT, OLD_FORMAT
from pack.storage import LocalStore
from recon.base.errors import UserError
from train.evaluation.inputs.find import open_source
from train.loader.loader import PairLoader

NAMES = ("mixed", "plain", "adopted")
FIELDS = {"mixed": None, "plain": {"real": "real.png", "fake": "fake.png"}, "adopted": None}
PHASES = {"mixed": [0, 0, 0, None, None, None], "plain": [None] * 3, "adopted": [0, None]}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The folder of the three datasets, to be changed."""
    with tarfile.open(Path(__file__).parent / "pairstream1.tar.xz") as tar:
        tar.extractall(tmp_path / "old", filter="data")
    return tmp_path / "old"


def run(monkeypatch: pytest.MonkeyPatch, command: object, *words: object) -> int:
    monkeypatch.setattr("sys.argv", ["command", *map(str, words)])
    try:
        command.main()  # type: ignore[attr-defined]
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.mark.parametrize("name", NAMES)
def test_old_dataset_is_read_whole_and_pins_the_manifest_that_it_pinned(old: Path, name: str) -> None:
    dataset = open_dataset(str(old / name))
    stated = json.loads((old / name / "dataset.json").read_text())
    assert (dataset.manifest.format, dataset.manifest.fields) == (OLD_FORMAT, None)
    assert dataset.manifest.sha256 == stated["sha256"]
    assert dataset.manifest.to_json().encode() == (old / name / "dataset.json").read_bytes()
    assert list(differences(dataset)) == []


def test_old_names_go_by_the_codecs(old: Path) -> None:
    names = [tuple(pair.members) for pair in iterate_pairs(str(old / "mixed"))]
    suffixes = ("jpg", "jpg", "jpg", "png", "png", "webp")
    assert names == [(f"real.{one}", f"fake.{one}", "json") for one in suffixes]
    names = [tuple(pair.members) for pair in iterate_pairs(str(old / "adopted"))]
    assert names == [("real.jpg", "fake.png"), ("real.png", "fake.png")]


@pytest.mark.parametrize("is_upgraded", [False, True])
def test_all_commands_take_an_old_dataset(
    old: Path, monkeypatch: pytest.MonkeyPatch, is_upgraded: bool
) -> None:
    for name in NAMES:
        if is_upgraded:
            upgraded(str(old / name))
        assert run(monkeypatch, verify, old / name) == 0
        assert run(monkeypatch, info, old / name) == 0
        assert run(monkeypatch, preview, old / name, "--out", old / "sheet.png", "--side", 16) == 0
        assert run(monkeypatch, finish, old / name) == 0


@pytest.mark.parametrize("name", NAMES)
def test_old_dataset_is_evaluated(old: Path, name: str) -> None:
    source = open_source(str(old / name), "group")
    pairs = list(iterate_pairs(str(old / name)))
    assert [image.data for image in source.images()] == [
        data for pair in pairs for data in (pair.real, pair.fake)
    ]


def test_loader_goes_on_from_the_state_that_the_old_version_saved(old: Path) -> None:
    saved = json.loads((old / "loader.json").read_text())
    loader = PairLoader(
        str(old / "mixed"), batch_size=2, seed=5, lanes=2, block=1, window=2, workers=0, centre_crop=16
    )
    loader.load_state_dict(saved["state"])
    assert [list(batch.keys) for batch in loader] == saved["rest"]


def test_filter_on_a_column_that_the_old_format_lacks_says_what_to_do(old: Path) -> None:
    url = str(old / "mixed")
    message = f"{url} is of pairstream/1, which has no column jpeg_phase; run python -m pack.upgrade {url}"
    with pytest.raises(UserError, match=message):
        select(open_dataset(url), "jpeg_phase == -1")
    with pytest.raises(UserError, match=message):
        list(open_source(url, "jpeg_phase").images())
    upgraded(url)
    assert select(open_dataset(url), "jpeg_phase == 0").counts.tolist() == [3, 0]
    assert select(open_dataset(url), "jpeg_phase is None").counts.tolist() == [1, 2]
    with pytest.raises(UserError, match="selects none of 6 pairs"):
        select(open_dataset(url), "jpeg_phase == -1")


@pytest.mark.parametrize("name", NAMES)
def test_upgrade_writes_indexes_and_manifest_and_no_tar(
    old: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    url, before = str(old / name), files(old / name)
    pairs = list(iterate_pairs(url))
    sha256 = open_dataset(url).manifest.sha256
    caplog.set_level("INFO")
    upgraded(url)
    dataset = open_dataset(url)
    manifest = dataset.manifest
    assert f"its manifest is now {manifest.sha256}; runs that pinned {sha256} can't be" in caplog.text
    assert (manifest.format, manifest.fields) == (FORMAT, FIELDS[name])
    assert manifest.provenance["upgraded"] == {"format": OLD_FORMAT, "sha256": sha256}
    changed = {path for path, data in files(old / name).items() if before.get(path) != data}
    assert changed == {"README.md", "dataset.json"} | {path for path in before if path.endswith(".parquet")}
    assert list(iterate_pairs(url)) == pairs
    assert list(differences(dataset)) == []
    tables = [dataset.table(shard) for shard in range(len(manifest.shards))]
    assert [phase for table in tables for phase in table["jpeg_phase"].to_pylist()] == PHASES[name]
    assert (old / name / "dataset.json").read_text() == manifest.to_json()
    after = files(old / name)
    upgraded(url)
    assert "is of pairstream/2 already, nothing to do" in caplog.text
    assert files(old / name) == after


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_upgrade_that_was_stopped_ends_with_the_same_bytes(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    shutil.copytree(old / "mixed", tmp_path / "other")
    upgraded(str(tmp_path / "other"))
    monkeypatch.setattr("pack.adopt.upgrade._AT_ONCE", 1)
    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "publish", Interruption(LocalStore.publish, at))
        with pytest.raises(KeyboardInterrupt):
            upgraded(str(old / "mixed"))
    assert open_dataset(str(old / "mixed")).manifest.format == OLD_FORMAT, "the manifest comes last"
    upgraded(str(old / "mixed"))
    assert files(old / "mixed") == files(tmp_path / "other")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("shard-000001.parquet", r"shard-000001.parquet differs from the manifest \(sha256\); restore it"),
        ("shard-000001.tar", r"shard-000001.tar has \d+ bytes, the manifest says 10240; restore it"),
    ],
)
def test_upgrade_refuses_a_damaged_dataset_and_keeps_its_manifest(old: Path, name: str, message: str) -> None:
    path = old / "mixed" / name
    path.write_bytes(path.read_bytes()[:-1])
    manifest = (old / "mixed/dataset.json").read_bytes()
    with pytest.raises(UserError, match=message):
        upgraded(str(old / "mixed"))
    assert (old / "mixed/dataset.json").read_bytes() == manifest


def test_upgrade_refuses_what_is_no_dataset_in_one_line(
    old: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, upgrade, old) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {old}/dataset.json not found")
    assert error.count("\n") == 1


def test_packing_again_into_an_old_dataset_is_refused_and_changes_nothing(
    old: Path, photographs: Path
) -> None:
    before = files(old)
    with pytest.raises(UserError, match="holds another dataset"):
        pack(config(photographs, old / "mixed"))
    assert files(old) == before


@pytest.mark.parametrize("name", NAMES)
def test_entries_are_added_to_an_old_dataset_and_survive_its_upgrade(old: Path, name: str) -> None:
    url, before = str(old / name), files(old / name)
    pairs = list(iterate_pairs(url))
    adopt(IndexConfig(url=[url], entries=True))
    dataset = open_dataset(url)
    assert dataset.manifest.format == OLD_FORMAT
    assert list(differences(dataset)) == []
    hinted = hinted_pairs(url)
    assert [replace(pair, hints={}) for pair in hinted] == pairs
    assert all(pair.hints[member].colours for pair in hinted for member in ("real", "fake"))
    upgraded(url)
    assert hinted_pairs(url) == hinted
    assert list(differences(open_dataset(url))) == []
    assert all(data == before[path] for path, data in files(old / name).items() if path.endswith(".tar"))
