"""The threads between a list of items and their pairs, bounded in bytes.

    photographs -> decoding threads -> autoencoder, one thread -> encoding threads -> in order

All stages work at the same time, also past the end of a shard, so that the autoencoder never waits for
a writer. The list of a shard alone decides which images share a batch; everything else is a function of
one item. So the results depend neither on threads nor on buffers nor on time. An image with several
reconstructions passes the autoencoders once for each, and waits for the last of them.

In addition to the interpreter, the autoencoder and its activations, a process holds at most

    buffer_mb                            decoded images that wait for the autoencoder
    + 8 B x T x L                        images that T threads decode; the largest has L pixels
    + 6 B x (PENDING_PIXELS + BATCH_PIXELS)     incomplete batches, and the batch that runs
    + BACKLOG + 12 B x T x L             images that wait to be encoded, and those being encoded
    + RESULTS + what SEGMENT_PIXELS give        encoded pairs; never more than two shards
    + 2 KiB x the pairs of two shards           rows of the index: of the shard that is written, and of the
                                                one that is published meanwhile (pack/publish/publisher.py)

    + 3 B x PENDING_PIXELS x (F - 1)            where an image has F reconstructions: those that wait

A segment gives about .8 B a pixel as JPEG, 3.2 B as PNG. Its pairs pile up only behind an image of a size
so rare that its batch stays incomplete; photographs of a few sizes stay far below this.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby
from typing import Protocol

from pack.base.items import Item
from pack.pipeline.decoding import Decoder, Prepared, Rejection
from pack.pipeline.encoding import Encoder
from pack.pipeline.queues import InOrder, Shared, StoppedError, Tasks
from pack.shard.pair import Pair
from recon.image.codec import Pixels

BACKLOG = 128 << 20
"""Bytes of pixels that may wait to be encoded when the autoencoder begins a batch."""

RESULTS = 64 << 20
"""Bytes of pairs that may wait for the writer when the autoencoder takes another image."""

SEGMENT_PIXELS = 1 << 27
"""Pixels of a segment, a run of images; no batch holds images of two segments."""

_ITEM_BYTES = 2048  # Python objects of one item; without this, rejected items would count as nothing

Shards = Iterable[tuple[int, Sequence[Item]]]
Result = Pair | Rejection


@dataclass(frozen=True, slots=True)
class Unit:
    """An image on its way through one autoencoder."""

    position: int
    """Position of its result, counted over all shards."""
    image: Prepared
    which: int
    """Number of the autoencoder."""


class Stage(Protocol):
    """What happens between decoding and encoding."""

    def batches(self, units: Iterator[Unit]) -> Iterator[list[Unit]]:
        """Yields every unit, in batches that depend on the sizes and the order of the units alone."""

    def run(self, batch: list[Unit], /) -> list[Pixels] | None:
        """The reconstruction of each unit; None if the items bring their own."""


@dataclass(frozen=True, slots=True)
class _Photograph:
    """The items of one file, which is decoded once for all of them."""

    number: int
    first: int
    """Position of the first item's result."""
    items: list[Item]
    ends_shard: bool


Opened = tuple[_Photograph, Iterator[Prepared | Rejection]]


