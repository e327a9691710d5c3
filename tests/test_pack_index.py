"""Tars of plain webdataset become a dataset where they lie, and everything reads it as one of ours."""

import json
import logging
import re
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from conftest import run
from stranger_tars import (
    files,
    image,
    members_of,
    pair,
    plain_pixels,
    write_members,
    write_samples,
)

from pack.adopt import command as index
from pack.adopt.adopt import adopt
from pack.adopt.config import IndexConfig
from pack.base.names import pair_id
from pack.dataset.dataset import iterate_pairs, open_dataset
from pack.dataset.pairs import StoredPair
from pack.dataset.selection import select
from pack.inspect import info, preview, verify
from pack.shard.manifest import read_manifest
from pack.shard.schema import ADOPTED_SCHEMA, hinted
from pack.storage import open_store
from recon.base.errors import UserError
from recon.image.codec import Pixels, decode_rgb
from train.loader.loader import PairLoader
from train.window.geometry import centre_crop

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves tars to the collector


def adopted(*urls: object, **options: Any) -> None:
    adopt(IndexConfig(url=[str(url) for url in urls], **options))


def pairs(url: object) -> list[StoredPair]:
    return list(iterate_pairs(str(url), block=3))


def rows(url: object) -> list[dict[str, Any]]:
    dataset = open_dataset(str(url))
    return [row for shard in range(len(dataset.manifest.shards)) for row in dataset.table(shard).to_pylist()]


def pixels(url: object) -> dict[str, tuple[Pixels, Pixels]]:
    return {one.key: (decode_rgb(one.real), decode_rgb(one.fake)) for one in pairs(url)}


