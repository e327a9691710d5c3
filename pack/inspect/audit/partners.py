"""Finds images without a partner in the tars, and photographs that are in two splits."""

from collections import Counter
from collections.abc import Container, Iterator, Sequence
from contextlib import suppress
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from pack.base.names import printable
from pack.dataset.dataset import Dataset
from pack.dataset.index import ShardIndex
from pack.dataset.pairs import StoredPair
from pack.inspect.audit.measured.images import MeasuredImage, MeasuredPair
from pack.shard.names import key_and_field
from pack.shard.tar_header import HEADER, shown_name
from pack.shard.tar_members import BrokenTarError, members

_LEVELS = 1.0  # a compression at quality 60 changes these numbers by less
_MOST = 1000  # suspicious places that are read in one dataset, to limit the requests


def lonely(dataset: Dataset) -> Iterator[str]:
    """Yields a line for each tar member that belongs to no pair, and for each pair without one image.

    Reads only headers, and only in the places between the members that the indexes list.
    """
    looked = 0
    for shard in range(len(dataset.manifest.shards)):
        index = dataset.index(shard)
        for row in np.flatnonzero((index.sizes[:, :2] <= 0).any(axis=1)):
            yield f"{dataset.tar_url(shard)}: {index.keys[row]} lacks an image"
        for start, end in _unknown(index):
            if looked >= _MOST:
                return
            looked += 1
            yield from _strangers(dataset, shard, index, start, end)


def twins(datasets: Sequence[Dataset], pairs: Sequence[MeasuredPair]) -> list[str]:
    """A line for each two pairs of different splits whose real images are of one photograph.

    The measured pairs are compared by their pixels, and those of one name by size, colours and contrast: an
    image that was compressed for one of the splits has other pixels there. All pairs are compared by size and
    CRC-32 of the file, which the indexes hold (16 bytes a pair in memory); up to `_MOST` such matches are
    read and compared.
    """
    urls = [dataset.store.url for dataset in datasets]
    first: dict[bytes, MeasuredPair] = {}
    named: dict[str, MeasuredPair] = {}
    found: dict[tuple[int, str, int, str], None] = {}
    for pair in pairs:
        other = first.setdefault(pair.real.pixels, pair)
        if other.split != pair.split:
            found[other.split, other.key, pair.split, pair.key] = None
        namesake = named.setdefault(pair.photograph, pair)
        if namesake.split != pair.split and _resemble(namesake.real, pair.real):
            found[namesake.split, namesake.key, pair.split, pair.key] = None
    found |= dict.fromkeys(_same_files(datasets))  # a dict drops what both ways found, and keeps the order
    return [f"{urls[a]}: {key} is {urls[b]}: {other}" for a, key, b, other in found]


def _resemble(one: MeasuredImage, other: MeasuredImage) -> bool:
    """Whether two images are equally large, and their colours and contrast differ by a level at most."""
    names = ("red", "green", "blue", "contrast")
    differ = [abs(one.values[name] - other.values[name]) for name in names]
    return one.facts["size"] == other.facts["size"] and max(differ) <= _LEVELS


def repeats(pairs: Sequence[MeasuredPair]) -> int:
    """Number of pairs whose real image has the same pixels as another photograph of the same split."""
    first: dict[tuple[int, bytes], str] = {}
    return sum(first.setdefault((p.split, p.real.pixels), p.photograph) != p.photograph for p in pairs)


def _same_files(datasets: Sequence[Dataset]) -> Iterator[tuple[int, str, int, str]]:
    """Yields (split, key, other split, other key) of pairs whose real files have equal bytes."""
    marks = [_marks(dataset) for dataset in datasets]
    for one, other in combinations(range(len(datasets)), 2):
        _, first, second = np.intersect1d(marks[one], marks[other], return_indices=True)
        for number, other_number in list(zip(first, second, strict=True))[:_MOST]:
            pair, twin = _nth(datasets[one], int(number)), _nth(datasets[other], int(other_number))
            # Equal size and CRC-32 may be chance, so the bytes decide.
            if pair is not None and twin is not None and _look_alike(pair, twin):
                yield one, pair.key, other, twin.key


