"""What is found in folders and trees: partners are never guessed, photographs never split."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import photograph, save
from pack_runs import identity

from pack.base.config import PackConfig
from pack.base.items import Item
from pack.publish.packing import pack
from pack.sources import find_items
from recon.base.errors import UserError


def config(source: Path, **options: Any) -> PackConfig:
    return PackConfig(source=str(source), out="unused", **identity(options) | options)


def touch(root: Path, *names: str) -> Path:
    """Empty files: finding looks at names alone."""
    root.mkdir(parents=True, exist_ok=True)
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def paths(items: list[Item]) -> list[str]:
    return [item.path for item in items]


def test_folder_is_walked_sorted_and_grouped_by_its_first_level(photographs: Path) -> None:
    items = find_items(config(photographs))[None]
    assert len(items) == 11
    assert paths(items) == sorted(paths(items))
    groups = {item.path: item.group for item in items}
    assert groups["plain.jpg"] == "photos"
    assert groups["a/full.jpg"] == "a"
    assert groups["Grüße/写真.jpg"] == "Grüße"


def test_two_folders_are_paired_by_name_whatever_the_suffix(tmp_path: Path) -> None:
    real = touch(tmp_path / "real", "a.jpg", "b/a.JPEG", "b/c.v1.2.png", "写 真.webp")
    fake = touch(tmp_path / "fake", "a.png", "b/a.png", "b/c.v1.2.webp", "写 真.jpg", "notes.txt")
    items = find_items(config(real, reconstructions=str(fake)))[None]
    found = {item.path: item.fake.name for item in items if item.fake}
    assert found == {
        "a.jpg": "a.png",
        "b/a.JPEG": "b/a.png",
        "b/c.v1.2.png": "b/c.v1.2.webp",
        "写 真.webp": "写 真.jpg",
    }


@pytest.mark.parametrize(
    ("reals", "fakes", "message"),
    [
        (["a.jpg", "b.jpg"], ["a.png"], r"1 of 2 images have no partner in .*fake, the first is b\.jpg"),
        (["a.jpg"], ["a.png", "x/b.png"], r"1 of 2 images have no partner in .*real, the first is x/b\.png"),
        (["a.jpg"], ["a.jpg", "a.png"], r"a\.jpg and a\.png in .*fake have the same name"),
        (["d/a.jpg", "d/a.webp"], ["d/a.png"], r"d/a\.jpg and d/a\.webp in .*real have the same name"),
    ],
)
def test_missing_extra_or_doubled_partner_is_an_error_that_names_file_and_folder(
    tmp_path: Path, reals: list[str], fakes: list[str], message: str
) -> None:
    real, fake = touch(tmp_path / "real", *reals), touch(tmp_path / "fake", *fakes)
    with pytest.raises(UserError, match=message):
        find_items(config(real, reconstructions=str(fake)))


def test_folder_of_reconstructions_that_is_none_is_an_error(tmp_path: Path) -> None:
    real = touch(tmp_path / "real", "a.jpg")
    with pytest.raises(UserError, match=r"nowhere is not a directory, expected the reconstructions of"):
        find_items(config(real, reconstructions=str(tmp_path / "nowhere")))


@pytest.mark.parametrize("validation", ["val", "valid"])
def test_tree_gives_its_splits_with_generators_as_groups(tmp_path: Path, validation: str) -> None:
    names = [
        f"{split}/{place}"
        for split in ("train", validation)
        for generator in ("sd15", "ldm/celeba")
        for place in (f"{generator}/0_real/a.jpg", f"{generator}/1_fake/a.png")
    ]
    splits = find_items(config(touch(tmp_path / "tree", *names, "test/x/0_real/a.jpg"), layout="tree"))
    assert set(splits) == {"train", "val"}
    for folder, items in ((validation, splits["val"]), ("train", splits["train"])):
        assert paths(items) == [f"{folder}/ldm/celeba/0_real/a.jpg", f"{folder}/sd15/0_real/a.jpg"]
        assert [item.group for item in items] == ["ldm/celeba", "sd15"]
        for item in items:
            assert item.fake
            assert Path(item.fake.url) == Path(item.real.url).parent.parent / "1_fake" / "a.png"


def test_tree_with_a_missing_partner_names_generator_folder_and_file(tmp_path: Path) -> None:
    names = ["train/sd/0_real/a.jpg", "train/sd/0_real/b.jpg", "train/sd/1_fake/a.png"]
    with pytest.raises(UserError, match=r"no partner in .*train/sd/1_fake, the first is b\.jpg"):
        find_items(config(touch(tmp_path, *names), layout="tree"))


def test_folder_that_is_no_tree_is_an_error_that_shows_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds none of train, val, valid; expected .*GENERATOR/0_real"):
        find_items(config(touch(tmp_path, "a.jpg"), layout="tree"))


def test_tiles_lie_on_the_grid_and_inside_the_photograph(tmp_path: Path) -> None:
    save(tmp_path / "a.png", photograph(70, 50, 0))
    items = find_items(config(tmp_path, tile=24, tile_stride=16))[None]
    assert [item.tile for item in items] == [(y, x) for y in (0, 16, 32) for x in (0, 16)]
    assert [item.tile for item in find_items(config(tmp_path, tile=24))[None]] == [
        (y, x) for y in (0, 24) for x in (0, 24)
    ]


def test_photograph_of_a_tiles_very_size_is_one_tile(tmp_path: Path) -> None:
    save(tmp_path / "a.png", photograph(24, 24, 0))
    assert [item.tile for item in find_items(config(tmp_path, tile=24))[None]] == [(0, 0)]


def test_tile_holds_the_pixels_of_its_place(tmp_path: Path) -> None:
    import json

    from pack.dataset.dataset import iterate_pairs
    from recon.image.codec import decode_rgb

    pixels = photograph(40, 50, 0)
    save(tmp_path / "photos/a.png", pixels)
    pack(
        PackConfig(
            source=str(tmp_path / "photos"), out=str(tmp_path / "out"), autoencoder="identity", tile=16
        )
    )
    pairs = list(iterate_pairs(str(tmp_path / "out")))
    assert len(pairs) == 6
    for pair in pairs:
        record = json.loads(pair.members["json"])
        y, x = record["tile_y"], record["tile_x"]
        expected = pixels[y : y + 16, x : x + 16]
        assert np.array_equal(decode_rgb(pair.real), expected)
        assert np.array_equal(decode_rgb(pair.fake), expected)


def test_photograph_smaller_than_a_tile_is_rejected_with_both_sizes(tmp_path: Path) -> None:
    save(tmp_path / "photos/large.png", photograph(40, 40, 0))
    save(tmp_path / "photos/small.png", photograph(40, 20, 0))
    out = tmp_path / "out"
    pack(PackConfig(source=str(tmp_path / "photos"), out=str(out), autoencoder="identity", tile=32))
    assert "20x40 is smaller than tile=32" in (out / "rejected.jsonl").read_text()


@pytest.mark.parametrize("options", [{"tile": 12}, {"tile": 16, "tile_stride": 4}])
def test_tiles_off_the_8_pixel_grid_are_refused(tmp_path: Path, options: dict[str, int]) -> None:
    with pytest.raises(UserError, match="expected a multiple of 8"):
        config(tmp_path, **options)


def test_validation_split_is_by_photograph_so_no_photograph_is_on_both_sides(tmp_path: Path) -> None:
    for number in range(12):
        save(tmp_path / f"{number}.png", photograph(16, 24, number))
    splits = find_items(config(tmp_path, tile=8, val_fraction=0.4))
    train, val = set(paths(splits["train"])), set(paths(splits["val"]))
    assert train
    assert val
    assert not train & val
    assert len(splits["train"]) == 6 * len(train)
    assert len(splits["val"]) == 6 * len(val)


def test_split_of_an_image_does_not_depend_on_the_others(tmp_path: Path) -> None:
    few = touch(tmp_path / "few", *[f"{number}.png" for number in range(20)])
    many = touch(tmp_path / "many", *[f"{number}.png" for number in range(60)])
    val_of_few, val_of_many = (
        set(paths(find_items(config(root, val_fraction=0.3))["val"])) for root in (few, many)
    )
    assert val_of_few
    assert val_of_few == {path for path in val_of_many if int(path.split(".")[0]) < 20}


def test_limit_takes_the_first_images_of_each_split(tmp_path: Path) -> None:
    touch(tmp_path, *[f"{number:02}.png" for number in range(30)])
    whole = find_items(config(tmp_path, val_fraction=0.5))
    some = find_items(config(tmp_path, val_fraction=0.5, limit=3))
    assert some == {split: items[:3] for split, items in whole.items()}


def test_tree_is_not_packed_as_a_folder_of_photographs(tmp_path: Path) -> None:
    touch(tmp_path, "train/sd/0_real/a.png", "train/sd/1_fake/a.png")
    with pytest.raises(UserError, match=r"holds fakes \(train/sd/1_fake/a.png\).* pass --layout tree"):
        find_items(config(tmp_path))


def test_source_that_is_no_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere is not a directory"):
        find_items(config(tmp_path / "nowhere"))


def test_source_without_images_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt", ".hidden.png")
    with pytest.raises(UserError, match="no images for the dataset in"):
        find_items(config(tmp_path))


def test_split_that_gets_no_image_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no images for val in"):
        find_items(config(touch(tmp_path, "a.png"), val_fraction=0.0001))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "tree", "val_fraction": 0.1}, "layout=tree brings its own"),
        ({"tile": 8, "reconstructions": "fake"}, "ready reconstructions can't be used"),
        ({"codec": "keep"}, "codec=keep needs ready reconstructions"),
        ({"tile_stride": 8}, "tile_stride needs tile"),
        ({"val_fraction": 1.0}, "expected 0 <= val_fraction < 1"),
        ({"limit": 0}, "limit=0, expected at least 1"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        config(tmp_path, **options)


def test_items_do_not_depend_on_where_the_source_lies(photographs: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(photographs, tmp_path / "photos"))
    here, there = (find_items(config(root))[None] for root in (photographs, copy))
    assert [(item.path, item.group) for item in here] == [(item.path, item.group) for item in there]