def same(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    return found.keys() == expected.keys() and all(
        np.array_equal(one, other)
        for key in found
        for one, other in zip(found[key], expected[key], strict=True)
    )


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """Eleven pairs in three tars of `webdataset.ShardWriter`."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    with webdataset.ShardWriter(str(folder / "%03d.tar"), maxcount=4, verbose=0) as writer:
        for number in range(11):
            writer.write(pair(number))
    return folder


def test_tars_of_webdataset_become_a_dataset_that_every_command_takes(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tars = files(theirs)
    assert run(monkeypatch, index.main, theirs) == 0
    ours = {f"00{n}.{suffix}" for n in range(3) for suffix in ("hints", "parquet")}
    ours |= {"README.md", "dataset.json"}
    assert files(theirs).keys() == tars.keys() | ours
    assert {name: data for name, data in files(theirs).items() if name in tars} == tars, "a tar was changed"
    assert run(monkeypatch, verify.main, theirs) == 0
    assert capsys.readouterr().out == "11 pairs in 3 shards: every byte agrees\n"
    assert run(monkeypatch, info.main, theirs, "--as_json", "true") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["name"], facts["pairs"], facts["rejected"]) == ("theirs", 11, 0)
    assert facts["counts"]["group"] == {"theirs": 11}
    assert facts["counts"]["real_codec"] == {"jpeg": 11}
    assert run(monkeypatch, preview.main, theirs, "--out", tmp_path / "sheet.png") == 0
    assert (tmp_path / "sheet.png").stat().st_size > 1000


def test_pairs_are_what_webdataset_reads_to_the_pixel(theirs: Path) -> None:
    adopted(theirs)
    assert same(pixels(theirs), plain_pixels(sorted(theirs.glob("*.tar"))))
    for number, one in enumerate(pairs(theirs)):
        assert list(one.members) == ["real.jpg", "fake.png", "json"]
        assert one.members["real.jpg"] == image(number)
        assert json.loads(one.members["json"]) == {"label": f"l{number % 2}"}
        assert one.pair_id == pair_id("theirs", one.key)


@pytest.mark.parametrize("world_size", [1, 2])
def test_loader_gives_each_pair_once_with_the_pixels_of_webdataset(theirs: Path, world_size: int) -> None:
    adopted(theirs)
    expected = plain_pixels(sorted(theirs.glob("*.tar")))
    found: dict[str, Any] = {}
    for rank in range(world_size):
        loader = PairLoader(
            str(theirs),
            batch_size=4 // world_size,
            seed=3,
            rank=rank,
            world_size=world_size,
            lanes=2,
            augment=None,
            centre_crop=16,
            workers=0,
        )
        for batch in loader:
            for key, images_PCHW in zip(batch.keys, batch.images[batch.mask], strict=True):
                assert key not in found, "a pair came twice"
                found[key] = images_PCHW
    crops = {key: np.stack([centre_crop(one, 16) for one in two]) for key, two in expected.items()}
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[key].permute(0, 2, 3, 1).numpy(), crops[key]) for key in found)


def test_user_stages_of_the_loader_get_the_names_of_ours(tmp_path: Path) -> None:
    write_samples(
        tmp_path / "a.tar",
        [pair(n, **{"jpg": image(n), "recon.png": image(n, "PNG"), "txt": b"x"}) for n in range(3)],
    )
    adopted(tmp_path, real="jpg", fake="recon.png")
    seen: list[set[str]] = []

    def look(samples: Any) -> Any:
        for sample in samples:
            seen.append({name for name in sample if not name.startswith("__")})
            yield sample

    loader = PairLoader(
        str(tmp_path), batch_size=3, seed=0, lanes=1, augment=None, centre_crop=8, workers=0, stages=(look,)
    )
    assert sum(int(batch.mask.sum()) for batch in loader) == 3
    assert seen == [{"real.jpg", "fake.png"}] * 3


@pytest.mark.parametrize(
    ("real", "fake"), [("jpg", "recon.png"), ("JPG", "recon.{png,webp}"), ("jpeg;jpg", "recon.png")]
)
def test_fields_of_other_names_are_taken_by_option(tmp_path: Path, real: str, fake: str) -> None:
    fields = [{"jpg": image(n), "recon.png": image(n, "PNG"), "mask.png": b"no image"} for n in range(5)]
    path = write_samples(tmp_path / "a.tar", [pair(n, **one) for n, one in enumerate(fields)])
    adopted(tmp_path, real=real, fake=fake)
    assert [one.real for one in pairs(tmp_path)] == [image(n) for n in range(5)]
    assert same(pixels(tmp_path), plain_pixels_of_two(path))
    assert not list(verify.verify(open_dataset(str(tmp_path))))


def plain_pixels_of_two(path: Path) -> dict[str, tuple[Pixels, Pixels]]:
    samples = webdataset.WebDataset(str(path), shardshuffle=False)
    return {s["__key__"]: (decode_rgb(s["jpg"]), decode_rgb(s["recon.png"])) for s in samples}


def test_of_several_fields_the_first_named_counts(tmp_path: Path) -> None:
    both = {"a.jpg": image(0), "b.jpg": image(3), "fake.png": image(0, "PNG")}
    write_samples(tmp_path / "a.tar", [pair(0, **both)])
    adopted(tmp_path, real="b.jpg;a.jpg")
    assert pairs(tmp_path)[0].real == image(3)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("key", ["short", "folder/" + "n" * 60, "d" * 60 + "/" + "n" * 80])
def test_names_of_any_tar_format_lead_to_the_right_bytes(tmp_path: Path, form: int, key: str) -> None:
    members = [one for n in range(3) for one in members_of(n, f"{key}{n}")]
    write_members(tmp_path / "a.tar", members, form)
    adopted(tmp_path)
    assert [one.key for one in pairs(tmp_path)] == [f"{key}{n}" for n in range(3)]
    assert [data for one in pairs(tmp_path) for data in one.members.values()] == [data for _, data in members]
    assert not list(verify.verify(open_dataset(str(tmp_path))))


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("key", ["写真/k0", "n" * 200 + "/é", "raw\udcff"])
def test_names_that_no_ustar_header_holds_are_read_and_verified(tmp_path: Path, form: int, key: str) -> None:
    write_members(tmp_path / "a.tar", members_of(0, key), form)
    adopted(tmp_path)
    (one,) = pairs(tmp_path)
    assert one.key == key.replace("\udcff", r"\xff")
    assert one.real == image(0)
    assert not list(verify.verify(open_dataset(str(tmp_path))))


def test_tar_of_the_tar_command_is_taken(tmp_path: Path) -> None:
    import subprocess

    source = tmp_path / "source"
    (source / "cats").mkdir(parents=True)
    for n in range(4):
        for name, data in members_of(n, f"cats/{n}"):
            (source / name).write_bytes(data)
    for form in ("gnu", "ustar", "posix"):
        (tmp_path / form).mkdir()
        command = [
            "tar",
            "--sort=name",
            f"--format={form}",
            "-cf",
            tmp_path / form / "a.tar",
            "-C",
            source,
            ".",
        ]
        subprocess.run(command, check=True)
        adopted(tmp_path / form, name="same")
        assert [one.key for one in pairs(tmp_path / form)] == [f"./cats/{n}" for n in range(4)]
        assert not list(verify.verify(open_dataset(str(tmp_path / form))))


def test_rows_tell_what_the_files_say(tmp_path: Path) -> None:
    grey = image(1, "PNG", (9, 7))
    jpeg = image(0, quality=83, subsampling="4:4:4", progressive=True)
    samples = [pair(0, **{"real.jpg": jpeg, "fake.webp": image(0, "WEBP", lossless=True)})]
    samples += [pair(1, **{"real.png": grey, "fake.png": grey, "json": b'{"label": "x"}'})]
    write_samples(tmp_path / "a.tar", samples)
    adopted(tmp_path, name="d", autoencoder="sd21", split="train")
    first, second = rows(tmp_path)
    assert list(first) == hinted(ADOPTED_SCHEMA).names
    expected = {
        "key": "k0000",
        "pair_id": pair_id("d", "k0000"),
        "path": "k0000",
        "group": "d",
        "width": 56,
        "height": 40,
        "channels": 3,
        "real_codec": "jpeg",
        "fake_codec": "webp",
        "jpeg_quality": 83,
        "jpeg_subsampling": "4:4:4",
        "jpeg_progressive": True,
        "codec_policy": "adopted",
        "autoencoder": "sd21",
        "json_size": 0,
        "json_header": None,
        "real_header": "k0000.real.jpg",
    }
    assert expected.items() <= first.items()
    assert (second["real_codec"], second["jpeg_quality"], second["json_header"]) == (
        "png",
        None,
        "k0001.json",
    )
    assert list(pairs(tmp_path)[0].members) == ["real.jpg", "fake.webp"]
    assert read_manifest(open_store(str(tmp_path))).split == "train"


def test_suffix_may_lie_about_the_codec(tmp_path: Path) -> None:
    samples = [pair(0, **{"real.JPG": image(0, "PNG"), "fake.jpeg": image(0, "WEBP")})]
    write_samples(tmp_path / "a.tar", samples)
    adopted(tmp_path)
    assert list(pairs(tmp_path)[0].members) == ["real.png", "fake.webp"]
    assert not list(verify.verify(open_dataset(str(tmp_path))))


def test_groups_come_from_the_option_the_json_or_the_key(tmp_path: Path) -> None:
    for name, start in {"constant": "", "json": "", "key": "", "dot": "./", "root": "/", "up": "../"}.items():
        samples = [pair(n) | {"__key__": f"{start}{'ab'[n % 2]}/k{n}"} for n in range(4)]
        write_samples(tmp_path / name / "a.tar", samples)
    adopted(tmp_path / "constant", group="coco")
    adopted(tmp_path / "json", group_field="label")
    adopted(tmp_path / "key")
    groups = [[one.group for one in pairs(tmp_path / name)] for name in ("constant", "json", "key")]
    assert groups == [["coco"] * 4, ["l0", "l1", "l0", "l1"], ["a", "b", "a", "b"]]
    for name in ("dot", "root", "up"):  # as tar writes a whole folder
        adopted(tmp_path / name)
        assert [one.group for one in pairs(tmp_path / name)] == ["a", "b", "a", "b"]


def test_filter_selects_pairs_of_adopted_tars(theirs: Path) -> None:
    adopted(theirs, group_field="label")
    chosen = select(open_dataset(str(theirs)), 'group == "l1" and width > 31')
    expected = [int(row["group"] == "l1" and row["width"] > 31) for row in rows(theirs)]
    assert int(chosen.counts.sum()) == sum(expected) > 0


@pytest.mark.parametrize(
    "urls",
    [
        ["."],
        ["000.tar", "001.tar", "002.tar"],
        ["00?.tar"],
        ["{000..002}.tar"],
        ["*"],
        ["002.tar", "00{0..1}.tar"],
    ],
)
def test_arguments_that_name_the_same_tars_give_the_same_bytes(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, urls: list[str]
) -> None:
    monkeypatch.chdir(theirs)
    assert run(monkeypatch, index.main, *urls, "--name", "n") == 0
    other = tmp_path / "other"
    other.mkdir()
    for path in theirs.glob("*.tar"):
        (other / path.name).write_bytes(path.read_bytes())
    adopted(other, name="n")
    assert files(theirs) == files(other)


def test_some_tars_of_a_directory_make_a_dataset_of_these(theirs: Path) -> None:
    (theirs / "002.tar").rename(theirs / "shard-000002.tar")
    adopted(theirs / "{000..001}.tar")
    assert [entry.name for entry in open_dataset(str(theirs)).manifest.shards] == ["000", "001"]
    assert not list(verify.verify(open_dataset(str(theirs))))


def test_second_run_finds_nothing_to_do_and_writes_nothing(
    theirs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    adopted(theirs)
    before = {path: path.stat().st_mtime_ns for path in theirs.iterdir()}
    with caplog.at_level(logging.INFO):
        adopted(theirs)
    assert "is indexed already, nothing to do" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in theirs.iterdir()} == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "x"}, "expected name x, found theirs; delete it"),
        ({"group": "x"}, "expected group x, found None; delete it"),
        ({"autoencoder": "x"}, "expected "),
        ({"split": "val"}, "expected split val, found None"),
    ],
)
def test_manifest_of_other_options_is_refused(theirs: Path, options: dict[str, Any], message: str) -> None:
    adopted(theirs)
    before = files(theirs)
    with pytest.raises(UserError, match=rf"dataset\.json is another: {message}"):
        adopted(theirs, **options)
    assert files(theirs) == before


def test_tar_added_or_changed_after_indexing_is_refused(theirs: Path) -> None:
    adopted(theirs)
    data = bytearray((theirs / "001.tar").read_bytes())
    data[600] ^= 1
    (theirs / "001.tar").write_bytes(data)
    with pytest.raises(UserError, match=r"001\.tar was changed since dataset\.json was written; delete it"):
        adopted(theirs)
    write_samples(theirs / "new.tar", [pair(50)])
    with pytest.raises(UserError, match=r"new\.tar is among the given tars only"):
        adopted(theirs)


def test_verify_finds_a_flipped_byte_of_a_payload_a_header_and_between(theirs: Path) -> None:
    adopted(theirs)
    row = rows(theirs)[5]
    whole = (theirs / "001.tar").read_bytes()
    for place, message in (
        (row["real_offset"] + 9, r"k0005\.real\.jpg: CRC-32 differs"),
        (row["fake_offset"] - 512 + 3, r"k0005\.fake\.png: broken tar header"),
        (len(whole) - 1, r"001\.tar: sha256 differs"),
    ):
        data = bytearray(whole)
        data[place] ^= 1
        (theirs / "001.tar").write_bytes(data)
        found = list(verify.verify(open_dataset(str(theirs))))
        assert any(re.search(message, line) for line in found), found
