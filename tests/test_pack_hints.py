"""Hints of the index reach the pairs that are read, within a bound of memory of their own."""

import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from rewritten_indexes import Row, optional, rewritten, unhinted

from pack.dataset.dataset import Dataset, iterate_pairs, open_dataset
from pack.dataset.fakes import each_fake
from pack.dataset.pairs import DamagedPair, Hint, StoredPair
from pack.shard.schema import BARE_FAKES
from recon.base.errors import UserError


def hints_of(row: Row) -> Row:
    """Hints that tell whose they are; a PNG has no entry points."""
    found: Row = {}
    for member in ("real", "fake"):
        text = f"{member} of {row['key']}".encode()
        found[f"{member}_entries"] = text if row[f"{member}_codec"] == "jpeg" else None
        found[f"{member}_colours"] = text.ljust(192)
    return found


COLUMNS = tuple(hints_of({"key": "", "real_codec": "", "fake_codec": ""}))


@pytest.fixture
def hinted(packed: Path, tmp_path: Path) -> Path:
    """A copy of the packed photographs with hints that can be told apart."""
    root = Path(shutil.copytree(packed, tmp_path / "photos"))
    rewritten(root, lambda row: row | hints_of(row), optional(*COLUMNS))
    return root


def read(dataset: Dataset, shard: int) -> list[StoredPair | DamagedPair]:
    return dataset.read_block(shard, 0, dataset.manifest.shards[shard].pairs)


def expected_hints(dataset: Dataset, shard: int) -> list[dict[str, Hint]]:
    return [
        {
            member: Hint(entries=row[f"{member}_entries"], colours=row[f"{member}_colours"])
            for member in ("real", "fake")
        }
        for row in dataset.table(shard).to_pylist()
    ]


def test_each_pair_has_the_hints_of_its_own_row(hinted: Path) -> None:
    dataset = open_dataset(str(hinted))
    for shard in range(len(dataset.manifest.shards)):
        found = [pair.hints for pair in read(dataset, shard) if isinstance(pair, StoredPair)]
        assert found == expected_hints(dataset, shard)


def test_without_the_columns_pairs_are_the_same_but_for_hints(hinted: Path) -> None:
    before = list(iterate_pairs(str(hinted)))
    unhinted(hinted)
    after = list(iterate_pairs(str(hinted)))
    assert after == [replace(pair, hints={}) for pair in before]
    rewritten(hinted, lambda row: row | {"real_colours": b"p"}, optional("real_colours"))
    hint = {"real": Hint(entries=None, colours=b"p")}
    assert list(iterate_pairs(str(hinted))) == [replace(pair, hints=hint) for pair in after]


def test_hints_beyond_their_memory_are_left_out_and_no_index_is_read_again(
    hinted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, tables, table = open_dataset(str(hinted)), list[int](), Dataset.table

    def counted(dataset: Dataset, shard: int) -> pa.Table:
        tables.append(shard)
        return table(dataset, shard)

    monkeypatch.setattr(Dataset, "table", counted)
    whole = [read(dataset, shard) for shard in range(3)]
    sizes = [dataset._hints._shards[shard].memory for shard in range(3)]
    monkeypatch.setattr("pack.dataset.hints._CACHED_BYTES", sizes[0] + sizes[1])
    dataset = open_dataset(str(hinted))
    tables.clear()
    bare = [[replace(pair, hints={}) for pair in pairs if isinstance(pair, StoredPair)] for pairs in whole]
    assert [read(dataset, shard) for shard in (0, 1)] == whole[:2]
    assert read(dataset, 0) == whole[0]  # now 1 is unused longest
    assert read(dataset, 2) == whole[2]
    assert [read(dataset, shard) for shard in (0, 1, 2)] == [whole[0], bare[1], whole[2]]
    assert tables == [0, 1, 2]
    monkeypatch.setattr("pack.dataset.hints._CACHED_BYTES", 0)
    dataset = open_dataset(str(hinted))
    assert [read(dataset, shard) for shard in range(3)] == bare


def test_a_flipped_bit_in_a_hint_is_damage_of_the_index_and_is_told(hinted: Path) -> None:
    path = hinted / "shard-000001.parquet"
    data = path.read_bytes()
    for place in range(0, len(data), 97):  # wherever it lies
        path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        with pytest.raises(UserError, match=r"shard-000001.parquet differs from the manifest \(sha256\)"):
            read(open_dataset(str(hinted)), 1)


def test_a_damaged_pair_needs_no_hints_and_its_neighbours_keep_theirs(hinted: Path) -> None:
    dataset = open_dataset(str(hinted))
    offset = dataset.table(0)["fake_offset"][1].as_py()
    with (hinted / "shard-000000.tar").open("r+b") as file:
        file.seek(offset + 20)
        file.write(b"\xaa\xbb")
    found = read(dataset, 0)
    assert isinstance(found[1], DamagedPair)
    whole = [number for number, pair in enumerate(found) if isinstance(pair, StoredPair)]
    assert whole == [0, 2, 3]
    assert [pair.hints for pair in found if isinstance(pair, StoredPair)] == [
        one for number, one in enumerate(expected_hints(dataset, 0)) if number != 1
    ]


def more_of(row: Row) -> Row:
    """A pair with two fakes: the second lies where the first does."""
    more = {"field": "fake2.png", "codec": row["fake_codec"], "colours": b"second".ljust(192)}
    more |= {name: row[f"fake_{name}"] for name in ("offset", "size", "crc32")}
    return row | hints_of(row) | {"more_fakes": [more | {"entries": None, "autoencoder": "b"}]}


def test_the_chosen_fake_brings_its_own_hints(hinted: Path) -> None:
    rewritten(hinted, more_of, optional("more_fakes", *COLUMNS))
    dataset = open_dataset(str(hinted))
    pairs = dataset.manifest.shards[0].pairs
    second = Hint(entries=None, colours=b"second".ljust(192))
    first = expected_hints(dataset, 0)
    for fake in (0, 1):
        chosen = dataset.read_block(0, 0, pairs, pa.array([fake] * pairs).to_numpy())
        hints = [pair.hints for pair in chosen if isinstance(pair, StoredPair)]
        assert hints == [one | ({"fake": second} if fake else {}) for one in first]
    every = [pair for pair in read(dataset, 0) if isinstance(pair, StoredPair)]
    assert [pair.hints for pair in every] == [one | {"fake2": second} for one in first]
    split = [[one.hints for one in each_fake(replace(pair, members=named(pair)))] for pair in every]
    assert split == [[one, one | {"fake": second}] for one in first]


def named(pair: StoredPair) -> dict[str, bytes]:
    """Its members, with the JSON that a pair of two fakes has."""
    return pair.members | {"json": b'{"more_fakes": [{"autoencoder": "b"}]}'}


def test_an_index_of_several_fakes_without_hints_of_the_further_ones_is_read(hinted: Path) -> None:
    rewritten(hinted, more_of, [("more_fakes", BARE_FAKES), *optional(*COLUMNS)])
    pairs = [pair for pair in read(open_dataset(str(hinted)), 0) if isinstance(pair, StoredPair)]
    assert [set(pair.hints) for pair in pairs] == [{"real", "fake"}] * 4
    assert all(len(pair.fakes) == 2 for pair in pairs)
