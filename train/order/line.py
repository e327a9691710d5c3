"""The line of an epoch: all its pieces, permuted, with only those in memory that are needed soon.

The permutation sorts the pieces by a hash of their number. A billion pairs have 62 million pieces, and the
sorted line with its places took 500 MB and 24 s in every rank. So the hashes are cut into *buckets* by their
first bits. One scan of all hashes, a second for 62 million, counts what is in each bucket. Another takes out
the buckets that hold the next pieces of a rank's lanes, and these alone are sorted. The line is the same.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from train.order.counter import words

MOST = 1 << 18
"""Pieces that are kept at once: 3 MB, and some 10 MB while they are sorted."""
_CHUNK = 1 << 16  # pieces hashed at once: their words stay in the processor's cache, twice as fast as 2**18
_KEPT_BUCKETS = 1 << 9  # MOST over the pieces of a bucket: a rank of 100 lanes gets five for each


@dataclass(frozen=True, kw_only=True)
class Part:
    """The pieces that an epoch takes from one copy of one source, before they are permuted."""

    source: int
    copy: int
    """Tells the visits of a pair within the epoch apart, from 0: the whole copies come first."""
    blocks: Sequence[int] | NDArray[np.int32]
    """For each piece, the number of its block within the source."""
    counts: Callable[[int, int], NDArray[np.int32]]
    """Pairs of each of the pieces low..high-1."""
    skip: int = 0
    """Pairs that the first piece leaves out at its block's start."""

    def __len__(self) -> int:
        """Pieces."""
        return len(self.blocks)


@dataclass(frozen=True)
class _Bucket:
    """Some successive pieces of the line."""

    numbers: NDArray[np.int32]
    """(n,) which pieces these are, counted through the parts."""
    edges: NDArray[np.int64]
    """(n + 1,) places where they begin, and where the last of them ends."""


class Line:
    """The pieces of an epoch, permuted and laid end to end.

    Args:
        parts: the pieces, numbered through all parts.
        key: of the permutation.
        most: pieces that are kept at once.
    """

    def __init__(self, parts: Sequence[Part], key: int, most: int = MOST) -> None:
        self.parts, self.part_starts = parts, list(accumulate(map(len, parts), initial=0))
        self._key, self._most = key, most
        self.pieces = self.part_starts[-1]
        per_bucket = max(1, most // _KEPT_BUCKETS)
        self._bits = (self.pieces // per_bucket).bit_length() if self.pieces > most else 0
        self._kept: dict[int, _Bucket] = {}
        self._cursors: dict[int, int] = {}
        self._count()

    def _scan(self) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]]:
        """All pieces in the order of their numbers: the first number, and each one's word, bucket, pairs."""
        for start, part in zip(self.part_starts, self.parts, strict=False):
            for low in range(0, len(part), _CHUNK):
                counts = part.counts(low, min(low + _CHUNK, len(part)))
                found = words(self._key, np.arange(start + low, start + low + len(counts), dtype=np.int64))
                # Words are signed, and the line is sorted by them as they are.
                bucket = ((found >> 32) + 2**31) >> (32 - self._bits)
                yield start + low, found, bucket, counts

    def _count(self) -> None:
        """How many pieces and pairs lie before each bucket, and in all."""
        buckets = 1 << self._bits
        pieces, pairs = np.zeros(buckets, np.int64), np.zeros(buckets, np.int64)
        for _, _, bucket, counts in self._scan():
            pieces += np.bincount(bucket, minlength=buckets)
            pairs += np.bincount(bucket, counts, minlength=buckets).astype(np.int64)  # exact below 2**53
        self._first_piece = np.concatenate([[0], np.cumsum(pieces)])
        self._first_place = np.concatenate([[0], np.cumsum(pairs)])

    def follow(self, places: Mapping[int, Sequence[int]]) -> None:
        """Brings what is needed next, in one scan for all lanes. Later the lanes are brought on together.

        Args:
            places: for each lane that will be read, places of the line; the last is where reading begins.
        """
        needed = {lane: [self._bucket_at(place) for place in own] for lane, own in places.items()}
        # One before: the shuffle window that reading begins in may have begun there.
        self._cursors = {lane: max(0, own[-1] - 1) for lane, own in needed.items()}
        self._bring({bucket for own in needed.values() for bucket in own})

    def piece_at(self, lane: int, place: int) -> int:
        """The piece on which a place lies."""
        number = self._bucket_at(place)
        edges = self._bucket(lane, number).edges
        return int(self._first_piece[number]) + int(np.searchsorted(edges, place, side="right")) - 1

    def cut(self, lane: int, low: int, high: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Pieces low..high-1 of the line, or fewer at its end.

        Returns:
            Their numbers (n), and their edges (n + 1): where each begins and the last ends.
        """
        high = min(high, self.pieces)
        numbers: list[NDArray[np.int32]] = []
        edges: list[NDArray[np.int64]] = []
        while low < high:
            which = int(np.searchsorted(self._first_piece, low, side="right")) - 1
            bucket, first = self._bucket(lane, which), int(self._first_piece[which])
            own = slice(low - first, min(high - first, len(bucket.numbers)))
            numbers.append(bucket.numbers[own])
            edges.append(bucket.edges[own])
            low = first + own.stop
            last = bucket.edges[own.stop : own.stop + 1]
        return np.concatenate(numbers), np.concatenate([*edges, last])

    def _bucket_at(self, place: int) -> int:
        # "right" passes over empty buckets, which begin where the next one begins.
        return int(np.searchsorted(self._first_place, place, side="right")) - 1

    def _bucket(self, lane: int, number: int) -> _Bucket:
        if number not in self._kept:
            self._cursors[lane] = number
            self._bring({number})
        elif number > self._cursors.get(lane, number):
            self._cursors[lane] = number
        return self._kept[number]

    def _bring(self, needed: set[int]) -> None:
        """Keeps these buckets and, for each lane, those from where it is on, as many as there is room for."""
        buckets = 1 << self._bits
        room = self._most * buckets // max(self.pieces, 1)
        ahead = max(3, room // max(len(self._cursors), 1))
        wanted = np.zeros(buckets, np.bool_)
        for first in self._cursors.values():
            wanted[first : first + ahead] = True
        wanted[list(needed)] = True
        self._kept = {number: one for number, one in self._kept.items() if wanted[number]}
        wanted[list(self._kept)] = False
        self._kept |= self._sorted(wanted)

    def _sorted(self, wanted: NDArray[np.bool_]) -> dict[int, _Bucket]:
        """The wanted buckets, sorted."""
        numbers, keys, counts = [], [], []
        for first, found, bucket, pairs in self._scan():
            chosen = np.flatnonzero(wanted[bucket])
            numbers.append((chosen + first).astype(np.int32))
            keys.append(found[chosen])
            counts.append(pairs[chosen])
        if not numbers:
            return {}
        order = np.argsort(np.concatenate(keys), kind="stable")
        numbers_n, counts_n = np.concatenate(numbers)[order], np.concatenate(counts)[order]
        made, start = {}, 0
        for number in np.flatnonzero(wanted).tolist():
            end = start + int(self._first_piece[number + 1] - self._first_piece[number])
            edges = np.cumsum(counts_n[start:end], dtype=np.int64)
            place = self._first_place[number]
            made[number] = _Bucket(numbers_n[start:end], np.concatenate([[place], place + edges]))
            start = end
        return made
