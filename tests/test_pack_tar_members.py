"""One reader of tars: what `tarfile` finds in a sound one, and one line with the byte for any other."""

import io
import shutil
import tarfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from conftest import run
from hypothesis import given, settings
from hypothesis import strategies as st
from stranger_tars import image, write_members

from pack import command
from pack.adopt import command as index
from pack.adopt.tar_reader import TarReader
from pack.dataset.dataset import open_dataset
from pack.inspect import verify
from pack.inspect.audit.partners import lonely
from pack.shard.tar_members import Member, members
from pack.sources.tar_headers import listed_members
from pack.storage import LocalStore
from recon.base.errors import UserError

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
KINDS = [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, b"V"]


class Held:
    """A tar in memory."""

    where = "x.tar"

    def __init__(self, data: bytes) -> None:
        self.data, self.size = data, len(data)
        self.end = 0

    def read(self, position: int, length: int) -> bytes:
        assert position >= self.end, "a step back"
        data = self.data[position : position + max(length, 0)]
        self.end = position + len(data)
        return data


def listed(data: bytes) -> list[Member]:
    """All members; fails where there is no end of them."""
    found = list(islice(members(Held(data)), len(data) + 1))
    assert len(found) <= len(data) // 512
    return found


def block(name: str = "a.jpg", kind: bytes = tarfile.REGTYPE, size: bytes = b"00000000003\0") -> bytes:
    """A header with these 12 bytes of size, and the checksum that they need."""
    info = tarfile.TarInfo(name)
    info.type = kind
    return sealed(bytearray(info.tobuf(tarfile.GNU_FORMAT)[:512]), 124, size)


def sealed(header: bytearray, place: int = 0, data: bytes = b"") -> bytes:
    """A header with some bytes changed and the checksum right again."""
    header[place : place + len(data)] = data
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def base256(number: int) -> bytes:
    return (number % (1 << 96)).to_bytes(12, "big") if number < 0 else b"\x80" + number.to_bytes(11, "big")


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def pax(data: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    return block("pax", kind, b"%011o\0" % len(data)) + padded(data)


def record(key: str, value: str) -> bytes:
    text = f" {key}={value}\n".encode()
    length = len(text) + 1
    while len(str(length)) + len(text) != length:
        length += 1
    return str(length).encode() + text


PLAIN = block() + padded(b"abc")
END = bytes(1024)

NEGATIVE = {
    "a header back": base256(-512),
    "one": base256(-1),
    "the least": b"\xff" + bytes(11),
    "octal": b"-0000001000\0",
}


# A size below zero


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, b"V"])  # V, a volume's label, made it turn for ever
@pytest.mark.parametrize("size", NEGATIVE)
def test_negative_size_is_one_line_of_packing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    size: str,
    kind: bytes,
) -> None:
    (tmp_path / "x.tar").write_bytes(PLAIN + block("b.jpg", kind, NEGATIVE[size]) + END)
    arguments = ["--source", tmp_path / "x.tar", "--out", tmp_path / "out", "--autoencoder", "identity"]
    assert run(monkeypatch, command.main, *arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{tmp_path}/x.tar: broken tar header at byte 1024 (a size of -" in error


@pytest.mark.parametrize("size", NEGATIVE)
def test_negative_size_is_one_line_of_indexing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], size: str
) -> None:
    (tmp_path / "x.tar").write_bytes(PLAIN + block("b.jpg", size=NEGATIVE[size]) + END)
    assert run(monkeypatch, index.main, tmp_path) == 2
    error = capsys.readouterr().err
    assert error.count("error: ") == 1
    assert "x.tar: broken tar header at byte 1024 (a size of -" in error


@pytest.mark.parametrize("size", NEGATIVE)
def test_negative_size_is_a_line_of_verify(packed: Path, tmp_path: Path, size: str) -> None:
    out = Path(shutil.copytree(packed, tmp_path / "out"))
    start = int(open_dataset(str(out)).index(1).offsets[1, 1]) - 512
    tar = bytearray((out / "shard-000001.tar").read_bytes())
    tar[start : start + 512] = sealed(tar[start : start + 512], 124, NEGATIVE[size])
    (out / "shard-000001.tar").write_bytes(tar)
    lines = list(verify.verify(open_dataset(str(out))))
    assert len(lines) == 2
    assert "broken tar header (a size of -" in lines[0]
    assert lines[1] == "shard-000001.tar: sha256 differs from the manifest"


