"""The threads between a list of items and their pairs, bounded in bytes.

    photographs -> decoding threads -> autoencoder, one thread -> encoding threads -> in order

Every stage works while the others do, across the ends of shards, so that the autoencoder never
waits for a writer. Which images share a batch follows from the shard's list alone; the rest is
a function of one item: neither threads nor buffers nor time are seen in the results.

What a process holds, beside the interpreter, the autoencoder and its activations, is at most

    buffer_mb                            decoded, ahead of the autoencoder
    + 8 B x T x L                        being decoded by T threads, of L pixels the largest
    + 6 B x (PENDING_PIXELS + BATCH_PIXELS)     in batches that fill, and in the one that runs
    + BACKLOG + 12 B x T x L             waiting to be encoded, and being encoded
    + RESULTS + what SEGMENT_PIXELS give        encoded; and no more than two shards
    + 2 KiB x the pairs of two shards           rows of the index: of the shard that is written, and of the
                                                one that is published meanwhile (pack/publish/publisher.py)

where a segment gives about .8 B a pixel as JPEG, 3.2 B as PNG. It is what pairs wait for behind an
image of a size so rare that its batch doesn't fill; photographs of a few sizes stay far below.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby
from typing import Protocol

from pack.base.items import Item
from pack.pipeline.item_to_pair import Prepared, Rejection, Steps
from pack.pipeline.queues import InOrder, Shared, StoppedError, Tasks
from pack.shard.pair import Pair
from recon.image.codec import Pixels

BACKLOG = 128 << 20
"""Bytes of pixels that wait to be encoded, at most, when a batch begins."""

RESULTS = 64 << 20
"""Bytes of pairs that wait for the writer, at most, when the autoencoder takes another image."""

SEGMENT_PIXELS = 1 << 27
"""Pixels of a run of images that batches never cross."""

_ITEM_BYTES = 2048  # an item's own objects; what bounds a run of rejected ones

Shards = Iterable[tuple[int, Sequence[Item]]]
Result = Pair | Rejection


@dataclass(frozen=True, slots=True)
class Unit:
    """An image on its way through the autoencoder."""

    position: int
    """Of its result, counted over all shards."""
    image: Prepared


class Stage(Protocol):
    """What happens between decoding and encoding."""

    def batches(self, units: Iterator[Unit]) -> Iterator[list[Unit]]:
        """Yields every unit, in batches that follow from their sizes and order alone."""

    def run(self, batch: list[Unit]) -> list[Pixels | None]:
        """Their reconstructions; None where the item brings its own."""


@dataclass(frozen=True, slots=True)
class _Photograph:
    """Items of one file, to be decoded together."""

    number: int
    first: int
    """Position of the first item's result."""
    items: list[Item]
    ends_shard: bool


Opened = tuple[_Photograph, Iterator[Prepared | Rejection]]


