"""Verifies the hints of a shard, in its tar or beside it: `pack.shard.hints`."""

import tarfile

from isal.isal_zlib import crc32

from pack.dataset.dataset import Dataset
from pack.dataset.index import HintPlaces, ShardIndex
from pack.shard.hints import MAGIC
from pack.shard.names import hint_member, hints_name
from pack.shard.tar_header import HEADER, read_header, shown_name
from recon.base.errors import UserError


class VerifiedHints:
    """The hints of a shard, and what is wrong with them.

    Args:
        dataset: that holds the shard.
        index: of the shard; if it names no hints, nothing can be wrong.

    Attributes:
        wrong: a line for each difference from the index.
    """

    def __init__(self, dataset: Dataset, index: ShardIndex) -> None:
        self._keys, self._places, self._entry = index.keys, index.hints, index.entry
        self.wrong: list[str] = []
        self._beside: memoryview | None = None
        if self._places and self._places.beside:
            self._beside = self._read(dataset, hints_name(index.entry.name), self._places)

    def _read(self, dataset: Dataset, name: str, places: HintPlaces) -> memoryview | None:
        try:
            data = dataset.store.read(name)
        except UserError as error:
            self.wrong.append(str(error))
            return None
        if len(data) != (end := int(places.offsets[-1] + places.sizes[-1])):
            self.wrong.append(f"{name}: {len(data)} bytes, the index says {end}")
        if not data.startswith(MAGIC):
            self.wrong.append(f"{name}: it does not begin with {MAGIC!r}")
        return memoryview(data)

    def record(self, row: int, data: memoryview, position: int) -> memoryview | None:
        """The record of a pair; None for a pair without, or with a damaged one.

        Args:
            row: of the pair.
            data: bytes of the tar.
            position: the byte of the tar where they begin.
        """
        places, key = self._places, self._keys[row]
        if not places or (places.beside and self._beside is None):
            return None
        offset, size = int(places.offsets[row]), int(places.sizes[row])
        if self._beside is not None:
            where, record = f"{hints_name(self._entry.name)}: {key}", self._beside[offset : offset + size]
        else:
            where = f"{self._entry.name}.tar: {hint_member(key)}"
            start = offset - position
            self._check_header(where, hint_member(key), size, data[start - HEADER : start])
            record = data[start : start + size]
        if crc32(record) == places.crcs[row]:
            return record
        self.wrong.append(f"{where}: CRC-32 differs from the index")
        return None

    def _check_header(self, where: str, name: str, size: int, block: memoryview) -> None:
        try:
            header = read_header(block)
        except tarfile.HeaderError as error:
            self.wrong.append(f"{where}: broken tar header ({error})")
            return
        if (found := shown_name(header.name), header.size) != (name, size):
            self.wrong.append(f"{where}: the tar has {found} of {header.size} bytes, the index says {size}")