def test_negative_size_ends_the_search_for_members_without_a_pair(tmp_path: Path) -> None:
    write_members(tmp_path / "x.tar", [("a.real.jpg", image(0)), ("a.fake.jpg", image(0)), ("b.txt", b"x")])
    from pack.adopt.adopt import adopt
    from pack.adopt.config import IndexConfig

    adopt(IndexConfig(url=[str(tmp_path)], skip_incomplete=True))
    tar = (tmp_path / "x.tar").read_bytes()
    start = tar.index(b"b.txt")
    header = sealed(bytearray(tar[start : start + 512]), 124, base256(-512))
    (tmp_path / "x.tar").write_bytes(tar[:start] + header + tar[start + 512 :])
    assert list(lonely(open_dataset(str(tmp_path)))) == []


# What is sound


@st.composite
def sound_tars(draw: st.DrawFn) -> Held:
    """A tar by `tarfile`, of members of all kinds."""
    out, form = io.BytesIO(), draw(st.sampled_from(FORMATS))
    letters = "a.-" if form == tarfile.USTAR_FORMAT else "a.-é写\udcff"
    names = st.lists(st.text(letters, min_size=1, max_size=60), min_size=1, max_size=3).map("/".join)
    shared = {"comment": "x"} if form == tarfile.PAX_FORMAT and draw(st.booleans()) else {}
    with tarfile.open(
        fileobj=out, mode="w", format=form, errors="surrogateescape", pax_headers=shared
    ) as tar:
        for name in draw(st.lists(names, min_size=bool(shared), max_size=6)):
            info = tarfile.TarInfo(name)
            info.type = draw(st.sampled_from(KINDS))
            info.mtime = draw(st.sampled_from([0, 1.5] if form == tarfile.PAX_FORMAT else [0]))
            info.linkname = draw(names) if info.type in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            data = draw(st.binary(max_size=1200)) if info.type in (tarfile.REGTYPE, b"V") else b""
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return Held(out.getvalue())


@settings(deadline=None, max_examples=150)
@given(sound_tars())
def test_members_are_those_of_tarfile(sound: Held) -> None:
    data = sound.data
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as tar:
        expected = [
            (one.name, one.offset, one.offset_data, one.size, one.isreg(), one.issym() or one.islnk())
            for one in tar
        ]
    found = [(m.name, m.begin, m.offset, m.size, m.is_file, m.is_link) for m in listed(data)]
    assert found == expected


