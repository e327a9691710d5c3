"""The names of the images in the tars: one for each half in every sample of a run, whatever the bytes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import photograph, save
from pack_runs import config, files

from pack.dataset.dataset import iterate_pairs, open_dataset
from pack.inspect.preview import contact_sheet
from pack.inspect.verify import verify
from pack.plan.fields import field_names
from pack.publish.dry_run import dry_run
from pack.publish.packing import pack
from pack.sources import find_items
from recon.image.codec import decode, decode_rgb
from train.evaluation.inputs.find import open_source
from train.loader.loader import PairLoader

GIVEN: dict[str, Any] = {"reconstructions": "png"}  # in the tests: the suffix of the reconstructions


def write(root: Path, suffixes: str, seed: int = 0) -> Path:
    for number, suffix in enumerate(suffixes.split()):
        save(root / f"{number}.{suffix}", photograph(16, 24, seed + number))
    return root


@pytest.mark.parametrize(
    ("suffixes", "options", "real", "fake"),
    [
        ("jpg jpeg JPG", {}, "jpg", "jpg"),
        ("png png", {}, "png", "png"),
        ("webp webp", {}, "webp", "webp"),
        ("bmp tif ppm gif", {}, "png", "png"),
        ("jfif jpe jpg", {}, "jpg", "jpg"),
        ("png bmp", {}, "png", "png"),
        ("bmp tif", {"codec": "lossless-webp"}, "webp", "webp"),
        ("png jpg", {}, "jpg", "jpg"),
        ("png webp", {}, "jpg", "jpg"),
        ("jpg jpg", {"codec": "lossless-png"}, "jpg", "png"),
        ("jpg png webp", {"codec": "lossless-webp"}, "jpg", "webp"),
        ("jpg png bmp", {"codec": "both"}, "jpg", "jpg"),
        ("jpg png", {"tile": 8}, "png", "png"),
        ("jpg png", {"tile": 8, "codec": "both"}, "jpg", "jpg"),
        ("jpg png", {"tile": 8, "codec": "lossless-webp"}, "webp", "webp"),
        ("png png", {"convert": True}, "png", "png"),
        (
            "png png",
            {"convert": True, "codec": "lossless-webp"},
            "jpg",
            "webp",
        ),  # one with alpha becomes WebP
        ("webp webp", {"convert": True}, "jpg", "jpg"),  # one with alpha becomes PNG
        ("png webp", GIVEN | {"codec": "keep"}, "jpg", "png"),
        (
            "png png",
            GIVEN | {"codec": "lossless-webp"},
            "png",
            "jpg",
        ),  # one coded as its real keeps its bytes
        ("webp webp", GIVEN | {"codec": "lossless-png"}, "webp", "png"),
        ("webp webp", GIVEN, "webp", "webp"),
    ],
)
def test_name_has_the_true_suffix_where_one_codec_is_possible_and_else_jpg(
    tmp_path: Path, suffixes: str, options: dict[str, Any], real: str, fake: str
) -> None:
    source = write(tmp_path / "photos", suffixes)
    if suffix := options.get("reconstructions"):
        write(tmp_path / "fakes", " ".join([suffix] * len(suffixes.split())), seed=9)
        options = options | {"reconstructions": str(tmp_path / "fakes")}
    out = tmp_path / "out"
    pack(config(source, out, **options))
    dataset = open_dataset(str(out))
    assert dataset.manifest.fields == {"real": f"real.{real}", "fake": f"fake.{fake}"}
    assert {tuple(pair.members) for pair in iterate_pairs(str(out))} == {
        (f"real.{real}", f"fake.{fake}", "json")
    }
    rows = [row for shard in range(len(dataset.manifest.shards)) for row in dataset.table(shard).to_pylist()]
    for row, pair in zip(rows, iterate_pairs(str(out)), strict=True):
        codecs = [decode(data, max_pixels=10**6).codec for data in (pair.real, pair.fake)]
        assert codecs == [row["real_codec"], row["fake_codec"]]
        for suffix, codec in zip((real, fake), codecs, strict=True):
            assert suffix in ("jpg", codec)
    assert list(verify(dataset)) == []


def test_file_of_other_content_than_its_suffix_has_the_same_name(tmp_path: Path) -> None:
    source = write(tmp_path / "photos", "jpg jpg")
    pixels = photograph(16, 24, 5)
    save(source / "2.png", pixels)
    (source / "2.png").rename(source / "2.jpg")
    pack(config(source, tmp_path / "out"))
    *_, pair = iterate_pairs(str(tmp_path / "out"))
    assert list(pair.members) == ["real.jpg", "fake.jpg", "json"]
    assert np.array_equal(decode_rgb(pair.real), pixels)
    table = open_dataset(str(tmp_path / "out")).table(0)
    assert table["real_codec"].to_pylist() == table["fake_codec"].to_pylist() == ["jpeg", "jpeg", "png"]


def test_all_splits_of_a_run_have_the_same_names(tmp_path: Path) -> None:
    write(tmp_path / "photos/train/a", "jpg jpg png")
    write(tmp_path / "photos/test/a", "png png", seed=4)
    pack(config(tmp_path / "photos", tmp_path / "out", layout="imagefolder"))
    found = [open_dataset(str(tmp_path / "out" / split)).manifest.fields for split in ("train", "test")]
    assert found == [{"real": "real.jpg", "fake": "fake.jpg"}] * 2


def test_files_without_a_known_suffix_may_have_any_codec(tmp_path: Path) -> None:
    save(tmp_path / "photos/a.png", photograph(16, 24, 0))
    save(tmp_path / "photos/b.png", photograph(16, 24, 1))
    (tmp_path / "photos/b.png").rename(tmp_path / "photos/b")
    (tmp_path / "photos/list.csv").write_text("path\na.png\nb\n")
    run = config(tmp_path / "photos/list.csv", tmp_path / "out")
    assert field_names(find_items(run)[None], run) == {"real": "real.jpg", "fake": "fake.jpg"}


def test_names_by_codec_differ_in_one_dataset(photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    pack(config(photographs, out, fields="by_codec"))
    dataset = open_dataset(str(out))
    assert dataset.manifest.fields is None
    suffix = {"jpeg": "jpg", "png": "png", "webp": "webp"}
    for shard in range(len(dataset.manifest.shards)):
        for row in dataset.table(shard).to_pylist():
            assert row["real_field"] == f"real.{suffix[row['real_codec']]}"
            assert row["fake_field"] == f"fake.{suffix[row['fake_codec']]}"
    names = {tuple(pair.members) for pair in iterate_pairs(str(out))}
    assert names == {(f"real.{one}", f"fake.{one}", "json") for one in ("jpg", "png", "webp")}
    assert list(verify(dataset)) == []


def test_readers_tell_the_codec_by_the_bytes_and_not_by_the_name(
    packed: Path, photographs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "photos"
    pack(config(photographs, out, fields="by_codec"))
    images = [[(pair.key, pair.real, pair.fake) for pair in iterate_pairs(str(at))] for at in (packed, out)]
    assert images[0] == images[1]
    sheets = [contact_sheet(open_dataset(str(at)), count=11, gain=8, side=64) for at in (packed, out)]
    assert np.array_equal(*sheets)
    scored = [[(one.name, one.data) for one in open_source(str(at)).images()] for at in (packed, out)]
    assert scored[0] == scored[1]
    read = [PairLoader(str(at), batch_size=4, lanes=4, workers=0, centre_crop=16) for at in (packed, out)]
    for one, other in zip(*read, strict=True):
        assert one.keys == other.keys
        assert torch.equal(one.images, other.images)
        assert bool(one.mask.sum() == len(one.keys)), "all can be decoded"


@pytest.mark.parametrize("fields", ["auto", "by_codec"])
def test_names_are_the_same_for_any_number_of_ranks(photographs: Path, tmp_path: Path, fields: str) -> None:
    pack(config(photographs, tmp_path / "one", fields=fields, name="photos"))
    for rank in (1, 0):
        pack(config(photographs, tmp_path / "two", fields=fields, name="photos", rank=rank, world_size=2))
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_other_names_are_another_dataset(photographs: Path, tmp_path: Path) -> None:
    pack(config(photographs, tmp_path / "out"))
    with pytest.raises(ValueError, match="holds another dataset"):
        pack(config(photographs, tmp_path / "out", fields="by_codec"))


def test_packing_says_the_names_in_one_line(
    photographs: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level("INFO")
    dry_run(config(photographs, tmp_path / "out"))
    assert "\nfields        real.jpg, fake.jpg, json\n" in capsys.readouterr().out
    pack(config(photographs, tmp_path / "out"))
    said = [text for text in caplog.messages if "every sample" in text]
    assert said == ["every sample holds real.jpg and fake.jpg, whatever their codecs (--fields auto)"]