class Pipeline:
    """One pass over shards: start it, iterate over `results`, and close it in any case.

    Args:
        decoder: reads and decodes items, on `readers` threads.
        stage: makes the reconstructions, on one thread.
        encoder: compresses and describes pairs, on `encoders` threads.
        shards: numbers and items; iterated over ahead of the results, by one thread at a time.
        buffer_bytes: limit of decoded images that wait for the autoencoder; one image is always allowed.
        readers: number of threads that read and decode.
        encoders: number of threads that encode.
    """

    def __init__(
        self,
        decoder: Decoder,
        stage: Stage,
        encoder: Encoder,
        shards: Shards,
        *,
        buffer_bytes: int,
        readers: int,
        encoders: int,
    ) -> None:
        self._decoder, self._stage, self._encoder = decoder, stage, encoder
        self._photographs = self._listed(shards)
        self._listing = threading.Lock()  # a generator must not be resumed by two threads at once
        self._shared = Shared()
        self._announced: InOrder[tuple[int, int]] = InOrder(self._shared)
        self._decoded: InOrder[Opened] = InOrder(self._shared, buffer_bytes)
        self._tasks: Tasks[tuple[Unit, list[Pixels]]] = Tasks(self._shared, BACKLOG)
        self._results: InOrder[Result] = InOrder(self._shared, RESULTS)
        work = [self._decode_all] * readers + [self._reconstruct_all] + [self._encode_all] * encoders
        # Daemons: a read that hangs must not keep the process alive after an error.
        self._threads = [
            threading.Thread(target=self._guarded, args=(each,), name=f"pack{each.__name__}", daemon=True)
            for each in work
        ]

    def start(self) -> None:
        """Starts the threads."""
        for thread in self._threads:
            thread.start()

    def results(self) -> Iterator[tuple[int, Iterator[Result]]]:
        """Yields each shard's number and its results in order; take all of them before the next shard.

        Raises:
            BaseException: the error that ended a thread, at once.
        """
        position = 0
        while (announced := self._announced.take()) is not None:
            shard, count = announced
            results = self._taken(position, count)
            yield shard, results
            assert next(results, None) is None, f"shard {shard} has results that were not taken"
            position += count

    def fail(self, error: BaseException) -> None:
        """Ends all threads; `results` raises the error, even if its caller is waiting at that moment."""
        self._shared.fail(error)

    def close(self) -> None:
        """Ends the threads and waits for them: at most for one batch or one read."""
        self._shared.stop()
        for thread in self._threads:
            if thread.ident is not None:  # join() raises for a thread that was never started
                thread.join()

    def _taken(self, first: int, count: int) -> Iterator[Result]:
        for position in range(first, first + count):
            result = self._results.take()
            assert result is not None
            self._results.release(position)  # before the yield: the writer holds the pair from here on
            yield result

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except StoppedError:
            pass  # `close` was called: nobody waits for this thread's work
        except BaseException as error:  # any error must reach the consumer; otherwise it waits forever
            self._shared.fail(error)

    def _listed(self, shards: Shards) -> Iterator[_Photograph]:
        """Yields the photographs of all shards; announces a shard when its first photograph is asked for."""
        number = position = announced = 0
        for shard, items in shards:
            self._announced.put(announced, (shard, len(items)))
            announced, end = announced + 1, position + len(items)
            # Tiles of one photograph follow each other in the plan, so neighbours are enough to group.
            for _, group in groupby(items, key=lambda item: (item.path, item.real)):
                files = list(group)
                yield _Photograph(number, position, files, ends_shard=position + len(files) == end)
                number, position = number + 1, position + len(files)
        self._announced.end(announced)
        self._decoded.end(number)

    def _decode_all(self) -> None:
        while (photograph := self._next_photograph()) is not None:
            admit = _Admission(self._decoded, photograph.number)
            # Before the read: when the buffer is full, no thread reads another file.
            admit(_ITEM_BYTES * len(photograph.items))
            opened = self._decoder.open(photograph.items, admit)
            self._decoded.put(photograph.number, (photograph, opened))

    def _next_photograph(self) -> _Photograph | None:
        with self._listing:
            return next(self._photographs, None)

    def _reconstruct_all(self) -> None:
        waiting: dict[int, dict[int, Pixels]] = {}  # by position: reconstructions that wait for others
        for segment in self._segments():
            for batch in self._stage.batches(segment):
                self._tasks.wait_for_room()
                made = self._stage.run(batch)
                for number, unit in enumerate(batch):
                    if made is None:
                        self._hand_on(unit, [])
                        continue
                    fakes = waiting.setdefault(unit.position, {})
                    fakes[unit.which] = made[number]
                    if len(fakes) == len(unit.image.item.makers):
                        del waiting[unit.position]
                        self._hand_on(unit, [fakes[which] for which in unit.image.item.makers])
        self._tasks.end()

    def _hand_on(self, unit: Unit, fakes: list[Pixels]) -> None:
        """Gives the encoders an image with all of its reconstructions."""
        # Before the task is visible to the encoders: as long as `_results` does not know that
        # its next value comes, `wait_for_room` lets more images in than the limit allows.
        self._results.promise(unit.position)
        self._tasks.put((unit, fakes), unit.image.size + sum(fake.nbytes for fake in fakes))

    def _segments(self) -> Iterator[Iterator[Unit]]:
        """Yields the images of all shards in segments, which end with a shard or after `SEGMENT_PIXELS`.

        A segment bounds how long pairs wait behind one incomplete batch. Batches end with the shard too, so
        that its bytes do not depend on which shards this process packs.
        """
        events = self._events()
        for first in events:
            if first is not None:  # two ends may follow each other: of the pixels, then of the shard
                yield chain([first], iter(partial(next, events), None))

    def _events(self) -> Iterator[Unit | None]:
        """Yields decoded images in order, and None at the end of a segment; a rejection becomes a result."""
        pixels = 0
        while (taken := self._decoded.take()) is not None:
            photograph, opened = taken
            for position, one in enumerate(opened, photograph.first):
                self._results.wait_for_room()
                if isinstance(one, Rejection):
                    self._results.put(position, one, _stored(one))
                    continue
                makers = one.item.makers
                yield from (Unit(position, one, which) for which in makers)
                pixels += one.picture.pixels.size // one.picture.pixels.shape[2] * len(makers)
                if pixels >= SEGMENT_PIXELS:
                    yield None
                    pixels = 0
            # Only now: the photograph stays in memory until the last of its tiles is cut.
            self._decoded.release(photograph.number)
            if photograph.ends_shard:
                yield None
                pixels = 0

    def _encode_all(self) -> None:
        while (task := self._tasks.take()) is not None:
            unit, fakes = task
            result = self._encoder.finish(unit.image, fakes)
            self._results.put(unit.position, result, _stored(result))


def _stored(result: Result) -> int:
    held = 0 if isinstance(result, Rejection) else sum(map(len, result.images))
    return _ITEM_BYTES + held


@dataclass(frozen=True, slots=True)
class _Admission:
    """Waits until the buffer of decoded images has room for one more image."""

    decoded: InOrder[Opened]
    number: int

    def __call__(self, size: int) -> None:
        self.decoded.admit(self.number, size)
