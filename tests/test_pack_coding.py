"""The reconstruction's coding: as its real image's, lossless, or kept, and never a guess."""

import json
import re
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ORIENTATION, PROFILE, photograph, save
from pack_runs import identity
from PIL import Image

from pack.base.config import PackConfig
from pack.dataset.dataset import iterate_pairs, open_dataset
from pack.dataset.pairs import StoredPair
from pack.inspect.looks import unlike
from pack.inspect.verify import verify
from pack.publish.packing import pack
from recon.base.errors import UserError
from recon.image.codec import Picture, decode, decode_rgb


def packed_pairs(source: Path, out: Path, **options: Any) -> dict[str, StoredPair]:
    """Packs `source`; its pairs by path."""
    given = identity(options) | {"threads": 2} | options
    pack(PackConfig(source=str(source), out=str(out), **given))
    return {json.loads(pair.members["json"])["path"]: pair for pair in iterate_pairs(str(out))}


def opened(data: bytes) -> Picture:
    return decode(data, max_pixels=10**6)


def causes(out: Path) -> dict[str, str]:
    lines = [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]
    return {line["path"]: line["cause"] for line in lines}


def by_path(root: Path) -> dict[str, StoredPair]:
    return {json.loads(pair.members["json"])["path"]: pair for pair in iterate_pairs(str(root))}


def test_reconstruction_of_a_jpeg_has_its_tables_subsampling_and_kind(packed: Path) -> None:
    codings = set()
    for pair in by_path(packed).values():
        real, fake = opened(pair.real), opened(pair.fake)
        assert fake.codec == real.codec
        assert fake.jpeg == real.jpeg
        if real.jpeg:
            codings.add((real.jpeg.subsampling, real.jpeg.progressive))
    assert codings == {("4:2:0", False), ("4:4:4", False), ("grey", False), ("4:2:2", True)}


def test_both_members_have_one_size_and_grey_stays_grey(packed: Path) -> None:
    grey = set()
    for path, pair in by_path(packed).items():
        real, fake = opened(pair.real), opened(pair.fake)
        assert real.pixels.shape == fake.pixels.shape
        if real.pixels.shape[2] == 1:
            grey.add(path)
    assert grey == {"a/grey.jpg", "b/grey.png"}


@pytest.mark.parametrize("codec", ["match", "lossless-png", "lossless-webp"])
def test_orientation_and_profile_are_carried_to_the_reconstruction(
    photographs: Path, tmp_path: Path, codec: str
) -> None:
    shutil.copytree(photographs, tmp_path / "photos", ignore=shutil.ignore_patterns("a", "b", "G*", "plain*"))
    pair = packed_pairs(tmp_path / "photos", tmp_path / "out", codec=codec)["rotated.jpg"]
    real, fake = opened(pair.real), opened(pair.fake)
    assert (fake.orientation, fake.icc) == (real.orientation, real.icc) == (6, PROFILE)
    assert fake.size == real.size == (32, 48)


@pytest.mark.parametrize("codec", ["lossless-png", "lossless-webp"])
def test_identity_under_a_lossless_codec_gives_pairs_of_equal_pixels(
    photographs: Path, tmp_path: Path, codec: str
) -> None:
    pairs = packed_pairs(photographs, tmp_path / "out", codec=codec)
    assert len(pairs) == 11
    for pair in pairs.values():
        assert np.array_equal(decode_rgb(pair.real), decode_rgb(pair.fake))
        assert opened(pair.fake).codec == codec.removeprefix("lossless-")


def test_jpeg_that_cannot_be_matched_is_rejected_with_cause_and_advice(tmp_path: Path) -> None:
    save(tmp_path / "photos/ok.jpg", photograph(16, 16, 0))
    out = BytesIO()
    Image.fromarray(photograph(16, 32, 1)).save(out, "JPEG", subsampling="4:2:2")
    data = bytearray(out.getvalue())
    data[data.index(b"\xff\xc0") + 11] = 0x31  # three luma samples to one of chroma
    (tmp_path / "photos/odd.jpg").write_bytes(data)
    packed_pairs(tmp_path / "photos", tmp_path / "out")
    assert set(causes(tmp_path / "out")) == {"odd.jpg"}
    assert "3x1 can't be matched" in causes(tmp_path / "out")["odd.jpg"]
    assert "--codec lossless-png" in causes(tmp_path / "out")["odd.jpg"]
    assert len(packed_pairs(tmp_path / "photos", tmp_path / "lossless", codec="lossless-png")) == 2


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Folders of one real JPEG, rotated and with a profile, and, still empty, of reconstructions."""
    exif = Image.Exif()
    exif[ORIENTATION] = 3
    save(tmp_path / "real/a.jpg", photograph(32, 40, 0), quality=80, exif=exif, icc_profile=PROFILE)
    (tmp_path / "fake").mkdir()
    return tmp_path / "real", tmp_path / "fake"


def test_lossless_reconstruction_is_coded_as_its_real_jpeg(two: tuple[Path, Path], tmp_path: Path) -> None:
    real, fake = two
    save(fake / "a.png", photograph(32, 40, 1))
    pair = packed_pairs(real, tmp_path / "out", reconstructions=str(fake))["a.jpg"]
    assert pair.real == (real / "a.jpg").read_bytes()
    stored, expected = opened(pair.fake), opened(pair.real)
    assert stored.jpeg == expected.jpeg
    assert (stored.orientation, stored.icc) == (3, PROFILE)
    assert np.abs(decode_rgb(pair.fake).astype(int) - photograph(32, 40, 1)).mean() < 12


def test_jpeg_reconstruction_coded_alike_keeps_its_bytes(two: tuple[Path, Path], tmp_path: Path) -> None:
    real, fake = two
    exif = Image.Exif()
    exif[ORIENTATION] = 3
    save(fake / "a.jpeg", photograph(32, 40, 1), quality=80, exif=exif, icc_profile=PROFILE)
    pair = packed_pairs(real, tmp_path / "out", reconstructions=str(fake))["a.jpg"]
    assert pair.fake == (fake / "a.jpeg").read_bytes()


XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<r:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="8"/></r:RDF></x:xmpmeta>"""


