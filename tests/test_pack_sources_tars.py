"""Images in tars of a plain WebDataset: each sample once, and no damaged tar taken for a whole one."""

import io
import logging
import tarfile
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from conftest import photograph, save
from hypothesis import given, settings
from hypothesis import strategies as st
from webdataset.tariterators import group_by_keys, tar_file_iterator

from pack.base.config import PackConfig
from pack.base.items import Item
from pack.sources import find_items, source_name
from pack.sources.tar_headers import listed_members
from pack.storage import LocalStore, open_store
from recon.base.errors import UserError

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def config(source: Path | str, **options: Any) -> PackConfig:
    return PackConfig(source=str(source), out="unused", autoencoder="identity", **options)


def found(source: Path | str, **options: Any) -> list[Item]:
    return find_items(config(source, **options))[None]


def write(path: Path, *names: str, kind: str = "gnu", **payloads: bytes) -> Path:
    """A tar of members in this order, whose payloads are their names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=FORMATS[kind]) as tar:
        for name in names:
            add(tar, name, payloads.get(name, name.encode("utf-8", "surrogateescape")))
    return path


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def plain_webdataset(path: Path) -> dict[str, Any]:
    """Samples as webdataset itself reads them, by key."""
    with path.open("rb") as file:
        members = ({**member, "__url__": str(path)} for member in tar_file_iterator(file))
        return {sample["__key__"]: sample for sample in group_by_keys(members)}


def test_images_of_tars_by_webdataset_are_found_with_their_bytes(tmp_path: Path) -> None:
    with webdataset.ShardWriter(str(tmp_path / "s-%06d.tar"), maxcount=7, verbose=0) as writer:
        for number in range(20):
            image = np.random.default_rng(number).bytes(100 + number * 900)
            writer.write({"__key__": f"k{number:03}", "jpg": image, "json": {"n": number}, "txt": "x"})
    items = found(tmp_path / "s-{000000..000002}.tar")
    assert [item.path for item in items] == [f"s-{n // 7:06}.tar/k{n:03}.jpg" for n in range(20)]
    for number, item in enumerate(items):
        assert item.real.read() == np.random.default_rng(number).bytes(100 + number * 900)
        assert item.real.head(50) == item.real.read()[:50]
        assert item.real.size == 100 + number * 900
        assert item.group == tmp_path.name


@pytest.mark.parametrize(
    "name", ["a.tar", "*.tar", "?.tar", "[a-c].tar", "{a,b}.tar", "**/*.tar", "", "[!b].tar"]
)
def test_tar_pattern_and_folder_name_tars_alike(tmp_path: Path, name: str) -> None:
    expected = {"a.tar/x.jpg"} if name in ("a.tar", "[!b].tar") else {"a.tar/x.jpg", "b.tar/x.jpg"}
    for tar in ("a.tar", "b.tar", ".c.tar"):
        write(tmp_path / "data" / tar, "x.jpg")
    (tmp_path / "data/notes.txt").touch()
    items = found(tmp_path / "data" / name, layout="webdataset")
    assert {item.path for item in items} == expected


def test_pattern_reaches_into_folders_and_their_names_are_groups(tmp_path: Path) -> None:
    for name in ("cats/0.tar", "dogs/0.tar", "dogs/old/1.tar"):
        write(tmp_path / name, "a.jpg", "wolves/b.png")
    flat = found(tmp_path / "*/*.tar")
    assert [(item.path, item.group) for item in flat] == [
        ("cats/0.tar/a.jpg", "cats"),
        ("cats/0.tar/wolves/b.png", "wolves"),
        ("dogs/0.tar/a.jpg", "dogs"),
        ("dogs/0.tar/wolves/b.png", "wolves"),
    ]
    assert len(found(tmp_path / "**/*.tar")) == len(found(tmp_path, layout="webdataset")) == 6
    assert [item.path for item in found(tmp_path / "{cats,dogs}/0.tar")] == [item.path for item in flat]


def test_file_that_is_named_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    write(tmp_path / "a[1].tar", "x.jpg")
    write(tmp_path / "a1.tar", "y.jpg")
    assert [item.path for item in found(tmp_path / "a[1].tar")] == ["a[1].tar/x.jpg"]


def test_folder_that_is_named_like_a_pattern_is_that_folder(tmp_path: Path) -> None:
    write(tmp_path / "a[1]/b {2}/0.tar", "x.jpg")
    write(tmp_path / "a1/b {2}/0.tar", "y.jpg")
    for pattern in ("*.tar", "{0..0}.tar", "0.tar"):
        assert [item.path for item in found(tmp_path / "a[1]/b {2}" / pattern)] == ["0.tar/x.jpg"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{000..002}.tar", r"002\.tar not found"),
        ("z*.tar", r"no tars match .*z\*\.tar"),
        ("none.tar", r"none\.tar not found"),
        ("{000..001.tar", r"the braces don't match"),
        ("empty/*.tar", "not found|no tars match"),
    ],
)
def test_tar_that_is_not_there_is_an_error(tmp_path: Path, source: str, message: str) -> None:
    for number in range(2):
        write(tmp_path / f"{number:03}.tar", "x.jpg")
    with pytest.raises(UserError, match=message):
        found(tmp_path / source, layout="webdataset")


def test_first_of_the_wanted_fields_counts_and_case_does_not(tmp_path: Path) -> None:
    tar = write(tmp_path / "0.tar", "a.png", "a.jpg", "b.cls", "b.PNG", "c.seg.png", "c.jpeg")
    assert [item.path for item in found(tar)] == ["0.tar/a.jpg", "0.tar/b.PNG", "0.tar/c.jpeg"]
    assert [item.path for item in found(tar, image_field="seg.png;png")] == [
        "0.tar/a.png",
        "0.tar/b.PNG",
        "0.tar/c.seg.png",
    ]


def test_samples_without_an_image_are_counted_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tar = write(tmp_path / "0.tar", "a.jpg", "b.txt", "c.txt", "c.gif", "d.jpg")
    with caplog.at_level(logging.WARNING):
        assert len(found(tar)) == 2
    assert "2 samples without a field jpg;jpeg;png;webp, the first is 0.tar/b" in caplog.text
    message = r"fields found: gif, jpg, txt; name the field of the image with --image_field"
    with pytest.raises(UserError, match=message):
        found(tar, image_field="image")


def test_link_in_place_of_an_image_is_no_image(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        add(tar, "a.jpg", b"a")
        link = tarfile.TarInfo("b.jpg")
        link.type, link.linkname = tarfile.LNKTYPE, "a.jpg"
        tar.addfile(link)
    assert [item.path for item in found(tmp_path / "0.tar")] == ["0.tar/a.jpg"]
    assert "1 sample without a field" in caplog.text


@pytest.mark.parametrize("kind", FORMATS)
def test_names_of_every_tar_format_are_whole(tmp_path: Path, kind: str) -> None:
    long = "/".join(["folder-of-some-length"] * (6 if kind == "ustar" else 12))
    names = [f"{long}/{'n' * 60}.jpg", "./dotted/b.jpg", "v1.2/c.jpg"]
    if kind != "ustar":
        names += ["写真/Grüße.jpg", "x" * 240 + ".jpg", b"\xff\xfe.jpg".decode("utf-8", "surrogateescape")]
    items = found(write(tmp_path / "0.tar", *names, kind=kind))
    assert {item.path for item in items} == {f"0.tar/{name.removeprefix('./')}" for name in names}
    for item in items:
        data = item.real.read().decode("utf-8", "surrogateescape")
        assert f"0.tar/{data.removeprefix('./')}" == item.path


def test_webdatasets_own_extended_headers_are_read(tmp_path: Path) -> None:
    with webdataset.TarWriter(str(tmp_path / "0.tar"), mtime=1.5) as writer:  # each member gets one
        for number in range(5):
            writer.write({"__key__": str(number), "png": str(number).encode() * 700})
    assert [item.real.read() for item in found(tmp_path / "0.tar")] == [b"%d" % n * 700 for n in range(5)]


def test_folders_metadata_and_hidden_members_are_left_out(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        folder = tarfile.TarInfo("sub")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name in ("__info__", "__meta__/x.jpg", "sub/._a.jpg", "._b.jpg", "sub/a.jpg", "README"):
            add(tar, name, name.encode())
    assert [item.path for item in found(tmp_path / "0.tar")] == ["0.tar/sub/a.jpg"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.jpg", "a.jpg"], r"0\.tar: a\.jpg comes again at byte 1024, expected each once"),
        (["a.jpg", "b.jpg", "a.json"], r"0\.tar: sample a begins again at byte 2048, .* side by side"),
    ],
)
def test_sample_that_comes_twice_is_an_error_with_its_offset(
    tmp_path: Path, names: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        found(write(tmp_path / "0.tar", *names))


def test_tar_cut_anywhere_is_an_error_that_names_it(tmp_path: Path) -> None:
    whole = write(
        tmp_path / "0.tar", *[f"{n}.{end}" for n in range(6) for end in ("jpg", "json")]
    ).read_bytes()
    end = 12 * 1024
    for length in (0, 1, 511, 512, 600, 1024, 1030, 1536, 5 * 1024, end - 1, end):
        cut = tmp_path / f"cut{length}.tar"
        cut.write_bytes(whole[:length])
        with pytest.raises(
            UserError,
            match=rf"cut\d+\.tar was cut: (it ends at byte {length}|member .* but the tar ends at {length})",
        ):
            found(cut)
    (tmp_path / "enough.tar").write_bytes(whole[: end + 512])
    assert len(found(tmp_path / "enough.tar")) == 6


def test_every_flipped_byte_of_a_header_is_an_error_or_changes_nothing_that_counts(tmp_path: Path) -> None:
    whole = write(tmp_path / "0.tar", "a.jpg", "b.jpg", "c.jpg").read_bytes()
    facts = [(item.path, item.real.size, item.real.start) for item in found(tmp_path / "0.tar")]

    @settings(deadline=None, max_examples=60)
    @given(st.integers(1024, 1535), st.integers(1, 255))
    def check(place: int, flip: int) -> None:
        damaged = bytearray(whole)
        damaged[place] ^= flip
        path = tmp_path / uuid.uuid4().hex / "0.tar"
        path.parent.mkdir()
        path.write_bytes(damaged)
        told = ""
        try:
            assert [(item.path, item.real.size, item.real.start) for item in found(path)] == facts
        except UserError as error:
            told = str(error)
        assert not told or "0.tar: broken tar header at byte 1024 (" in told

    check()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x1f\x8b" + bytes(1022), " is compressed with gzip, .*; decompress it"),
        (b"\x28\xb5\x2f\xfd" + bytes(1022), " is compressed with zstd, .*; decompress it"),
        (b"no tar at all " * 100, ": broken tar header at byte 0 "),
    ],
)
def test_what_is_no_tar_is_an_error(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "0.tar").write_bytes(data)
    with pytest.raises(UserError, match=rf"0\.tar{message}"):
        found(tmp_path / "0.tar")


def test_tars_appended_to_each_other_are_an_error_that_tells_where(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.tar", "a.jpg"), write(tmp_path / "b.tar", "b.jpg")
    (tmp_path / "both.tar").write_bytes(first.read_bytes() + second.read_bytes())
    with pytest.raises(
        UserError, match=r"both\.tar: data at byte 10240, after .* at byte 1024: it is several"
    ):
        found(tmp_path / "both.tar")


class Counting(LocalStore):
    """Counts what is read."""

    read_bytes = requests = 0

    def read_range(self, name: str, start: int, length: int, **options: Any) -> memoryview:
        self.read_bytes += length
        self.requests += 1
        return super().read_range(name, start, length, **options)


@pytest.mark.parametrize("url", ["s3://bucket/x", "/local"])
def test_large_payloads_are_skipped_and_small_members_share_a_request(tmp_path: Path, url: str) -> None:
    for name, size in (("large.tar", 600_000), ("small.tar", 30_000)):
        with webdataset.TarWriter(str(tmp_path / name), mtime=0) as writer:
            for number in range(40):
                writer.write({"__key__": f"{number}", "jpg": bytes(size), "json": b"{}", "txt": b"text"})
    counts = {}
    for name in ("large.tar", "small.tar"):
        store = Counting(str(tmp_path))
        store.url = url
        list(listed_members(store, name, store.size(name)))
        counts[name] = store.requests, store.read_bytes
    if url == "/local":
        assert all(read_bytes < 400_000 for _, read_bytes in counts.values())
    else:
        assert counts["large.tar"][0] <= 43
        assert counts["large.tar"][1] < 1_000_000
        assert counts["small.tar"][0] <= 4


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.from_regex(r"[a-zA-Z0-9_ü写-]{1,12}(/[a-z]{1,9}){0,2}", fullmatch=True),
            st.lists(st.sampled_from(["jpg", "png", "json", "txt", "seg.png"]), unique=True, min_size=1),
            st.integers(0, 40_000),
        ),
        unique_by=lambda sample: sample[0],
        max_size=12,
    ),
    st.sampled_from(list(FORMATS)),
)
def test_found_images_are_those_that_webdataset_reads(
    tmp_path_factory: pytest.TempPathFactory, samples: list[tuple[str, list[str], int]], kind: str
) -> None:
    path = tmp_path_factory.mktemp("tars") / "0.tar"
    with tarfile.open(path, "w", format=FORMATS[kind]) as tar:
        for number, (key, fields, size) in enumerate(samples):
            for field in fields:
                add(tar, f"{key}.{field}", b"%d" % number * size)
    expected = {
        key: sample.get("jpg", sample.get("png"))
        for key, sample in plain_webdataset(path).items()
        if "jpg" in sample or "png" in sample
    }
    if not expected:
        return
    images = {
        item.path.removeprefix("0.tar/").rsplit(".", 1)[0]: item.real.read()
        for item in found(path, image_field="jpg;png")
    }
    assert images == expected


def test_tiles_are_cut_from_images_in_tars(tmp_path: Path) -> None:
    save(tmp_path / "a.png", photograph(40, 50, 0))
    with webdataset.TarWriter(str(tmp_path / "0.tar"), mtime=0) as writer:
        writer.write({"__key__": "a", "png": (tmp_path / "a.png").read_bytes()})
        writer.write({"__key__": "b", "png": b"no image"})
    items = found(tmp_path / "0.tar", tile=16)
    assert [item.tile for item in items] == [(y, x) for y in (0, 16) for x in (0, 16, 32)] + [None]


def test_name_of_the_dataset_is_the_folder_of_a_pattern_or_the_tar(tmp_path: Path) -> None:
    assert source_name(str(tmp_path / "mine/{000..009}.tar")) == "mine"
    assert source_name("s3://bucket/mine/*.tar") == "mine"
    assert source_name("s3://bucket/mine/coco.tar") == "coco"
    assert source_name("s3://bucket/mine/") == "mine"
    assert source_name("s3://bucket") == "bucket"
    assert source_name("lists/real.csv") == "real"
    (tmp_path / "photos.v2").mkdir()
    assert source_name(str(tmp_path / "photos.v2")) == "photos.v2"


def test_folder_of_tars_is_not_taken_for_one_without_images(tmp_path: Path) -> None:
    write(tmp_path / "0.tar", "a.jpg")
    with pytest.raises(UserError, match="holds tars and no images; pass --layout webdataset"):
        found(tmp_path)


def test_tar_that_vanishes_stops_the_run(tmp_path: Path) -> None:
    item = found(write(tmp_path / "0.tar", "a.jpg"))[0]
    (tmp_path / "0.tar").unlink()
    with pytest.raises(UserError, match=r"0\.tar not found"):
        item.real.read()


def test_tars_are_the_same_set_from_any_storage(tmp_path: Path) -> None:
    import fsspec

    path = write(tmp_path / "set/0.tar", "a.jpg", "b.jpg")
    url = f"memory://{tmp_path.name}/set"
    fsspec.filesystem("memory").pipe_file(f"{url}/0.tar", path.read_bytes())
    assert open_store(url).exists("0.tar")
    for pattern in ("0.tar", "{0..0}.tar", "*.tar", "**/*.tar"):
        here, there = found(path.parent / pattern), found(f"{url}/{pattern}")
        assert [(i.path, i.group, i.real.read()) for i in here] == [
            (i.path, i.group, i.real.read()) for i in there
        ]
