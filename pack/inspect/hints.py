"""Verifies the hints of a shard, in its tar or beside it: `pack.shard.hints`."""

from pack.dataset.dataset import Dataset
from pack.dataset.hints import cure, faults_of_file
from pack.dataset.index import HintPlaces, ShardIndex
from pack.shard.names import hint_member, hints_name
from pack.shard.tar_header import HEADER, fault_of_header
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
        beside = self._places is not None and self._places.beside
        self._cure = f"; {cure(dataset.store.url)}" if beside else ""
        self.wrong: list[str] = []
        self._beside: memoryview | None = None
        if self._places and self._places.beside:
            self._beside = self._read(dataset, hints_name(index.entry.name), self._places)

    def _read(self, dataset: Dataset, name: str, places: HintPlaces) -> memoryview | None:
        try:
            data = dataset.store.read(name)
        except UserError as error:
            self.wrong.append(f"{error}{self._cure}")
            return None
        self.wrong += [f"{name}: {fault}{self._cure}" for fault in faults_of_file(data, places)]
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
        if self._beside is not None:
            where, record = f"{hints_name(self._entry.name)}: {key}", places.record(row, self._beside)
        else:
            where, name = f"{self._entry.name}.tar: {hint_member(key)}", hint_member(key)
            start = int(places.offsets[row]) - position
            if fault := fault_of_header(data[start - HEADER : start], name, int(places.sizes[row])):
                self.wrong.append(f"{where}: {fault}")
            record = places.record(row, data, position)
        if record is None:
            self.wrong.append(f"{where}: CRC-32 differs from the index{self._cure}")
        return record