@pytest.mark.parametrize(
    "look",
    [{}, {"icc_profile": b"another"}, {"icc_profile": PROFILE}, {"xmp": XMP}, {"comment": b"made by sd15"}],
)
@pytest.mark.parametrize("profile", [PROFILE, PROFILE * 1000, None])  # the second fills several segments
def test_jpeg_reconstruction_coded_alike_gets_the_reals_orientation_and_profile(
    tmp_path: Path, look: dict[str, Any], profile: bytes | None
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 3
    save(tmp_path / "real/a.jpg", photograph(32, 40, 0), exif=exif, icc_profile=profile)
    save(tmp_path / "fake/a.jpg", photograph(32, 40, 1), **look)
    given = (tmp_path / "fake/a.jpg").read_bytes()
    pair = packed_pairs(tmp_path / "real", tmp_path / "out", reconstructions=str(tmp_path / "fake"))["a.jpg"]
    stored = opened(pair.fake)
    assert (stored.orientation, stored.icc) == (3, profile)
    assert np.array_equal(stored.pixels, opened(given).pixels)
    assert pair.fake.endswith(given[given.index(b"\xff\xdb") :])  # from the tables on
    assert list(verify(open_dataset(str(tmp_path / "out")))) == []


def test_verify_finds_a_pair_whose_headers_differ(
    two: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, fake = two
    save(fake / "a.jpg", photograph(32, 40, 1), quality=80)
    monkeypatch.setattr("pack.pipeline.encoding._look_alike", lambda *_: True)
    packed_pairs(real, tmp_path / "out", reconstructions=str(fake))
    packed_pairs(real, tmp_path / "kept", reconstructions=str(fake), codec="keep")
    (orientation, profile) = verify(open_dataset(str(tmp_path / "out")))
    assert orientation.endswith(": EXIF orientation of the real image 3, of its reconstruction 1")
    assert re.search(r": ICC profile of the real image \w{16}, of its reconstruction none$", profile)
    assert list(verify(open_dataset(str(tmp_path / "kept")))) == []  # whose bytes are the user's


@pytest.mark.parametrize(
    ("real", "fake", "difference"),
    [
        ({"quality": 80}, {"quality": 81}, "JPEG of the real image tables .* 81\\), 4:2:0, baseline"),
        ({"size": (8, 16)}, {"size": (16, 8)}, "size of the real image 16x8, of its reconstruction 8x16"),
    ],
)
def test_headers_of_a_pair_are_compared(real: dict[str, Any], fake: dict[str, Any], difference: str) -> None:
    files = []
    for options in (real, fake):
        out = BytesIO()
        size = options.pop("size", (16, 16))
        Image.fromarray(photograph(*size, 0)).save(out, "JPEG", **options)
        files.append(out.getvalue())
    assert re.search(difference, next(unlike(*files)))
    assert list(unlike(files[0], files[0])) == []
    assert "can't be read: zero bytes" in next(unlike(files[0], b""))


@pytest.mark.parametrize("codec", ["AVIF", "JPEG2000"])
def test_source_that_was_lossy_once_is_stored_losslessly_and_marked(tmp_path: Path, codec: str) -> None:
    (tmp_path / "real").mkdir()
    options = {"irreversible": True} if codec == "JPEG2000" else {}
    Image.fromarray(photograph(24, 32, 0)).save(
        tmp_path / "real/a.jpg", codec, **options
    )  # whatever its name
    pair = packed_pairs(tmp_path / "real", tmp_path / "out")["a.jpg"]
    real, fake = opened(pair.real), opened(pair.fake)
    assert real.codec == fake.codec == "png"
    assert np.array_equal(real.pixels, opened((tmp_path / "real/a.jpg").read_bytes()).pixels)
    assert np.array_equal(real.pixels, fake.pixels)
    assert json.loads(pair.members["json"])["converted"] == codec.lower()


def test_reconstruction_in_a_lossy_codec_that_cannot_be_matched_is_rejected(
    two: tuple[Path, Path], tmp_path: Path
) -> None:
    real, fake = two
    Image.fromarray(photograph(32, 40, 1)).save(fake / "a.avif")
    with pytest.raises(UserError, match="1x reconstruction is a lossy avif, which gives it away"):
        packed_pairs(real, tmp_path / "out", reconstructions=str(fake))
    (fake / "a.avif").unlink()
    Image.fromarray(photograph(32, 40, 1)).save(fake / "a.jp2")  # the wavelet that loses nothing
    options = {"reconstructions": str(fake), "codec": "lossless-png"}
    [pair] = packed_pairs(real, tmp_path / "out", **options).values()
    assert np.array_equal(opened(pair.fake).pixels, photograph(32, 40, 1))


@pytest.mark.parametrize("codec", ["match", "lossless-png"])
@pytest.mark.parametrize("options", [{"quality": 81}, {"quality": 80, "progressive": True}])
def test_jpeg_reconstruction_coded_unlike_is_rejected(
    two: tuple[Path, Path], tmp_path: Path, options: dict[str, Any], codec: str
) -> None:
    real, fake = two
    save(real / "b.png", photograph(8, 8, 2))
    save(fake / "b.png", photograph(8, 8, 3))
    save(fake / "a.jpg", photograph(32, 40, 1), **options)
    out = tmp_path / "out"
    assert set(packed_pairs(real, out, reconstructions=str(fake), codec=codec)) == {"b.png"}
    assert "JPEG coded unlike its real image" in causes(out)["a.jpg"]


def test_lossy_webp_reconstruction_is_rejected_and_lossless_webp_is_not(
    two: tuple[Path, Path], tmp_path: Path
) -> None:
    real, fake = two
    save(real / "b.png", photograph(8, 8, 2))
    save(fake / "b.webp", photograph(8, 8, 3), lossless=True, exif=Image.Exif().tobytes())
    save(fake / "a.webp", photograph(32, 40, 1), quality=80, icc_profile=PROFILE)
    out = tmp_path / "out"
    pairs = packed_pairs(real, out, reconstructions=str(fake))
    assert np.array_equal(decode_rgb(pairs["b.png"].fake), photograph(8, 8, 3))
    assert "lossy WebP" in causes(out)["a.jpg"]


def test_codec_keep_keeps_the_bytes_of_any_reconstruction(two: tuple[Path, Path], tmp_path: Path) -> None:
    real, fake = two
    save(fake / "a.jpg", photograph(32, 40, 1), quality=50)
    pair = packed_pairs(real, tmp_path / "out", reconstructions=str(fake), codec="keep")["a.jpg"]
    assert pair.fake == (fake / "a.jpg").read_bytes()
    assert json.loads(pair.members["json"])["codec_policy"] == "keep"


def test_lossless_reconstruction_without_the_reals_profile_gets_it(tmp_path: Path) -> None:
    save(tmp_path / "real/a.png", photograph(8, 8, 0), icc_profile=PROFILE)
    save(tmp_path / "fake/a.png", photograph(8, 8, 1))
    pair = packed_pairs(tmp_path / "real", tmp_path / "out", reconstructions=str(tmp_path / "fake"))["a.png"]
    assert opened(pair.fake).icc == PROFILE
    assert np.array_equal(decode_rgb(pair.fake), photograph(8, 8, 1))


@pytest.mark.parametrize(
    ("pixels", "found"),
    [
        (photograph(40, 32, 1), "32x40 with 3 channels"),
        (photograph(32, 40, 1)[..., 0], "40x32 with 1 channel"),
    ],
)
def test_reconstruction_of_another_size_is_rejected_with_both_sizes(
    two: tuple[Path, Path], tmp_path: Path, pixels: Any, found: str
) -> None:
    real, fake = two
    save(real / "b.png", photograph(8, 8, 2))
    save(fake / "b.png", photograph(8, 8, 3))
    save(fake / "a.png", pixels)
    packed_pairs(real, tmp_path / "out", reconstructions=str(fake))
    expected = f"reconstruction a.png is {found}, the real image 40x32 with 3 channels"
    assert causes(tmp_path / "out") == {"a.jpg": expected}


def test_broken_reconstruction_is_rejected_by_its_own_name(two: tuple[Path, Path], tmp_path: Path) -> None:
    real, fake = two
    (fake / "a.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"none of 1 images .*: 1x reconstruction a\.png: zero bytes"):
        packed_pairs(real, tmp_path / "out", reconstructions=str(fake))


def test_tree_packs_both_splits_with_generators_as_groups(tmp_path: Path) -> None:
    for split, generator, seed in (("train", "sd", 0), ("train", "ldm/x", 1), ("valid", "sd", 2)):
        folder = tmp_path / "tree" / split / generator
        save(folder / "0_real/a.png", photograph(8, 8, seed))
        save(folder / "1_fake/a.png", photograph(8, 8, seed + 10))
    pack(PackConfig(source=str(tmp_path / "tree"), out=str(tmp_path / "out"), layout="tree"))
    groups = {
        split: [pair.group for pair in iterate_pairs(str(tmp_path / "out" / split))]
        for split in ("train", "val")
    }
    assert groups == {"train": ["ldm/x", "sd"], "val": ["sd"]}
