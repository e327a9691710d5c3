"""Makes pairs of items: decodes, cuts, reconstructs and compresses many at once, and keeps their order."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pack.base.config import PackConfig
from pack.base.items import Item
from pack.pipeline.decoding import Decoder, Rejection
from pack.pipeline.encoding import Encoder
from pack.pipeline.pipeline import Pipeline, Stage, Unit
from pack.shard.pair import Pair
from recon.base.cpus import available_cpus
from recon.batches import Bucket, batched, bucket
from recon.image.codec import Pixels
from recon.models.types import Autoencoder, Identity
from recon.reconstruct import reconstruct_batch

__all__ = ["Pair", "PairMaker", "Rejection"]

_MOST_THREADS = 16  # per stage; more threads would only wait for the interpreter's lock
_READERS = 16  # at least so many for a source on a network, whose threads mostly wait for data


class PairMaker:
    """Makes the pairs of shards. A context manager: all threads have ended when it exits.

    The results depend on the items, the options and the autoencoders. They do not depend on the number
    of threads, on `config.buffer_mb` or on time. Memory: see pack/pipeline/pipeline.py.

    Args:
        config: the options of packing.
        autoencoders: items refer to them by number; empty if every item brings its reconstruction.
        provenances: for each autoencoder its id, revision, weights, arithmetic and seed, for the records;
            exactly one if there are no autoencoders.
    """

    def __init__(
        self,
        config: PackConfig,
        autoencoders: Sequence[Autoencoder],
        provenances: Sequence[dict[str, Any]],
    ) -> None:
        assert len(provenances) == max(1, len(autoencoders)), (len(provenances), len(autoencoders))
        self.config = config
        self._decoder, self._encoder = Decoder(config), Encoder(config, provenances)
        self._stage: Stage = _Made(autoencoders, config.batch_size) if autoencoders else _Given()
        self._running: Pipeline | None = None

    def shards(
        self, shards: Iterable[tuple[int, Sequence[Item]]]
    ) -> Iterator[tuple[int, Iterator[Pair | Rejection]]]:
        """Yields each shard's number and its results, one for each item and in their order.

        Works ahead, also past the end of a shard; another thread iterates over `shards`. The caller must
        take all results of a shard before it asks for the next shard.

        Raises:
            UserError: storage or an autoencoder failed; raised at once, even if finished results wait.
        """
        self.close()  # the caller may have left an earlier pass before its end
        readers, encoders = threads_of(self.config.source)
        pipeline = Pipeline(
            self._decoder,
            self._stage,
            self._encoder,
            shards,
            buffer_bytes=self.config.buffer_mb << 20,
            readers=readers,
            encoders=encoders,
        )
        self._running = pipeline
        try:
            pipeline.start()
            yield from pipeline.results()
        finally:
            pipeline.close()

    def fail(self, error: BaseException) -> None:
        """Ends the running pass because another thread of the caller failed: `shards` raises `error`."""
        if (running := self._running) is not None:
            running.fail(error)

    def close(self) -> None:
        """Ends the threads, even in the middle of a shard; waits for at most one batch or one read."""
        if self._running is not None:
            self._running.close()
            self._running = None

    def __enter__(self) -> "PairMaker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def threads_of(source: str) -> tuple[int, int]:
    """How many threads decode and how many encode: one per core, more readers for a source on a network."""
    cores = min(_MOST_THREADS, available_cpus())
    return max(cores, _READERS) if "://" in source else cores, cores


class _Given:
    """The stage for items that bring their reconstructions: it passes them on."""

    def batches(self, units: Iterator[Unit]) -> Iterator[list[Unit]]:
        return ([unit] for unit in units)

    def run(self, _batch: list[Unit]) -> list[Pixels] | None:
        return None


class _Made:
    """The stage in which autoencoders make the reconstructions."""

    def __init__(self, autoencoders: Sequence[Autoencoder], batch_size: int) -> None:
        self._autoencoders = autoencoders
        self._batch_size = batch_size

    def batches(self, units: Iterator[Unit]) -> Iterator[list[Unit]]:
        if all(isinstance(one, Identity) for one in self._autoencoders):
            # The identity is not faster on a batch, so an image need not wait for others of its size.
            return ([unit] for unit in units)
        return batched(units, self._bucket, self._batch_size)

    def _bucket(self, unit: Unit) -> Bucket:
        return bucket(*unit.image.picture.size, self._autoencoders[unit.which].multiple, unit.which)

    def run(self, batch: list[Unit]) -> list[Pixels] | None:
        # `_bucket` holds the autoencoder's number, so all units of a batch share one autoencoder.
        autoencoder = self._autoencoders[batch[0].which]
        images = [unit.image.picture.pixels for unit in batch]
        return reconstruct_batch(autoencoder, images, [unit.image.key for unit in batch])
