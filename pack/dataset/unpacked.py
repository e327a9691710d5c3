"""Takes a pair out of the bytes of a block."""

from isal.isal_zlib import crc32  # 14 times as fast as zlib's

from pack.dataset.hints import with_hints
from pack.dataset.index import ShardIndex
from pack.dataset.pairs import DamagedPair, StoredPair


def unpacked(
    index: ShardIndex, row: int, block: memoryview, start: int, fake: int | None, url: str, *, hints: bool
) -> StoredPair | DamagedPair:
    """A pair whose payloads have the right CRC-32, or a damaged one.

    Args:
        index: of the shard.
        row: of the pair.
        block: bytes of the tar that hold the pair.
        start: the byte of the tar where `block` begins.
        fake: which of its fakes the pair is to have; None for all.
        url: of the tar.
        hints: give it its hints, if they lie in the tar.
    """
    key = index.keys[row]
    members: dict[str, bytes] = {}
    for column, field in index.columns_with(row, fake):
        offset = int(index.offsets[row, column]) - start
        data = block[offset : offset + int(index.sizes[row, column])]
        if crc32(data) != index.crcs[row, column]:
            return DamagedPair(key=key, url=url, cause=f"CRC-32 of {index.members[column]} differs")
        members[field] = bytes(data)  # a copy: a view would keep the whole block in memory
    pair = stored_pair(index, row, fake, url, members)
    if hints and (places := index.hints_inside):
        return with_hints(pair, places.record(row, block, start), fake)
    return pair


def stored_pair(
    index: ShardIndex, row: int, fake: int | None, url: str, members: dict[str, bytes]
) -> StoredPair:
    """The pair of a row with these members; arguments as of `unpacked`."""
    return StoredPair(
        key=index.keys[row],
        url=url,
        group=index.groups[row],
        pair_id=int(index.pair_ids[row]),
        members=members,
        fake_number=fake or 0,
    )