def _unknown(index: ShardIndex) -> list[tuple[int, int]]:
    """(start, end) of the gaps between the indexed members, each with the member after it.

    To that member belong the headers of a long name at the end of its gap. Gaps of a length that many samples
    have are left out: those are PAX headers or further members.
    """
    present = index.sizes > 0
    offsets, sizes = index.offsets[present], index.sizes[present]
    if hints := index.hints_inside:
        offsets, sizes = np.append(offsets, hints.offsets), np.append(sizes, hints.sizes)
    starts, ends = offsets - HEADER, offsets + -(-sizes // HEADER) * HEADER
    order = np.argsort(starts)
    starts, ends = starts[order], ends[order]
    last = index.entry.bytes
    places = np.array([[0, *ends], [*starts, last], [*ends, last]]).T.tolist()
    gaps = [(start, header, end) for start, header, end in places if header > start]
    lengths = Counter(header - start for start, header, _ in gaps)
    # Usual: more than a quarter of all members have such a gap, and there are enough members to say so.
    usual = {length for length, count in lengths.items() if 4 * count > len(starts) > 8}
    return [(start, end) for start, header, end in gaps if header - start not in usual]


def _strangers(dataset: Dataset, shard: int, index: ShardIndex, start: int, end: int) -> Iterator[str]:
    """Yields a line for each member in a gap that is a part of a sample for webdataset, but of no pair."""
    keys = set(index.keys)
    with suppress(BrokenTarError):  # python -m pack.verify tells where the tar is damaged
        for member in members(_Gap(dataset, shard, start, end)):
            if member.is_file and _is_stranger(member.name, keys):
                yield f"{dataset.tar_url(shard)}: {shown_name(member.name)} belongs to no pair"


def _is_stranger(name: str, known: Container[str]) -> bool:
    """Whether a member belongs to a sample with another key; a record alone is not missed."""
    split = key_and_field(name)  # None for what is hidden
    return split is not None and not name.endswith(".json") and printable(split[0]) not in known


class _Gap:
    """A part of a tar, from the start of a member to the end of another, as a tar of its own."""

    def __init__(self, dataset: Dataset, shard: int, start: int, end: int) -> None:
        self._store, self._name = dataset.store, f"{dataset.manifest.shards[shard].name}.tar"
        self._start = start
        self.where, self.size = dataset.tar_url(shard), end - start

    def read(self, position: int, length: int) -> bytes | memoryview:
        """See `pack.shard.tar_members.TarBytes`; at its end it has the mark of a tar's end."""
        if position == self.size:
            return bytes(length)
        length = max(0, min(length, self.size - position))
        return self._store.read_range(self._name, self._start + position, length)


def _marks(dataset: Dataset) -> NDArray[np.uint64]:
    """(N,) size (upper 32 bits) and CRC-32 (lower 32 bits) of each pair's real image."""
    marks = []
    for shard in range(len(dataset.manifest.shards)):
        table = dataset.table(shard, ["real_size", "real_crc32"])
        sizes, crcs = (table[name].to_numpy().astype(np.uint64) for name in table.column_names)
        marks.append(sizes << np.uint64(32) | crcs)
    return np.concatenate(marks)


def _nth(dataset: Dataset, number: int) -> StoredPair | None:
    """The pair with this number, counted over all shards; None if it is damaged."""
    for shard, entry in enumerate(dataset.manifest.shards):
        if number < entry.pairs:
            pair = dataset.read_block(shard, number, 1)[0]
            return pair if isinstance(pair, StoredPair) else None
        number -= entry.pairs
    raise AssertionError("number is below the manifest's pairs")


def _look_alike(one: StoredPair, other: StoredPair) -> bool:
    try:
        return one.real == other.real
    except StopIteration:  # `StoredPair.real` raises it if the pair has no real image
        return False
