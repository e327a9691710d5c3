"""From items to pairs: decoded, cut, reconstructed and compressed, several at once and in order."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pack.base.config import PackConfig
from pack.base.items import Item
from pack.pipeline.item_to_pair import Rejection, Steps
from pack.pipeline.pipeline import Pipeline, Stage, Unit
from pack.shard.pair import Pair
from recon.base.cpus import available_cpus
from recon.batches import Bucket, batched, bucket
from recon.image.codec import Pixels
from recon.models.types import Autoencoder, Identity
from recon.reconstruct import reconstruct_batch

__all__ = ["Pair", "PairMaker", "Rejection"]

_MOST_THREADS = 16  # of a stage; more contend for the interpreter
_READERS = 16  # at least, where every read waits for a network


class PairMaker:
    """Makes the pairs of shards; a context manager, at the end of which no thread is left.

    The results are functions of the items, the options and the autoencoders: neither of threads
    nor of `config.buffer_mb` nor of time. See pack/pipeline/pipeline.py for what it holds in memory.

    Args:
        config: the options of packing.
        autoencoders: those that items name by number; none where every item brings its reconstruction.
        provenances: for each autoencoder its id, revision, weights and arithmetic, for the records;
            one where there are no autoencoders.
    """

    def __init__(
        self,
        config: PackConfig,
        autoencoders: Sequence[Autoencoder],
        provenances: Sequence[dict[str, Any]],
    ) -> None:
        assert len(provenances) == max(1, len(autoencoders)), (len(provenances), len(autoencoders))
        self.config = config
        self._steps = Steps(config, provenances)
        self._stage: Stage = _Made(autoencoders, config.batch_size) if autoencoders else _Given()
        self._running: Pipeline | None = None

    def shards(
        self, shards: Iterable[tuple[int, Sequence[Item]]]
    ) -> Iterator[tuple[int, Iterator[Pair | Rejection]]]:
        """Yields each shard's number and its results, one for each item and in their order.

        Works ahead, across the ends of shards; `shards` is drawn from in another thread. A shard's
        results have to be taken before the next shard is.

        Raises:
            UserError: storage or an autoencoder failed; at once, whatever is ready.
        """
        self.close()
        readers, encoders = threads_of(self.config.source)
        pipeline = Pipeline(
            self._steps,
            self._stage,
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
        """Ends the pass under way, for a reason of its consumer's other threads: `shards` raises `error`."""
        if (running := self._running) is not None:
            running.fail(error)

    def close(self) -> None:
        """Ends the threads, also in the midst of a shard; waits for one batch or read at most."""
        if self._running is not None:
            self._running.close()
            self._running = None

    def __enter__(self) -> "PairMaker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def threads_of(source: str) -> tuple[int, int]:
    """How many threads read and decode, and how many encode: one a core, more where reading waits."""
    cores = min(_MOST_THREADS, available_cpus())
    return max(cores, _READERS) if "://" in source else cores, cores


class _Given:
    """Where every item brings its reconstruction."""

    def batches(self, units: Iterator[Unit]) -> Iterator[list[Unit]]:
        return ([unit] for unit in units)

    def run(self, batch: list[Unit]) -> list[Pixels | None]:
        return [None for _ in batch]


class _Made:
    """Where autoencoders make them."""

    def __init__(self, autoencoders: Sequence[Autoencoder], batch_size: int) -> None:
        self._autoencoders = autoencoders
        self._batch_size = batch_size

    def batches(self, units: Iterator[Unit]) -> Iterator[list[Unit]]:
        if all(isinstance(one, Identity) for one in self._autoencoders):  # nothing to gain by waiting
            return ([unit] for unit in units)
        return batched(units, self._bucket, self._batch_size)

    def _bucket(self, unit: Unit) -> Bucket:
        which = unit.image.item.autoencoder
        return bucket(*unit.image.picture.size, self._autoencoders[which].multiple, which)

    def run(self, batch: list[Unit]) -> list[Pixels | None]:
        autoencoder = self._autoencoders[batch[0].image.item.autoencoder]
        images = [unit.image.picture.pixels for unit in batch]
        return [*reconstruct_batch(autoencoder, images, [unit.image.key for unit in batch])]
