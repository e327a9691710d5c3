"""Paths: one way to tell folder from name, to look whether a file is there, and to name a file after data."""

import errno
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import photograph, save
from hypothesis import given
from hypothesis import strategies as st

from pack.adopt import command as adopt_command
from pack.command import main as pack_main
from pack.storage import LocalStore
from recon.base.errors import UserError
from recon.base.paths import exists, is_dir, is_file, is_plain_name, safe_name, split_path
from recon.folder import main as recon_main
from recon.models.config import ReconstructionConfig
from recon.models.locate import locate


@pytest.mark.parametrize(
    ("path", "folder", "name"),
    [
        ("x.png", ".", "x.png"),
        ("/x.png", "/", "x.png"),
        ("a/x.png", "a", "x.png"),
        ("/a/b/x.png", "/a/b", "x.png"),
        ("file:///x.png", "/", "x.png"),
        ("file:///a/x.png", "/a", "x.png"),
        ("s3://bucket/x.png", "s3://bucket", "x.png"),
        ("s3://bucket/a/x.png", "s3://bucket/a", "x.png"),
    ],
)
def test_folder_and_name_of_a_path_or_url(path: str, folder: str, name: str) -> None:
    assert split_path(path) == (folder, name)


@pytest.mark.parametrize("path", ["", "a/", "/", "..", "a/..", "s3://bucket", "s3://"])
def test_what_names_no_file_is_one_line(path: str) -> None:
    with pytest.raises(UserError, match="names no file, expected FOLDER/FILE or URL/FILE"):
        split_path(path)


@given(st.text())
def test_a_safe_name_is_one_plain_name_of_any_text(text: str) -> None:
    name = safe_name(text)
    assert is_plain_name(name)
    assert not name.startswith(".")
    assert len(name.encode()) <= 200


@pytest.mark.parametrize(
    ("text", "name"), [("mine", "mine"), ("../../x", "x"), ("/abs/x", "abs-x"), ("..", "unnamed")]
)
def test_a_safe_name_leads_nowhere_else(text: str, name: str) -> None:
    assert safe_name(text) == name


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/x", "a/b", "a\0", None, 3])
def test_paths_are_no_plain_names(name: object) -> None:
    assert not is_plain_name(name)


def failing(monkeypatch: pytest.MonkeyPatch, code: int, part: str) -> None:
    """Lets the file system answer so to everything whose path has `part` in it."""
    stat = os.stat

    def fail(path: Any, *rest: Any, **options: Any) -> os.stat_result:
        if part in str(path):
            raise OSError(code, os.strerror(code), str(path))
        return stat(path, *rest, **options)

    monkeypatch.setattr(os, "stat", fail)


@pytest.mark.parametrize("look", [is_file, is_dir, exists])
@pytest.mark.parametrize("code", [errno.EACCES, errno.ESTALE, errno.EIO])
def test_file_system_that_does_not_tell_is_one_line(
    monkeypatch: pytest.MonkeyPatch, look: Any, code: int
) -> None:
    failing(monkeypatch, code, "closed")
    with pytest.raises(UserError, match=rf"can't look for closed/x: {os.strerror(code)}; check its folder"):
        look("closed/x")


@pytest.mark.parametrize("path", ["x" * 300, "none", "a\0b", __file__ + "/x"])
def test_what_can_be_no_file_is_merely_not_there(path: str) -> None:
    assert not is_file(path)
    assert not is_dir(path)
    assert not exists(path)


def refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], main: Any, *arguments: object
) -> str:
    """The one line that a command ends with, with status 2."""
    monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    return line


BRACES = "{" + ",".join(f"{number:06d}" for number in range(73)) + "}.tar"


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (pack_main, ("--source", "SOURCE", "--out", "OUT", "--autoencoder", "identity")),
        (recon_main, ("--source", "SOURCE", "--out", "OUT", "--autoencoder", "identity")),
        (adopt_command.main, ("SOURCE",)),
    ],
)
def test_folder_without_permission_to_enter_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    main: Any,
    arguments: Any,
) -> None:
    failing(monkeypatch, errno.EACCES, "closed")
    places = {"SOURCE": str(tmp_path / "closed/photos"), "OUT": str(tmp_path / "out")}
    line = refused(monkeypatch, capsys, main, *(places.get(one, one) for one in arguments))
    assert "Permission denied" in line


def test_long_list_in_braces_is_not_taken_for_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(BRACES) > 255  # bytes that a name may have
    tars = tmp_path / BRACES
    packing = ("--source", tars, "--out", tmp_path / "out", "--autoencoder", "identity")
    assert "not found" in refused(monkeypatch, capsys, pack_main, *packing)
    assert "not found" in refused(monkeypatch, capsys, adopt_command.main, tars)


def test_store_whose_folder_can_not_be_looked_into_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(str(tmp_path / "closed"))
    failing(monkeypatch, errno.EACCES, "closed")
    with pytest.raises(UserError, match=r"can't look for .*closed"):
        store.names()
    with pytest.raises(UserError, match=r"can't look for .*closed/a\.tar"):
        store.exists("a.tar")


def test_home_of_nobody_is_merely_not_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nobody = "~nobody-of-that-name/data"
    assert not LocalStore(nobody).exists("a.tar")
    assert "holds nothing" in refused(monkeypatch, capsys, adopt_command.main, nobody)
    with pytest.raises(UserError, match="is no directory, no file and no hub id"):
        locate(ReconstructionConfig(autoencoder=nobody))


def test_name_too_long_for_the_new_suffix_is_rejected_alone(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    save(source / "good.jpg", photograph(16, 16, 0))
    long = f"{'x' * 251}.jpg"
    save(source / long, photograph(16, 16, 1))
    with pytest.raises(SystemExit) as end:
        recon_main(
            ["--source", str(source), "--out", str(out), "--autoencoder", "identity", "--format", "webp"]
        )
    assert end.value.code == 0
    assert (out / "good.webp").is_file()
    assert f'"{long}", "cause": "its name is too long with .webp' in (out / "rejected.jsonl").read_text()
