"""Writes the tar of a shard, member by member, and collects the rows of its index."""

import hashlib
import json
import tarfile
from collections.abc import Mapping
from tarfile import TarInfo
from typing import Any, BinaryIO

from isal.isal_zlib import crc32

from pack.base.names import pair_id
from pack.shard.pair import Pair
from pack.shard.schema import RECORD_FIELDS, field_names, record_of
from pack.shard.tar_header import HEADER

_WRITTEN = 1 << 20  # bytes of one write


class ShardWriter:
    """Writes pairs into a tar as `webdataset.TarWriter` would, and collects their index rows.

    It uses the standard library, because webdataset imports torch, which takes half a GiB of memory.

    Args:
        file: an open binary file, written once from start to end.
        dataset: name of the dataset, a part of the pair ids.
        fields: the names of ``real`` and ``fake`` in every sample; None names each image by its codec.
    """

    def __init__(self, file: BinaryIO, dataset: str, fields: Mapping[str, str] | None = None) -> None:
        self.sink = _HashingFile(file)
        self.dataset, self.fields = dataset, fields
        self.rows: list[dict[str, Any]] = []

    def add(self, pair: Pair) -> None:
        """Appends one pair."""
        real, fake = field_names(pair.real_codec, pair.fake_codec, self.fields)
        row: dict[str, Any] = {name: pair.record.get(name) for name in RECORD_FIELDS}
        text = json.dumps(record_of(pair.key, row), sort_keys=True, ensure_ascii=False).encode()
        row |= {"key": pair.key, "pair_id": pair_id(self.dataset, pair.key)}
        row |= {"real_field": real, "fake_field": fake}
        row |= self._add_member(pair.key, "real", real, pair.real)
        row |= self._add_member(pair.key, "fake", fake, pair.fake)
        row |= self._add_member(pair.key, "json", "json", text)
        self.rows.append(row)

    def _add_member(self, key: str, member: str, field: str, data: bytes) -> dict[str, int]:
        header = TarInfo(f"{key}.{field}")
        # No time, owner or group: a rerun must write the same bytes.
        header.size, header.mode = len(data), 0o644
        self.sink.write(header.tobuf(tarfile.USTAR_FORMAT))
        offset = self.sink.size
        self.sink.write(data)
        self.sink.write(bytes(-len(data) % HEADER))
        return {
            f"{member}_offset": offset,
            f"{member}_size": len(data),
            f"{member}_crc32": crc32(data),
        }

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