class Pipeline:
    """One pass over shards: start it, iterate over `results`, and close it in any case.

    Args:
        steps: what happens to an item before and after the autoencoder.
        stage: what happens in between.
        shards: numbers and items; drawn from ahead of the results, by one thread at a time.
        buffer_bytes: decoded ahead of the autoencoder, at most, or one image.
        readers: threads that read and decode.
        encoders: threads that encode.
    """

    def __init__(
        self, steps: Steps, stage: Stage, shards: Shards, *, buffer_bytes: int, readers: int, encoders: int
    ) -> None:
        self._steps = steps
        self._stage = stage
        self._photographs = self._listed(shards)
        self._listing = threading.Lock()
        self._shared = Shared()
        self._announced: InOrder[tuple[int, int]] = InOrder(self._shared)
        self._decoded: InOrder[Opened] = InOrder(self._shared, buffer_bytes)
        self._tasks: Tasks[tuple[Unit, Pixels | None]] = Tasks(self._shared, BACKLOG)
        self._results: InOrder[Result] = InOrder(self._shared, RESULTS)
        work = [self._decode_all] * readers + [self._reconstruct_all] + [self._encode_all] * encoders
        self._threads = [
            threading.Thread(target=self._guarded, args=(each,), name=f"pack{each.__name__}", daemon=True)
            for each in work
        ]

    def start(self) -> None:
        """Lets the threads begin."""
        for thread in self._threads:
            thread.start()

    def results(self) -> Iterator[tuple[int, Iterator[Result]]]:
        """Yields each shard's number and its results in order, to be exhausted before the next.

        Raises:
            BaseException: whatever a thread ended with, at once.
        """
        position = 0
        while (announced := self._announced.take()) is not None:
            shard, count = announced
            results = self._taken(position, count)
            yield shard, results
            assert next(results, None) is None, f"shard {shard} has results that were not taken"
            position += count

    def fail(self, error: BaseException) -> None:
        """Ends everything; `results` raises the error, also where it is waited for."""
        self._shared.fail(error)

    def close(self) -> None:
        """Ends the threads and waits for them, for one batch or one read at most."""
        self._shared.stop()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _taken(self, first: int, count: int) -> Iterator[Result]:
        for position in range(first, first + count):
            result = self._results.take()
            assert result is not None
            self._results.release(position)
            yield result

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except StoppedError:
            pass
        except BaseException as error:  # whatever it is, the consumer has to see it
            self._shared.fail(error)

    def _listed(self, shards: Shards) -> Iterator[_Photograph]:
        """The photographs of all shards; a shard is announced when its first is drawn."""
        number = position = announced = 0
        for shard, items in shards:
            self._announced.put(announced, (shard, len(items)))
            announced, end = announced + 1, position + len(items)
            for _, group in groupby(items, key=lambda item: (item.path, item.real)):
                files = list(group)
                yield _Photograph(number, position, files, ends_shard=position + len(files) == end)
                number, position = number + 1, position + len(files)
        self._announced.end(announced)
        self._decoded.end(number)

    def _decode_all(self) -> None:
        while (photograph := self._next_photograph()) is not None:
            admit = _Admission(self._decoded, photograph.number)
            admit(_ITEM_BYTES * len(photograph.items))
            opened = self._steps.open(photograph.items, admit)
            self._decoded.put(photograph.number, (photograph, opened))

    def _next_photograph(self) -> _Photograph | None:
        with self._listing:
            return next(self._photographs, None)

    def _reconstruct_all(self) -> None:
        for segment in self._segments():
            for batch in self._stage.batches(segment):
                self._tasks.wait_for_room()
                for unit, fake in zip(batch, self._stage.run(batch), strict=True):
                    self._results.promise(unit.position)
                    self._tasks.put((unit, fake), unit.image.size + (0 if fake is None else fake.nbytes))
        self._tasks.end()

    def _segments(self) -> Iterator[Iterator[Unit]]:
        """The images of all shards, in runs that end with a shard or after `SEGMENT_PIXELS`."""
        events = self._events()
        for first in events:
            if first is not None:
                yield chain([first], iter(partial(next, events), None))

    def _events(self) -> Iterator[Unit | None]:
        """Decoded images in order, None after the last of a segment; what was rejected is a result."""
        pixels = 0
        while (taken := self._decoded.take()) is not None:
            photograph, opened = taken
            for position, one in enumerate(opened, photograph.first):
                self._results.wait_for_room()
                if isinstance(one, Rejection):
                    self._results.put(position, one, _stored(one))
                    continue
                yield Unit(position, one)
                pixels += one.picture.pixels.size // one.picture.pixels.shape[2]
                if pixels >= SEGMENT_PIXELS:
                    yield None
                    pixels = 0
            self._decoded.release(photograph.number)
            if photograph.ends_shard:
                yield None
                pixels = 0

    def _encode_all(self) -> None:
        while (task := self._tasks.take()) is not None:
            unit, fake = task
            result = self._steps.finish(unit.image, fake)
            self._results.put(unit.position, result, _stored(result))


def _stored(result: Result) -> int:
    held = 0 if isinstance(result, Rejection) else len(result.real) + len(result.fake)
    return _ITEM_BYTES + held


@dataclass(frozen=True, slots=True)
class _Admission:
    """Waits for room in the buffer of decoded pixels."""

    decoded: InOrder[Opened]
    number: int

    def __call__(self, size: int) -> None:
        self.decoded.admit(self.number, size)
