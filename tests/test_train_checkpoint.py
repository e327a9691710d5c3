"""Checkpoints: read as they were written, or refused; never executed."""

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pack.storage import LocalStore
from recon.base.errors import UserError
from train.model.checkpoint import FORMAT, load_checkpoint, pack_checkpoint, publish_checkpoint

CONTENT = {"model": {"fc.weight": torch.arange(300.0)}, "epoch": 3, "optimizer": {"state": {}, "lr": 0.1}}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    publish_checkpoint(LocalStore(str(folder)), "whole.pt", pack_checkpoint(CONTENT))
    return folder / "whole.pt"


def test_a_checkpoint_is_read_as_it_was_written(whole: Path) -> None:
    content = load_checkpoint(whole)
    assert torch.equal(content["model"]["fc.weight"], CONTENT["model"]["fc.weight"])  # type: ignore[index]
    assert (content["epoch"], content["format"]) == (3, FORMAT)


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_checkpoint_is_refused_or_unharmed(
    whole: Path, tmp_path: Path, data: st.DataObject
) -> None:
    """Any byte changed, or the end cut off: an error, or else (in padding) the very same content."""
    good = bytearray(whole.read_bytes())
    place = data.draw(st.integers(0, len(good) - 1))
    if data.draw(st.booleans()):
        good[place] ^= data.draw(st.integers(1, 255))
    else:
        del good[place:]
    (tmp_path / "bad.pt").write_bytes(good)
    try:
        content = load_checkpoint(tmp_path / "bad.pt")
    except UserError as error:
        assert "bad.pt" in str(error)  # noqa: PT017 - either outcome is right
    else:
        assert torch.equal(content["model"]["fc.weight"], CONTENT["model"]["fc.weight"])  # type: ignore[index]
        assert content["optimizer"] == CONTENT["optimizer"]


class Bomb:
    """Would run code where a pickle is trusted."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("echo harm > harm.txt",)


def foreign_files(folder: Path) -> dict[str, str]:
    """Files that are no checkpoint of a run, and what is said of them."""
    (folder / "empty.pt").write_bytes(b"")
    (folder / "text.pt").write_text("epoch: 3\n")
    (folder / "pickle.pt").write_bytes(pickle.dumps({"format": FORMAT}))
    with zipfile.ZipFile(folder / "zip.pt", "w") as file:
        file.writestr("a.txt", "hello")
    torch.save({"format": FORMAT, "model": Bomb()}, folder / "bomb.pt")
    torch.save({"state_dict": {"a": torch.ones(1)}}, folder / "other.pt")
    torch.save([1, 2], folder / "list.pt")
    torch.save({"format": "pairstream-checkpoint/9"}, folder / "newer.pt")
    (folder / "folder.pt").mkdir()
    no_whole = "is not a whole checkpoint"
    return {
        "missing.pt": "missing.pt not found; expected a file such as RUN/best.pt",
        "folder.pt": "not found",
        **dict.fromkeys(("empty.pt", "text.pt", "pickle.pt", "zip.pt", "bomb.pt"), no_whole),
        "other.pt": f"format None, expected '{FORMAT}'",
        "list.pt": f"format 'list', expected '{FORMAT}'",
        "newer.pt": "format 'pairstream-checkpoint/9'",
    }


def test_a_file_that_is_no_checkpoint_is_refused_and_runs_no_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, complaint in foreign_files(tmp_path).items():
        with pytest.raises(UserError, match=complaint):
            load_checkpoint(tmp_path / name)
    assert not (tmp_path / "harm.txt").exists()
