"""Images without a partner in the tars, and photographs that stand in two splits."""

import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from pack.dataset.dataset import Dataset
from pack.dataset.index import ShardIndex
from pack.dataset.pairs import StoredPair
from pack.inspect.audit.images import MeasuredPair
from pack.shard.tar_header import read_header, shown_name

_BLOCK = 512  # bytes; all of a tar lies in such
_MOST = 1000  # places in doubt that are looked at in one dataset


def lonely(dataset: Dataset) -> Iterator[str]:
    """Yields a line for each member of a tar that belongs to no pair, and each pair that lacks a half.

    Only the headers between the members that the indexes know are read.
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
    """A line for each two pairs of different splits whose real images have the same pixels.

    Of the measured pairs by their pixels, and of all that there are where the files are equal too:
    the indexes tell size and CRC (16 bytes a pair in memory); up to `_MOST` such are compared.
    """
    urls = [dataset.store.url for dataset in datasets]
    first: dict[bytes, MeasuredPair] = {}
    found: dict[tuple[int, str, int, str], None] = {}
    for pair in pairs:
        other = first.setdefault(pair.real.pixels, pair)
        if other.split != pair.split:
            found[other.split, other.key, pair.split, pair.key] = None
    found |= dict.fromkeys(_same_files(datasets))
    return [f"{urls[a]}: {key} is {urls[b]}: {other}" for a, key, b, other in found]


def repeats(pairs: Sequence[MeasuredPair]) -> int:
    """Pairs whose real image has the pixels of another photograph's in the same split."""
    first: dict[tuple[int, bytes], str] = {}
    return sum(first.setdefault((p.split, p.real.pixels), p.photograph) != p.photograph for p in pairs)


def _same_files(datasets: Sequence[Dataset]) -> Iterator[tuple[int, str, int, str]]:
    """Yields (split, key, other split, other key)."""
    marks = [_marks(dataset) for dataset in datasets]
    for one, other in combinations(range(len(datasets)), 2):
        _, first, second = np.intersect1d(marks[one], marks[other], return_indices=True)
        for number, other_number in list(zip(first, second, strict=True))[:_MOST]:
            pair, twin = _nth(datasets[one], int(number)), _nth(datasets[other], int(other_number))
            if pair is not None and twin is not None and _look_alike(pair, twin):
                yield one, pair.key, other, twin.key


def _unknown(index: ShardIndex) -> list[tuple[int, int]]:
    """Runs of bytes that hold neither an indexed member nor its header.

    Not those of a length that many have: PAX headers, or further members of each sample.
    """
    present = index.sizes > 0
    starts = index.offsets[present] - _BLOCK
    ends = index.offsets[present] + -(-index.sizes[present] // _BLOCK) * _BLOCK
    order = np.argsort(starts)
    starts, ends = starts[order], ends[order]
    gaps = [(int(a), int(b)) for a, b in zip([0, *ends], [*starts, index.entry.bytes], strict=True) if b > a]
    lengths = Counter(end - start for start, end in gaps)
    usual = {length for length, count in lengths.items() if 4 * count > len(starts) > 8}
    return [(start, end) for start, end in gaps if end - start not in usual]


def _strangers(dataset: Dataset, shard: int, index: ShardIndex, start: int, end: int) -> Iterator[str]:
    """Names the images between two places whose sample is not in the index."""
    keys = set(index.keys)
    while start + _BLOCK <= end:
        header = bytes(dataset.store.read_range(f"{index.entry.name}.tar", start, _BLOCK))
        try:
            member = read_header(header)
        except tarfile.HeaderError:  # zeros: the end of the tar, or padding
            return
        start += _BLOCK + -(-member.size // _BLOCK) * _BLOCK
        key = member.name.split("/")[-1].split(".")[0]
        if member.isreg() and not member.name.endswith(".json") and key not in keys:
            yield f"{dataset.tar_url(shard)}: {shown_name(member.name)} belongs to no pair"


def _marks(dataset: Dataset) -> NDArray[np.uint64]:
    """(N,) size and CRC-32 of each pair's real image."""
    marks = []
    for shard in range(len(dataset.manifest.shards)):
        table = dataset.table(shard, ["real_size", "real_crc32"])
        sizes, crcs = (table[name].to_numpy().astype(np.uint64) for name in table.column_names)
        marks.append(sizes << np.uint64(32) | crcs)
    return np.concatenate(marks)


def _nth(dataset: Dataset, number: int) -> StoredPair | None:
    """A pair by its number in the dataset; None where it is damaged."""
    for shard, entry in enumerate(dataset.manifest.shards):
        if number < entry.pairs:
            pair = dataset.read_block(shard, number, 1)[0]
            return pair if isinstance(pair, StoredPair) else None
        number -= entry.pairs
    raise AssertionError("number is below the manifest's pairs")


def _look_alike(one: StoredPair, other: StoredPair) -> bool:
    try:
        return one.real == other.real
    except StopIteration:
        return False
