"""Whatever keeps a stranger's tar from being read by its places is an error that names tar and place."""

import gzip
import io
import json
import logging
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import python, run
from PIL import Image
from stranger_tars import Members, files, image, members_of, pair, plain, write_members, write_samples

from pack.adopt import command as index
from pack.adopt.adopt import adopt
from pack.adopt.config import IndexConfig
from pack.dataset.dataset import iterate_pairs, open_dataset
from pack.inspect import verify
from recon.base.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves tars to the collector


def adopted(*urls: object, **options: Any) -> None:
    adopt(IndexConfig(url=[str(url) for url in urls], **options))


def five(folder: Path) -> Path:
    """A tar of five pairs, and a sound one before it."""
    write_samples(folder / "0.tar", [pair(number) for number in range(100, 103)])
    return write_members(folder / "1.tar", [one for number in range(5) for one in members_of(number)])


def headers(path: Path) -> list[tarfile.TarInfo]:
    with tarfile.open(path) as tar:
        return tar.getmembers()


def change(path: Path, start: int, data: bytes) -> None:
    whole = bytearray(path.read_bytes())
    whole[start : start + len(data)] = data
    path.write_bytes(whole)


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def append(path: Path, data: bytes) -> None:
    path.write_bytes(path.read_bytes() + data)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut between two pairs": (
        lambda path: cut(path, headers(path)[4].offset),
        r"1\.tar was cut: it ends at byte \d+ without the mark of a tar's end",
    ),
    "cut between the members of a pair": (
        lambda path: cut(path, headers(path)[5].offset),
        r"1\.tar was cut: it ends at byte \d+ without",
    ),
    "cut within a payload": (
        lambda path: cut(path, headers(path)[3].offset_data + 700),
        r"1\.tar was cut: member k0001\.fake\.png at byte \d+ reaches to byte \d+, but the tar ends at \d+",
    ),
    "cut within a header": (
        lambda path: cut(path, headers(path)[3].offset + 99),
        r"1\.tar was cut: it ends at byte \d+ within a header without the mark",
    ),
    "cut to nothing": (lambda path: cut(path, 0), r"1\.tar was cut: it ends at byte 0"),
    "flipped bit of a header": (
        lambda path: change(path, headers(path)[6].offset + 2, b"\xff"),
        r"1\.tar: broken tar header at byte \d+ \(bad checksum\)",
    ),
    "zeros in the middle": (
        lambda path: change(path, headers(path)[4].offset, bytes(512)),
        r"1\.tar: data at byte \d+, after the mark of a tar's end at byte \d+: it is several tars",
    ),
    "two tars in one file": (
        lambda path: append(path, path.with_name("0.tar").read_bytes()),
        r"1\.tar: data at byte \d+, after the mark of a tar's end at byte \d+",
    ),
    "no tar": (lambda path: path.write_bytes(b"text " * 999), r"1\.tar: broken tar header at byte 0"),
    "gzip": (
        lambda path: path.write_bytes(gzip.compress(path.read_bytes())),
        r"1\.tar is compressed with gzip, .* decompress it",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_tar_is_named_with_the_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    harm, message = BROKEN[name]
    harm(five(tmp_path))
    assert run(monkeypatch, index.main, tmp_path, "--skip_incomplete", "true") == 2
    error = capsys.readouterr().err
    assert error.count("error: ") == 1
    assert re.search(message, error), error
    assert "dataset.json" not in files(tmp_path)


def test_webdataset_is_silent_where_we_are_not(tmp_path: Path) -> None:
    path = five(tmp_path)
    cut(path, headers(path)[4].offset)
    assert len(list(plain([path]))) == 2
    with pytest.raises(UserError, match="was cut"):
        adopted(path)


def members(*numbers: int) -> Members:
    return [one for number in numbers for one in members_of(number)]


real_0, fake_0 = members_of(0)
real_1, fake_1 = members_of(1)

REFUSED: dict[str, tuple[Members, str]] = {
    "members apart": (
        [real_0, real_1, fake_0, fake_1],
        r"1\.tar: key k0000 comes again at byte \d+ after other keys; .*tar --sort=name",
    ),
    "key twice in a tar": ([*members(0, 1), *members(0)], r"1\.tar: key k0000 comes again at byte \d+"),
    "key in two tars": (members(1, 7), r"key k0007 is in 0\.tar and in 1\.tar"),
    "member twice": ([real_0, fake_0, fake_0], r"1\.tar: key k0000 has fake\.png twice, again at byte \d+"),
    "dots in keys": (
        [(name.replace("k0", "k.0"), data) for name, data in [real_0, fake_0, real_1, fake_1]],
        r"k in 1\.tar: no real, only 0000\.real\.jpg, 0000\.fake\.png, 0001\.real\.jpg.*first dot",
    ),
    "no fake": (
        [real_0, real_1, fake_1],
        r"1 sample can't be used \(k0000 in 1\.tar: no fake, only real\.jpg\)",
    ),
    "no real": ([fake_0, real_1, fake_1], r"k0000 in 1\.tar: no real, only fake\.png"),
    "other size": (
        [real_0, ("k0000.fake.png", image(1))],
        r"k0000 in 1\.tar: real is 56x40, fake 48x33",
    ),
    "no image": ([real_0, ("k0000.fake.png", b"text")], r"k0000 in 1\.tar: fake: not a readable image"),
    "nothing": ([real_0, ("k0000.fake.png", b"")], r"k0000 in 1\.tar: fake: zero bytes"),
    "codec": ([("k0000.real.jpg", image(0, "BMP")), fake_0], r"real is bmp, expected jpeg, png, webp"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_pairs_that_cannot_be_read_by_their_place_are_named(tmp_path: Path, name: str) -> None:
    contents, message = REFUSED[name]
    write_members(tmp_path / "0.tar", members(7))
    write_members(tmp_path / "1.tar", contents)
    with pytest.raises(UserError, match=message) as error:
        adopted(tmp_path)
    assert "\n" not in str(error.value)
    assert "dataset.json" not in files(tmp_path)


def test_error_tells_the_number_of_incomplete_samples_and_the_first(tmp_path: Path) -> None:
    contents = [members_of(number)[number % 2] for number in range(9)]
    write_members(tmp_path / "0.tar", [*members(20), *contents])
    with pytest.raises(UserError) as error:
        adopted(tmp_path)
    assert "9 samples can't be used (k0000 in 0.tar: no fake, only real.jpg; k0001 in 0.tar: " in str(
        error.value
    )
    assert str(error.value).endswith(
        "; ...); repair the tars; or leave the samples out by --skip_incomplete true"
    )


def test_incomplete_samples_are_left_out_and_listed_on_demand(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_members(tmp_path / "0.tar", [real_0, *members(1, 2), ("k0003.real.jpg", b"x"), members_of(3)[1]])
    write_members(tmp_path / "1.tar", [("k0004.txt", b"no image")])
    with caplog.at_level(logging.INFO):
        adopted(tmp_path, skip_incomplete=True)
    assert [one.key for one in iterate_pairs(str(tmp_path))] == ["k0001", "k0002"]
    assert not list(verify.verify(open_dataset(str(tmp_path))))
    manifest = open_dataset(str(tmp_path)).manifest
    assert (manifest.rejected, len(manifest.shards)) == (3, 1)
    lines = [json.loads(line) for line in (tmp_path / "rejected.jsonl").read_text().splitlines()]
    assert [(line["path"], line["shard"]) for line in lines] == [
        ("k0000", "0"),
        ("k0003", "0"),
        ("k0004", "1"),
    ]
    assert lines[0]["cause"] == "no fake, only real.jpg"
    assert "3 samples left out" in caplog.text
    with caplog.at_level(logging.INFO):
        adopted(tmp_path, skip_incomplete=True)
    assert caplog.text.endswith("nothing to do\n")


def test_wrong_field_names_end_at_the_first_tar(tmp_path: Path) -> None:
    write_samples(tmp_path / "0.tar", [pair(n, **{"jpg": image(n), "png": image(n)}) for n in range(3)])
    (tmp_path / "1.tar").write_bytes(b"never read")
    with pytest.raises(UserError, match=r"no real, only jpg, png.*; name the fields by --real and --fake"):
        adopted(tmp_path)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (b"{", "json can't be read"),
        (b"[]", "json has no text or number under label"),
        (b'{"label": null}', "json has no text or number under label"),
        (b"\xff", "json can't be read"),
        (None, "json has no text or number under label"),
    ],
)
def test_json_without_the_group_is_named(tmp_path: Path, record: bytes | None, message: str) -> None:
    extra = [] if record is None else [("k0000.json", record)]
    write_members(tmp_path / "0.tar", [real_0, fake_0, *extra])
    with pytest.raises(UserError, match=f"k0000 in 0.tar: {message}"):
        adopted(tmp_path, group_field="label")


def test_odd_modes_are_taken_and_noted(tmp_path: Path) -> None:
    contents = [("a.real.png", _file("PNG", "RGBA")), ("a.fake.png", _file("PNG", "RGB"))]
    write_members(tmp_path / "0.tar", contents)
    adopted(tmp_path / "0.tar")
    assert open_dataset(str(tmp_path)).table(0)["converted"].to_pylist() == ["alpha"]


def _file(codec: str, mode: str = "RGB", **options: Any) -> bytes:
    out = io.BytesIO()
    Image.new(mode, (8, 8)).save(out, codec, **options)
    return out.getvalue()


def _with_bad_text() -> bytes:
    data = _file("PNG")
    return data[:33] + b"\0\0\0\4tEXta\0bc" + bytes(4) + data[33:]


UNPACK = "; or unpack them, real images and fakes into two folders"
ODD = {
    "16 bits": (_file("PNG", "I;16"), f"real is a 16-bit image, expected 8-bit); repair the tars{UNPACK}"),
    "AVIF": (_file("AVIF"), f"real is avif, expected jpeg, png, webp); repair the tars{UNPACK}"),
    "metadata": (_with_bad_text(), "real: damaged tEXt chunk"),
    "frames": (_file("WEBP", save_all=True, append_images=[Image.new("L", (8, 8), 9)]), "several frames"),
}


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("kind", ODD)
def test_image_that_stays_unreadable_in_a_tar_is_refused_with_what_to_do(
    tmp_path: Path, kind: str, alone: bool
) -> None:
    data, message = ODD[kind]
    others = [] if alone else members(0)
    write_members(tmp_path / "0.tar", [*others, ("a.real.png", data), ("a.fake.png", _file("PNG"))])
    with pytest.raises(UserError) as error:
        adopted(tmp_path)
    assert message in str(error.value)
    assert ("unpack" in str(error.value)) == ("unpack" in message)
    assert str(error.value).endswith("; or leave the samples out by --skip_incomplete true")
    assert "--real" not in str(error.value), "the fields are right"
    assert files(tmp_path).keys() == {"0.tar"}


def test_links_and_folders_in_a_tar_are_no_members(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for name, data in members(0):
            folder = tarfile.TarInfo("folder")
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("k0001.fake.png")
        link.type, link.linkname = tarfile.LNKTYPE, "k0000.fake.png"
        tar.addfile(link)
    adopted(tmp_path)
    assert [one.key for one in iterate_pairs(str(tmp_path))] == ["k0000"]
    assert not list(verify.verify(open_dataset(str(tmp_path))))


def test_files_of_others_are_never_replaced(tmp_path: Path, packed: Path) -> None:
    write_samples(tmp_path / "0.tar", [pair(0)])
    for theirs in (b"no parquet", (packed / "shard-000000.parquet").read_bytes()):
        (tmp_path / "0.parquet").write_bytes(theirs)
        with pytest.raises(UserError, match=r"0\.parquet is not of python -m pack\.index.*; move this file"):
            adopted(tmp_path)
        assert (tmp_path / "0.parquet").read_bytes() == theirs


def test_dataset_of_ours_is_refused(packed: Path, tmp_path: Path) -> None:
    before = files(packed)
    with pytest.raises(UserError, match="is a dataset of python -m pack, which has indexes already"):
        adopted(packed)
    assert files(packed) == before
    write_samples(tmp_path / "0.tar", [pair(0)])
    (tmp_path / "plan.json").write_text("x")
    with pytest.raises(UserError, match="holds an unfinished dataset of python -m pack"):
        adopted(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["."], "not found, expected tars; . holds nothing"),
        (["none.tar"], "none.tar not found, expected tars"),
        (["a.tar.gz"], "a.tar.gz is compressed"),
        (["one/a.tar", "two/b.tar"], "are two directories, expected tars of one"),
        ([".", "--real", "jpg", "--fake", "jpg"], "real and fake both name jpg"),
        ([".", "--real", ""], "expected names of fields"),
        ([".", "--group", "a", "--group_field", "b"], "give only one of them"),
        ([".", "--name", ""], "name must not be empty"),
        ([], "the following arguments are required: url"),
        ([".", "--max_pixels", "0"], "max_pixels"),
    ],
)
def test_wrong_arguments_are_one_line_with_status_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, index.main, *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_help_names_the_options_and_imports_nothing_heavy() -> None:
    script = (
        "import sys, pack.index; sys.argv = ['x', '--help']\n"
        "try:\n    pack.adopt.command.main()\nexcept SystemExit: pass\n"
        "assert not {'torch', 'webdataset', 'pyarrow'} & set(sys.modules)"
    )
    done = python(script)
    assert done.returncode == 0, done.stderr
    assert "--skip_incomplete" in done.stdout


def test_options_may_come_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_samples(tmp_path / "0.tar", [pair(0)])
    (tmp_path / "index.yaml").write_text(f"url: [{tmp_path}]\nname: fromfile\n")
    assert run(monkeypatch, index.main, "--config", tmp_path / "index.yaml") == 0
    assert open_dataset(str(tmp_path)).manifest.name == "fromfile"
