"""Which files packing, reconstructing and evaluating take for images, and what they say about the others."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import photograph, save

from pack.base.config import PackConfig
from pack.sources import find_items
from recon.base.errors import UserError
from recon.base.walk import LeftOut, walk
from recon.fit.data import load_photographs
from recon.folder import find_images
from recon.image.codec import SUFFIXES
from recon.listing import images_below
from train.evaluation.inputs.find import open_source

Lister = Callable[[Path], list[str]]


def packed(root: Path) -> list[str]:
    config = PackConfig(source=str(root), out="nowhere", autoencoder="identity")
    return [item.path for item in find_items(config)[None]]


def evaluated(root: Path) -> list[str]:
    return [image.name for image in open_source(str(root)).images()]


LISTERS: dict[str, Lister] = {"pack": packed, "recon": find_images, "evaluate": evaluated}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three images, and one of each kind of name that is no image."""
    root, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    for name in ("gan/0_real/a.png", "gan/0_real/b.JPG"):
        save(root / name, photograph(8, 8, 0))
    save(elsewhere / "c.png", photograph(8, 8, 1))
    (root / "sd/0_real").parent.mkdir()
    (root / "sd/0_real").symlink_to(elsewhere)  # the images of a half may lie elsewhere
    (root / "ldm").symlink_to(root / "gan")
    (root / "flux").symlink_to(tmp_path / "unmounted")
    (root / "gan/0_real/._a.png").write_bytes(b"as macOS writes it")
    (root / "gan/.thumbnails").mkdir()
    os.mkfifo(root / "gan/0_real/pipe.png")
    (root / "gan/0_real/readme.txt").write_text("two photographs")
    (root / "gan/0_real/LICENSE").write_text("free")
    return root


@pytest.mark.parametrize("command", LISTERS)
def test_every_command_lists_the_same_images_and_says_once_what_it_leaves_out(
    root: Path, command: str, caplog: pytest.LogCaptureFixture
) -> None:
    listed = LISTERS[command](root)
    assert listed == ["gan/0_real/a.png", "gan/0_real/b.JPG", "sd/0_real/c.png"]
    (told,) = [text for text in caplog.messages if "left out" in text]
    assert told == (
        f"{root}: left out hidden names: 2 (e.g. gan/.thumbnails); *.txt: 1 (e.g. gan/0_real/readme.txt); "
        "links that lead nowhere: 1 (e.g. flux); links to folders: 1 (e.g. ldm); "
        "names without a suffix: 1 (e.g. gan/0_real/LICENSE); others: 1"
    )


@pytest.mark.parametrize("command", LISTERS)
def test_half_whose_link_leads_nowhere_is_an_error_in_every_command(root: Path, command: str) -> None:
    (root / "flux").unlink()
    (root / "flux").mkdir()
    (root / "flux/0_real").symlink_to(root / "nowhere")
    with pytest.raises(UserError, match="flux/0_real is a link that leads nowhere"):
        LISTERS[command](root)


def test_image_whose_link_leads_nowhere_is_listed_so_that_somebody_rejects_it(tmp_path: Path) -> None:
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert images_below(tmp_path) == [("gone.png", None)]
    with pytest.raises(UserError, match=r"can't read .*gone\.png: No such file"):
        load_photographs(str(tmp_path))


def test_what_is_no_regular_file_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.png")  # without its folder: a socket's name may have 107 bytes
    left_out = LeftOut()
    assert list(walk(tmp_path, leave=left_out.add)) == []
    assert str(left_out) == "pipes, sockets, devices: 3 (e.g. device.png)"


def test_table_that_names_a_pipe_is_one_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "list.csv").write_text("path,label\npipe.png,0\n")
    config = PackConfig(source=str(tmp_path / "list.csv"), out="nowhere", autoencoder="identity")
    for listing in (lambda: find_items(config), lambda: open_source(str(tmp_path / "list.csv"))):
        with pytest.raises(
            UserError, match=r"list\.csv, row 1 names .*pipe\.png, which is no file but a pipe"
        ):
            listing()


def test_names_that_are_not_utf_8_are_told_in_a_printable_form(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_bytes(b"")
    assert images_below(tmp_path) == []
    assert r"*.txt: 1 (e.g. caf\xe9.txt)" in caplog.text


def test_nothing_is_told_where_nothing_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for suffix in SUFFIXES:
        (tmp_path / f"a{suffix.upper()}").write_bytes(b"")
    assert len(images_below(tmp_path)) == len(SUFFIXES)
    assert caplog.messages == []
