"""Hints, in the tar or beside it, reach the pairs that are read, and damage of them is told."""

import shutil
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rewritten_indexes import Row, hinted_pairs, optional, unhinted, with_hints

from pack.dataset.cache import BlockCache
from pack.dataset.dataset import Dataset, iterate_pairs
from pack.dataset.fakes import each_fake
from pack.dataset.pairs import DamagedPair, Pairs, StoredPair
from pack.shard.hints import (
    MAGIC,
    PIECE,
    Hint,
    equal_pieces,
    packed_hints,
    pieces_of,
    read_hints,
    read_pieces,
)
from recon.base.errors import UserError


def hint(row: Row, member: str) -> Hint:
    """A hint that tells whose it is; a PNG has no entry points."""
    text = f"{member} of {row['key']}".encode()
    codec = row.get(f"{member}_codec", "png")
    return Hint(entries=text if codec == "jpeg" else None, colours=text.ljust(192))


def both(row: Row) -> list[Hint]:
    return [hint(row, "real"), hint(row, "fake")]


@pytest.fixture
def beside(packed: Path, tmp_path: Path) -> Path:
    """A copy of the packed photographs with hints beside the tars that can be told apart."""
    return with_hints(Path(shutil.copytree(packed, tmp_path / "photos")), both)


@pytest.fixture(params=["inside", "beside"])
def hinted(packed: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A copy of the packed photographs with their own hints in the tars, or beside them."""
    root = Path(shutil.copytree(packed, tmp_path / "photos"))
    own = {pair.key: list(pair.hints.values()) for pair in hinted_pairs(packed)}
    return with_hints(root, lambda row: own[row["key"]]) if request.param == "beside" else root


def holder(root: Path, shard: int) -> Path:
    """The file that holds the hints of a shard."""
    path = root / f"shard-{shard:06d}.hints"
    return path if path.exists() else path.with_suffix(".tar")


def opened(root: Path, cache: BlockCache | None = None) -> Dataset:
    return Dataset(str(root), hints=True, cache=cache)


def read(dataset: Dataset, shard: int) -> Pairs:
    return dataset.read_block(shard, 0, dataset.manifest.shards[shard].pairs)


def expected_hints(dataset: Dataset, shard: int) -> list[dict[str, Hint]]:
    return [dict(zip(("real", "fake"), both(row), strict=True)) for row in dataset.table(shard).to_pylist()]


def hints_of(pairs: Pairs) -> list[dict[str, Hint]]:
    return [dict(pair.hints) for pair in pairs if isinstance(pair, StoredPair)]


HINTS = st.builds(Hint, entries=st.none() | st.binary(min_size=1), colours=st.none() | st.binary(min_size=1))


@given(st.lists(HINTS, max_size=4))
def test_a_record_is_read_as_it_was_written(hints: list[Hint]) -> None:
    assert read_hints(packed_hints(hints)) == hints


def test_each_pair_has_the_hints_of_its_own_row(beside: Path) -> None:
    dataset = opened(beside)
    for shard in range(len(dataset.manifest.shards)):
        assert hints_of(read(dataset, shard)) == expected_hints(dataset, shard)
        assert hints_of(dataset.read_rows(shard, np.array([0, 2]))) == expected_hints(dataset, shard)[::2][:2]


def test_large_blocks_are_read_in_pieces_with_their_hints(hinted: Path) -> None:
    dataset = opened(hinted)
    whole = read(dataset, 0)
    dataset.piece_bytes = 1
    assert read(dataset, 0) == whole
    assert len(hints_of(whole)) == 4
    assert all(len(one) == 2 for one in hints_of(whole))


def test_nobody_gets_hints_who_does_not_ask_for_them(hinted: Path) -> None:
    bare = [replace(pair, hints={}) for pair in hinted_pairs(hinted)]
    assert list(iterate_pairs(str(hinted))) == bare
    unhinted(hinted)
    assert hinted_pairs(hinted) == bare


def test_a_missing_file_of_hints_is_told_to_those_who_ask_for_them(beside: Path) -> None:
    (beside / "shard-000000.hints").unlink()
    assert len(list(iterate_pairs(str(beside)))) == 11
    with pytest.raises(UserError, match=r"shard-000000\.hints"):
        read(opened(beside), 0)


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)


def test_a_flipped_bit_anywhere_in_a_hint_is_damage_of_its_pair_alone(hinted: Path) -> None:
    dataset, path = opened(hinted), holder(hinted, 1)
    whole, index = read(dataset, 1), dataset.index(1)
    assert index.hints
    kept = path.read_bytes()
    for row, (offset, size) in enumerate(zip(index.hints.offsets, index.hints.sizes, strict=True)):
        for place in range(int(offset), int(offset + size), 131):
            flip(path, place)
            damaged = DamagedPair(
                key=index.keys[row], url=dataset.tar_url(1), cause="CRC-32 of hints differs"
            )
            assert read(opened(hinted), 1) == [*whole[:row], damaged, *whole[row + 1 :]]
            path.write_bytes(kept)


def test_hints_that_were_cut_are_told_with_their_file(beside: Path) -> None:
    path = beside / "shard-000001.hints"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"shard-000001\.hints"):
        read(opened(beside), 1)


def test_a_cache_keeps_hints_and_takes_harmed_ones_anew(beside: Path, tmp_path: Path) -> None:
    cache = BlockCache(str(tmp_path / "cache"), 1 << 20)
    whole = read(opened(beside, cache), 0)
    tars = {one: one.read_bytes() for one in beside.glob("shard-000000.[th]*")}
    assert len(tars) == 2
    for one in tars:
        one.unlink()
    assert read(opened(beside, cache), 0) == whole
    for one, data in tars.items():
        one.write_bytes(data)
    (kept,) = (tmp_path / "cache").rglob("*-hints")
    flip(kept, 30)
    assert read(opened(beside, cache), 0) == whole
    assert kept.read_bytes() == tars[beside / "shard-000000.hints"][len(MAGIC) :]


def test_a_damaged_pair_needs_no_hints_and_its_neighbours_keep_theirs(beside: Path) -> None:
    dataset = opened(beside)
    flip(beside / "shard-000000.tar", dataset.table(0)["fake_offset"][1].as_py() + 20)
    found = read(dataset, 0)
    assert isinstance(found[1], DamagedPair)
    assert hints_of(found) == [one for row, one in enumerate(expected_hints(dataset, 0)) if row != 1]


def more_of(row: Row) -> Row:
    """A pair with two fakes: the second lies where the first does."""
    more = {"field": "fake2.png", "codec": row["fake_codec"], "autoencoder": "b"}
    return row | {"more_fakes": [more | {name: row[f"fake_{name}"] for name in ("offset", "size", "crc32")}]}


SECOND = Hint(entries=None, colours=b"second".ljust(192))


def test_the_chosen_fake_brings_its_own_hints(beside: Path) -> None:
    def three(row: Row) -> list[Hint]:
        row.update(more_of(row))
        return [*both(row), SECOND]

    with_hints(beside, three, *optional("more_fakes"))
    dataset = opened(beside)
    pairs, first = dataset.manifest.shards[0].pairs, expected_hints(dataset, 0)
    for fake in (0, 1):
        chosen = dataset.read_block(0, 0, pairs, pa.array([fake] * pairs).to_numpy())
        assert hints_of(chosen) == [one | ({"fake": SECOND} if fake else {}) for one in first]
    every = [pair for pair in read(dataset, 0) if isinstance(pair, StoredPair)]
    assert hints_of(list(every)) == [one | {"fake2": SECOND} for one in first]
    split = [[one.hints for one in each_fake(replace(pair, members=named(pair)))] for pair in every]
    assert split == [[one, one | {"fake": SECOND}] for one in first]


def named(pair: StoredPair) -> dict[str, bytes]:
    """Its members, with the JSON that a pair of two fakes has."""
    return pair.members | {"json": b'{"more_fakes": [{"autoencoder": "b"}]}'}


@given(st.binary(max_size=3 * PIECE), st.binary(min_size=1, max_size=9))
def test_pieces_come_back_with_their_header(data: bytes, header: bytes) -> None:
    packed = pieces_of(data, 7, header)
    found = read_pieces(packed, len(data))
    assert found.scan == 7
    assert found.crcs.tolist() == [crc32(data[at : at + PIECE]) for at in range(0, len(data), PIECE)]
    assert found.header.rstrip(b"\0") == header.rstrip(b"\0")
    assert len(packed) % 4 == 0, "versions that know of no header take all for numbers"
    bare = pieces_of(data, 7, b"")
    assert read_pieces(bare, len(data)).header == b""
    assert equal_pieces(bare, packed, len(data))
    assert not equal_pieces(packed, bare, len(data))
    assert not equal_pieces(packed, None, len(data))
