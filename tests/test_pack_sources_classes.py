"""Image folders of classes: the class is the group, and a split is never taken for a class."""

from pathlib import Path
from typing import Any

import pytest
from pack_runs import identity

from pack.base.config import PackConfig
from pack.base.items import Item
from pack.sources import find_items
from recon.base.errors import UserError


def found(source: Path, **options: Any) -> dict[str | None, list[Item]]:
    options = {"layout": "imagefolder", **options}
    return find_items(PackConfig(source=str(source), out="unused", **identity(options) | options))


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.mark.parametrize("validation", ["validation", "val", "valid"])
def test_splits_and_classes_are_those_of_the_folders(tmp_path: Path, validation: str) -> None:
    names = [
        f"{split}/{kind}/{n}.jpg" for split in ("train", validation, "test") for kind in "ab" for n in "12"
    ]
    splits = found(touch(tmp_path, *names, "README.md", "train/metadata.csv"))
    assert set(splits) == {"train", "val", "test"}
    for folder, split in (("train", "train"), (validation, "val"), ("test", "test")):
        assert [item.path for item in splits[split]] == [f"{folder}/{k}/{n}.jpg" for k in "ab" for n in "12"]
        assert [item.group for item in splits[split]] == ["a", "a", "b", "b"]


def test_classes_alone_are_one_dataset(tmp_path: Path) -> None:
    items = found(touch(tmp_path, "dog/1.jpg", "cat/2.jpg", "cat/x/3.png"))[None]
    assert [(item.path, item.group) for item in items] == [
        ("cat/2.jpg", "cat"),
        ("cat/x/3.png", "x"),
        ("dog/1.jpg", "dog"),
    ]


def test_source_with_splits_is_not_divided_anew(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.jpg", "test/a/2.jpg")
    with pytest.raises(UserError, match="brings its own splits"):
        found(tmp_path, val_fraction=0.5)


def test_split_may_be_a_link(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", "a/1.jpg")
    touch(tmp_path / "data", "train/a/1.jpg")
    (tmp_path / "data/val").symlink_to(tmp_path / "elsewhere")
    assert [item.path for item in found(tmp_path / "data")["val"]] == ["val/a/1.jpg"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train/a/1.jpg", "plane/1.jpg"], "holds plane next to its splits .* pass --layout folder"),
        (["train/a/1.jpg", "val/2.jpg"], r"val/2\.jpg lies in no class folder, expected SPLIT/CLASS/IMAGE"),
        (["a/1.jpg", "2.jpg"], r"2\.jpg lies in no class folder, expected CLASS/IMAGE; move it"),
        (["val/a/1.jpg", "validation/a/1.jpg"], "holds both val and validation; keep one"),
        (["train/1_fake/1.jpg", "train/0_real/1.jpg"], "holds fakes .* expected photographs only"),
        (["notes.txt"], "no images for the dataset"),
    ],
)
def test_folder_that_is_ambiguous_or_none_is_an_error_that_names_the_place(
    tmp_path: Path, names: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        found(touch(tmp_path, *names))


def test_reconstructions_of_classes_are_paired_by_relative_name(tmp_path: Path) -> None:
    touch(tmp_path / "real", "train/a/1.jpg", "test/a/1.jpg")
    touch(tmp_path / "fake", "train/a/1.png", "test/a/1.webp")
    splits = found(tmp_path / "real", reconstructions=str(tmp_path / "fake"))
    assert [item.fake and item.fake.name for item in (*splits["train"], *splits["test"])] == [
        "train/a/1.png",
        "test/a/1.webp",
    ]
