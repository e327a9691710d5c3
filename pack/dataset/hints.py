"""The hints of a shard's pairs: what the index tells of their images, kept in memory as compact columns."""

import threading
from collections import OrderedDict
from dataclasses import dataclass

import pyarrow as pa

from pack.dataset.fakes import more_fakes
from pack.dataset.pairs import Hint
from pack.shard.names import fake_name
from pack.shard.schema import HINTS

_CACHED_BYTES = 64 << 20  # of hints: 22,000 pairs of two JPEGs of 166 KB each, at 3 KB


@dataclass(frozen=True, kw_only=True)
class ShardHints:
    """The hints of n pairs."""

    columns: dict[str, dict[str, pa.BinaryArray]]
    """By ``real``, ``fake``, ``fake2`` and so on, those of the columns of `pack.shard.schema.HINTS` that the
    index has, (n,) each."""

    @property
    def memory(self) -> int:
        """How many bytes are held."""
        return sum(values.nbytes for own in self.columns.values() for values in own.values())

    def of(self, row: int, fake: int | None) -> dict[str, Hint]:
        """The hints of a pair: of all its images, or of the real one and one fake, which is ``fake`` then."""
        names = {name: name for name in self.columns}
        if fake is not None:
            names = {"real": "real", "fake": fake_name(fake)}
        return {name: self._hint(row, member) for name, member in names.items() if member in self.columns}

    def _hint(self, row: int, member: str) -> Hint:
        own = self.columns[member]
        return Hint(**{name: own[name][row].as_py() if name in own else None for name in HINTS})


def shard_hints(table: pa.Table) -> ShardHints:
    """Takes the hints out of the table of a shard's index, which may have none."""
    found = {
        member: {
            name: table[f"{member}_{name}"].combine_chunks()
            for name in HINTS
            if f"{member}_{name}" in table.column_names
        }
        for member in ("real", "fake")
    }
    for number, more in enumerate(more_fakes(table), 1):
        known = [name for name in HINTS if more.type.get_field_index(name) >= 0]
        found[fake_name(number)] = {name: more.field(name) for name in known}
    return ShardHints(columns={member: own for member, own in found.items() if own})


class HintCache:
    """The hints of some shards, bounded in bytes; those of the shard unused longest are dropped.

    What was dropped is not read again as long as the rows of that index stay in memory: training does
    without. So reading never needs more requests because of hints.
    """

    def __init__(self) -> None:
        self._shards: OrderedDict[int, ShardHints] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, shard: int, hints: ShardHints) -> None:
        """Keeps the hints of a shard, if they have room."""
        if not hints.columns or hints.memory > _CACHED_BYTES:
            return
        with self._lock:
            self._shards[shard] = hints
            self._shards.move_to_end(shard)
            while sum(one.memory for one in self._shards.values()) > _CACHED_BYTES:
                self._shards.popitem(last=False)

    def of(self, shard: int, row: int, fake: int | None) -> dict[str, Hint]:
        """See `ShardHints.of`; nothing if the shard has none, or they were dropped."""
        with self._lock:
            if shard not in self._shards:
                return {}
            self._shards.move_to_end(shard)
            hints = self._shards[shard]
        return hints.of(row, fake)
