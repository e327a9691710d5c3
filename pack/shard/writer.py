"""Writes the tar of a shard, member by member, and collects the rows of its index."""

import hashlib
import json
import tarfile
from collections.abc import Mapping
from tarfile import TarInfo
from typing import Any, BinaryIO

from isal.isal_zlib import crc32

from pack.base.names import pair_id
from pack.shard.hints import packed_hints
from pack.shard.names import hint_member
from pack.shard.pair import Pair, member_columns
from pack.shard.schema import MASK_FIELD, MORE_FAKES, RECORD_FIELDS, field_names, further_field, record_of
from pack.shard.tar_header import HEADER

_WRITTEN = 1 << 20  # bytes of one write


class ShardWriter:
    """Writes pairs into a tar as `webdataset.TarWriter` would, and collects their index rows.

    It uses the standard library, because webdataset imports torch, which takes half a GiB of memory.

    Args:
        file: an open binary file, written once from start to end.
        dataset: name of the dataset, a part of the pair ids.
        fields: the names of ``real``, ``fake``, ``fake2``, ... in every sample; None names each image by its
            codec.
    """

    def __init__(self, file: BinaryIO, dataset: str, fields: Mapping[str, str] | None = None) -> None:
        self.sink = _HashingFile(file)
        self.dataset, self.fields = dataset, fields
        self.rows: list[dict[str, Any]] = []

    def add(self, pair: Pair) -> None:
        """Appends one pair."""
        real, fake = field_names(pair.real_codec, pair.fake_codec, self.fields)
        row: dict[str, Any] = {name: pair.record.get(name) for name in RECORD_FIELDS}
        more = self._described(pair)
        record = record_of(pair.key, row | {MORE_FAKES: more})
        text = json.dumps(record, sort_keys=True, ensure_ascii=False).encode()
        row |= {"key": pair.key, "pair_id": pair_id(self.dataset, pair.key)}
        row |= {"real_field": real, "fake_field": fake}
        for member, field, data in (("real", real, pair.real), ("fake", fake, pair.fake)):
            row |= member_columns(member, self._add_member(pair.key, field, data))
        if more:
            row[MORE_FAKES] = [
                about | self._add_member(pair.key, about["field"], fake.data)
                for about, fake in zip(more, pair.more, strict=True)
            ]
        if pair.mask is not None:
            row |= member_columns("mask", self._add_member(pair.key, MASK_FIELD, pair.mask))
        row |= member_columns("json", self._add_member(pair.key, "json", text))
        if pair.hints:
            row |= member_columns("hints", self._add(hint_member(pair.key), packed_hints(pair.hints)))
        self.rows.append(row)

    def _described(self, pair: Pair) -> list[dict[str, Any]]:
        """The further reconstructions of a pair, without their places."""
        return [
            {"field": further_field(number, fake.codec, self.fields), "codec": fake.codec} | fake.maker
            for number, fake in enumerate(pair.more, 1)
        ]

    def _add_member(self, key: str, field: str, data: bytes) -> dict[str, int]:
        return self._add(f"{key}.{field}", data)

    def _add(self, name: str, data: bytes) -> dict[str, int]:
        header = TarInfo(name)
        # No time, owner or group: a rerun must write the same bytes.
        header.size, header.mode = len(data), 0o644
        self.sink.write(header.tobuf(tarfile.USTAR_FORMAT))
        offset = self.sink.size
        self.sink.write(data)
        self.sink.write(bytes(-len(data) % HEADER))
        return {"offset": offset, "size": len(data), "crc32": crc32(data)}

    def close(self) -> tuple[int, str]:
        """Ends the tar and returns its (size in bytes, SHA-256)."""
        end = self.sink.size + 2 * tarfile.BLOCKSIZE  # two empty headers mark the end
        # Like tarfile and GNU tar, fill the last record of 10 KiB.
        self.sink.write(bytes(end + -end % tarfile.RECORDSIZE - self.sink.size))
        self.sink.flush()
        return self.sink.size, self.sink.sha256.hexdigest()


class _HashingFile:
    """Collects writes into pieces of 1 MiB, counts and hashes them, and passes them on.

    Each write to a file releases the interpreter's lock; after many small ones, this thread would often
    have to wait for threads that encode.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.size = 0
        self.sha256 = hashlib.sha256()
        self._piece = bytearray()

    def write(self, data: bytes) -> None:
        self.size += len(data)
        self._piece += data
        if len(self._piece) >= _WRITTEN:
            self.flush()

    def flush(self) -> None:
        piece, self._piece = self._piece, bytearray()
        self.sha256.update(piece)
        self.file.write(piece)
