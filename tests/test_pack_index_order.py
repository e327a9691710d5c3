"""Members in any order, among others, of any size: each pair is found whole at its place."""

import io
import tarfile
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stranger_tars import image, plain_pixels, write_members

from pack.adopt.adopt import adopt
from pack.adopt.config import IndexConfig
from pack.dataset.dataset import Dataset
from pack.dataset.pairs import DamagedPair, StoredPair
from pack.inspect import verify
from pack.storage import LocalStore
from recon.image.codec import decode_rgb

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves tars to the collector

KINDS = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG", "PNG": "PNG", "webp": "WEBP"}


@cache
def picture(number: int, suffix: str) -> bytes:
    return image(number, KINDS[suffix], (8 + number, 11))


extras = st.lists(
    st.tuples(st.sampled_from(["txt", "cls", "mask.png", "real.txt", "fake.npy"]), st.binary(max_size=1500)),
    max_size=3,
    unique_by=lambda one: one[0],
)


@st.composite
def samples(draw: st.DrawFn) -> list[tuple[str, bytes]]:
    """The fields of one pair with their payloads, in a drawn order."""
    number = draw(st.integers(0, 3))
    fields = [(f"{who}.{suffix}", picture(number, suffix)) for who, suffix in draw(suffixes)]
    fields += [("json", draw(st.binary(max_size=700)))] if draw(st.booleans()) else []
    return draw(st.permutations(fields + draw(extras)))


suffixes = st.tuples(st.sampled_from(sorted(KINDS)), st.sampled_from(sorted(KINDS))).map(
    lambda two: [("real", two[0]), ("fake", two[1])]
)


def canonical(fields: list[tuple[str, bytes]]) -> list[bytes]:
    """The payloads of real, fake and json, if there is one."""
    return [
        data
        for who in ("real", "fake", "json")
        for name, data in fields
        if name == who or (name.split(".")[0] == who and name.split(".")[-1] in KINDS)
    ]


@settings(deadline=None, max_examples=80)
@given(
    tars=st.lists(st.lists(samples(), min_size=1, max_size=5), min_size=1, max_size=3),
    form=st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    block=st.integers(1, 4),
)
def test_any_order_extra_member_and_size_is_read_right(
    tars: list[list[list[tuple[str, bytes]]]], form: int, block: int
) -> None:
    with TemporaryDirectory() as folder:
        expected: dict[str, list[bytes]] = {}
        for number, contents in enumerate(tars):
            members = []
            for place, fields in enumerate(contents):
                key = f"{number}-{place}"
                expected[key] = canonical(fields)
                members += [(f"{key}.{name}", data) for name, data in fields]
            write_members(Path(folder) / f"{number}.tar", members, form)
        adopt(IndexConfig(url=[folder]))
        dataset = Dataset(folder)
        found: dict[str, list[bytes]] = {}
        for shard, entry in enumerate(dataset.manifest.shards):
            for first in range(0, entry.pairs, block):
                for one in dataset.read_block(shard, first, min(block, entry.pairs - first)):
                    assert isinstance(one, StoredPair)
                    assert [name.split(".")[0] for name in one.members] == ["real", "fake", "json"][
                        : len(one.members)
                    ]
                    found[one.key] = list(one.members.values())
        assert found == expected
        assert not list(verify.verify(dataset))


def numbered(contents: list[list[tuple[str, bytes]]]) -> list[tuple[str, bytes]]:
    """The members of pairs whose keys are their numbers."""
    return [(f"{number}.{name}", data) for number, one in enumerate(contents) for name, data in one]


@settings(deadline=None, max_examples=15)
@given(contents=st.lists(samples(), min_size=1, max_size=4), data=st.data())
def test_a_flipped_byte_of_a_pair_is_found_and_harms_no_other(
    contents: list[list[tuple[str, bytes]]], data: st.DataObject
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "0.tar"
        members = [
            (f"{number}.{name}", payload) for number, one in enumerate(contents) for name, payload in one
        ]
        write_members(path, members)
        adopt(IndexConfig(url=[folder]))
        index = Dataset(folder).index(0)
        row, column = data.draw(st.integers(0, len(contents) - 1)), data.draw(st.integers(0, 1))
        whole = bytearray(path.read_bytes())
        whole[
            int(index.offsets[row, column]) + data.draw(st.integers(0, int(index.sizes[row, column]) - 1))
        ] ^= 1
        path.write_bytes(whole)
        read = Dataset(folder).read_block(0, 0, len(contents))
        assert [number for number, one in enumerate(read) if isinstance(one, DamagedPair)] == [row]
        found = list(verify.verify(Dataset(folder)))
        assert any(f"0.tar: {row}." in line and "CRC-32 differs" in line for line in found)


@settings(deadline=None, max_examples=40)
@given(contents=st.lists(samples(), min_size=2, max_size=4), data=st.data())
def test_no_cut_of_a_tar_passes(contents: list[list[tuple[str, bytes]]], data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "0.tar"
        write_members(
            path, [(f"{number}.{name}", d) for number, one in enumerate(contents) for name, d in one]
        )
        whole = path.read_bytes()
        with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
            last = tar.getmembers()[-1]
        end = last.offset_data + -(-last.size // 512) * 512
        path.write_bytes(whole[: data.draw(st.integers(0, end))])
        with pytest.raises(Exception, match=r"0\.tar.*(was cut|truncated header)"):
            adopt(IndexConfig(url=[folder], skip_incomplete=True))


def test_pixels_are_those_of_webdataset_whatever_the_order(tmp_path: Path) -> None:
    members = []
    for number, order in enumerate([(0, 1, 2), (2, 1, 0), (1, 0, 2), (2, 0, 1)]):
        three = [
            (f"{number}.real.webp", image(number, "WEBP")),
            (f"{number}.fake.jpg", image(number)),
            (f"{number}.json", b"{}"),
        ]
        members += [three[place] for place in order]
    write_members(tmp_path / "0.tar", members)
    adopt(IndexConfig(url=[str(tmp_path)]))
    expected = plain_pixels([tmp_path / "0.tar"])
    for one in Dataset(str(tmp_path)).read_block(0, 0, 4):
        assert isinstance(one, StoredPair)
        assert (decode_rgb(one.real) == expected[one.key][0]).all()
        assert (decode_rgb(one.fake) == expected[one.key][1]).all()


def test_members_larger_than_a_request_and_far_apart_are_read_in_bounded_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rubbish = bytes(range(256)) * (18 << 12)  # 18 MiB
    members = [("x.bin", rubbish), ("a.real.jpg", image(0)), ("a.bin", rubbish), ("a.fake.jpg", image(0))]
    members += [("y.bin", rubbish), ("b.real.jpg", image(1)), ("b.fake.jpg", image(1)), ("z.bin", rubbish)]
    write_members(tmp_path / "0.tar", members)
    asked: list[int] = []
    read_range = LocalStore.read_range

    def noting(self: LocalStore, name: str, start: int, length: int, **options: Any) -> Any:
        asked.append(length)
        return read_range(self, name, start, length, **options)

    monkeypatch.setattr(LocalStore, "read_range", noting)
    adopt(IndexConfig(url=[str(tmp_path)], skip_incomplete=True))
    assert max(asked) <= 8 << 20
    assert sum(asked) == (tmp_path / "0.tar").stat().st_size
    asked.clear()
    dataset = Dataset(str(tmp_path))
    assert not list(verify.verify(dataset))
    assert max(asked) < 20 << 20  # the pair that has 18 MiB between its members
    assert [one.key for one in dataset.read_block(0, 0, 2)] == ["a", "b"]
