"""Names that a manifest holds are data: they lead into no other folder."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from audit_data import photographs, planted

from pack.inspect import preview
from pack.inspect.audit import command
from pack.shard.manifest import NAME, read_manifest
from pack.storage import open_store
from recon.base.errors import UserError


def rename(folder: Path, **values: Any) -> None:
    """Writes the manifest anew with other values, its own hash right."""
    manifest = read_manifest(open_store(str(folder)))
    (folder / NAME).write_text(replace(manifest, **values).to_json())


@pytest.mark.parametrize("name", ["../../../x", "/abs", "..", "a/b", ""])
def test_audit_of_a_dataset_of_any_name_writes_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    url = planted(tmp_path / "mine", lambda pixels: pixels, photographs(3))
    rename(Path(url), name=name)
    here = tmp_path / "deep/deeper/here"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "argv", ["command", url])
    with pytest.raises(SystemExit) as end:
        command.main()
    assert end.value.code == 0
    assert [path.parent.parent for path in tmp_path.rglob("audit.json")] == [here]


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/b", "..", "", 7])
def test_shard_whose_name_is_a_path_is_refused(packed: Path, tmp_path: Path, name: Any) -> None:
    data = tmp_path / "data"
    shutil.copytree(packed, data)
    shards = read_manifest(open_store(str(data))).shards
    rename(data, shards=(replace(shards[0], name=name), *shards[1:]))
    with pytest.raises(UserError, match="expected a plain name such as shard-000000; pack the dataset again"):
        read_manifest(open_store(str(data)))


@pytest.mark.parametrize("sha256", ["../../x", "A" * 64, "", None])
def test_hash_that_would_name_another_file_of_the_cache_is_refused(
    packed: Path, tmp_path: Path, sha256: Any
) -> None:
    data = tmp_path / "data"
    shutil.copytree(packed, data)
    shards = read_manifest(open_store(str(data))).shards
    rename(data, shards=(replace(shards[0], sha256=sha256), *shards[1:]))
    with pytest.raises(UserError, match="expected 64 hexadecimal digits; pack the dataset again"):
        read_manifest(open_store(str(data)))


def test_preview_goes_where_it_was_sent_even_to_the_root(
    packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def remember(url: str) -> Any:
        opened.append(url)
        raise UserError("seen")

    monkeypatch.setattr("pack.base.writable.open_store", remember)
    monkeypatch.setattr(sys, "argv", ["command", str(packed), "--out", "/x.png"])
    with pytest.raises(SystemExit):
        preview.main()
    assert opened == ["/"]


def test_manifest_keeps_its_own_hash_in_these_tests(packed: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(packed, data)
    rename(data, name="other")
    assert json.loads((data / NAME).read_text())["name"] == "other"
    assert read_manifest(open_store(str(data))).name == "other"
