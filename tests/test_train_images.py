"""The images that evaluation scores: which are found in a tree or table, and what is refused."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from scored_images import image_tree, png, put  # noqa: F401  # a fixture
from train_data import make_dataset

from recon.base.errors import UserError
from train.evaluation.inputs.find import open_source


def test_groups_by_what_no_index_has_are_refused(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="group_by=autoencoder would be ignored: it is for packed datasets"):
        open_source(str(tree), "autoencoder")
    with pytest.raises(UserError, match="group_by=genre, expected a column of the index: key, "):
        open_source(make_dataset(tmp_path, pairs=1, shard_pairs=1), "genre")


def test_a_folder_that_cannot_be_listed_is_an_error_and_not_fewer_images(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def refuse(path: Any = ".") -> Any:
        if str(path).rstrip("/").endswith("gan/0_real"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=r"can't list .*gan/0_real: Permission denied"):
        open_source(str(tree))


def test_hidden_files_are_no_images_of_a_tree(tree: Path) -> None:
    put(tree / "val/gan/0_real/._0.jpg", b"macOS writes such files")
    put(tree / "val/.gan/0_real/0.jpg", b"")
    assert open_source(str(tree)).total == 10


def test_a_tree_follows_links_to_its_halves_and_refuses_links_that_lead_nowhere(
    tree: Path, tmp_path: Path
) -> None:
    put(tmp_path / "photos/b.png", png(5))
    put(tree / "linked/1_fake/a.png", png(6))
    (tree / "linked/0_real").symlink_to(tmp_path / "photos")
    found = [(image.name, image.group, image.label) for image in open_source(str(tree)).images()]
    assert len(found) == 12
    assert found[:2] == [("linked/0_real/b.png", "linked", 0), ("linked/1_fake/a.png", "linked", 1)]
    (tree / "linked/1_fake/gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(UserError, match=r"1_fake/gone\.png: can't be read: No such file"):
        list(open_source(str(tree)).images())


@pytest.mark.parametrize("name", ["x" * 300 + ".png", "a\0.png"])
def test_a_name_that_no_file_can_have_is_a_file_that_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="found nothing, expected a packed dataset"):
        open_source(str(tmp_path / name))
    table = put(tmp_path / "list.csv", f"filename,typ\n{name},real\n".encode())
    with pytest.raises(UserError, match=r"can't be read: File name too long|expected a path or URL"):
        list(open_source(str(table)).images())


def test_a_file_that_may_not_be_looked_for_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = os.stat

    def refuse(path: Any, **options: Any) -> Any:
        if "secret" in str(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", refuse)
    with pytest.raises(UserError, match=r"can't look for .*secret/.*: Permission denied"):
        open_source(str(tmp_path / "secret/tree"))


def test_a_table_that_may_not_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = put(tmp_path / "list.csv", b"filename,typ\na.png,real\n")

    opened = os.open

    def refuse(path: Any, *rest: Any, **more: Any) -> int:
        if str(path) == str(table):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UserError, match=r"no permission to read .*list\.csv"):
        open_source(str(table))