@settings(deadline=None, max_examples=60)
@given(sound_tars(), st.data())
def test_no_damage_is_an_endless_tar_or_anything_but_one_line(sound: Held, draw: st.DataObject) -> None:
    data = sound.data
    damaged = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 4))):
        start = 512 * draw.draw(st.integers(0, len(data) // 512 - 1))
        place = draw.draw(st.sampled_from([0, 100, 124, 130, 156, 257, 345, 482]))
        harm = draw.draw(st.binary(min_size=1, max_size=12))
        damaged[start : start + 512] = sealed(damaged[start : start + 512], place, harm)
    told = "x.tar"
    try:
        listed(bytes(damaged))
    except UserError as error:
        told = str(error)
    assert "\n" not in told
    assert told.startswith("x.tar")


def test_both_ways_of_reading_find_the_same(tmp_path: Path) -> None:
    names = ["a.jpg", "写真/b.jpg", "n" * 150 + ".jpg"]
    write_members(tmp_path / "x.tar", [(name, bytes(n * 3000)) for n, name in enumerate(names)])
    store = LocalStore(str(tmp_path))
    size = store.size("x.tar")
    whole = list(TarReader(store, "x.tar", size, lambda _: None).members())
    assert whole == list(listed_members(store, "x.tar", size)) == listed((tmp_path / "x.tar").read_bytes())


def test_first_of_two_names_counts_as_for_tarfile() -> None:
    long = block("long", tarfile.GNUTYPE_LONGNAME, b"%011o\0" % 3) + padded(b"gnu")
    other = pax(record("path", "pax"))
    for data in (long + other + PLAIN + END, other + long + PLAIN + END):
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            assert [one.name for one in tar] == [one.name for one in listed(data)]


# What is not

SPARSE = "is stored as a sparse file; write the tar without sparse files"
DAMAGED: dict[str, tuple[Callable[[], bytes], str]] = {
    "beyond the end": (
        lambda: PLAIN + block(size=base256(1 << 60)) + END,
        "was cut: member a.jpg at byte 1024 reaches to byte 1152921504606848512, but the tar ends at 2560",
    ),
    "a size in letters": (lambda: PLAIN + block(size=b"many bytes\0\0"), "header at byte 1024 (invalid h"),
    "checksum": (lambda: PLAIN + b"b" + block()[1:] + END, "header at byte 1024 (bad checksum)"),
    "no end": (lambda: PLAIN, "was cut: it ends at byte 1024 without the mark of a tar's end"),
    "sparse of GNU": (lambda: block(kind=tarfile.GNUTYPE_SPARSE) + END * 2, SPARSE),
    "sparse of PAX": (lambda: pax(record("GNU.sparse.major", "1")) + PLAIN + END, SPARSE),
    "a PAX size below zero": (
        lambda: PLAIN + pax(record("size", "-512")) + PLAIN + END,
        "header at byte 1024 (a size of '-512')",
    ),
    "a PAX size of many digits": (
        lambda: pax(record("size", "9" * 5000)) + PLAIN + END,
        "header at byte 0 (a size of '99999999999999999999')",
    ),
    "a PAX record of many digits": (
        lambda: pax(b"9" * 5000 + b" path=x\n") + PLAIN + END,
        "header at byte 0 (a malformed extended header)",
    ),
    "a PAX record of no length": (lambda: pax(b"0 path=x\n") + PLAIN + END, "(a malformed extended header)"),
    "a PAX record that is cut": (lambda: pax(b"99 path=x\n") + PLAIN + END, "(a malformed extended header)"),
    "a PAX record within another": (
        lambda: pax(record("path", "x") + b"1 path=x\n") + PLAIN + END,
        "(a malformed extended header)",
    ),
    "a long name without end": (
        lambda: PLAIN + block("long", tarfile.GNUTYPE_LONGNAME, base256(1 << 40)) + END,
        "header at byte 1024 (more than 1048576 bytes of headers before a member)",
    ),
    "long names without end": (
        lambda: (block("long", tarfile.GNUTYPE_LONGNAME, b"%011o\0" % 3) + padded(b"gnu")) * 1500 + END,
        "header at byte 0 (more than 1048576 bytes of headers before a member)",
    ),
    "a long name that is cut": (
        lambda: block("long", tarfile.GNUTYPE_LONGNAME, b"%011o\0" % 900) + bytes(512),
        "was cut: it ends at byte 1024 within an extended header",
    ),
    "a name for nothing": (
        lambda: PLAIN + pax(record("path", "x")) + END,
        "header at byte 1024 (an extended header, but no member after it)",
    ),
    "one name for all": (
        lambda: pax(record("path", "x"), tarfile.XGLTYPE) + PLAIN + PLAIN + END,
        "header at byte 0 (a global header that sets the path of every member)",
    ),
    "data behind the end": (
        lambda: PLAIN + bytes(200_000) + b"x" + bytes(511),
        "data at byte 201024, after the mark of a tar's end at byte 1024: it is several tars in one file",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_one_line_with_the_byte(name: str) -> None:
    make, message = DAMAGED[name]
    with pytest.raises(UserError) as error:
        listed(make())
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_many_records_of_one_header_are_read_in_one_pass() -> None:
    """A MiB of them, copied anew for each, would be 90 GB."""
    data = b"".join(record(f"k{number}", "v") for number in range(70_000))
    assert 500_000 < len(data) < 1 << 20
    assert [one.name for one in listed(pax(data) + PLAIN + END)] == ["a.jpg"]


def test_folder_with_a_dot_in_its_name_is_no_sample(tmp_path: Path, caplog: Any) -> None:
    from pack.base.config import PackConfig
    from pack.sources import find_items

    (tmp_path / "x.tar").write_bytes(block("v1.2", tarfile.DIRTYPE, b"0" * 11 + b"\0") + PLAIN + END)
    config = PackConfig(source=str(tmp_path / "x.tar"), out="unused", autoencoder="identity")
    assert [item.path for item in find_items(config)[None]] == ["x.tar/a.jpg"]
    assert "without a field" not in caplog.text
