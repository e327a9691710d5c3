"""What one rank asks of the storage, by the order and the reading of a training run."""

from dataclasses import dataclass, replace
from itertools import islice

from pack.shard.manifest import Manifest
from train.order.epoch import EpochOrder
from train.simulate.paper import AtOnce, PaperDataset, Traffic
from train.stream.samples import StoredSource, read_samples


@dataclass(frozen=True, kw_only=True)
class Rank:
    """A rank of a run, and how it reads."""

    rank: int
    world_size: int
    batch: int
    """Pairs of a step of this rank."""
    read_ahead_bytes: int
    index_bytes: float
    """Bytes of a shard's index for each of its pairs."""
    hint_bytes: float
    """Bytes of the hints of each pair."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a rank asked for from some position on."""

    first: Traffic
    """Before it had its first batch."""
    lasting: Traffic
    """For `pairs` pairs, after it had begun."""
    pairs: int
    held_bytes: float
    """Most bytes of pairs that it had read and not yet used."""
    index_memory: int
    """Bytes of index rows in memory at the end."""


def read_rank(manifest: Manifest, order: EpochOrder, who: Rank, *, position: int = 0, pairs: int) -> Reading:
    """Reads for a rank.

    Args:
        manifest: of the dataset.
        order: of the epoch.
        who: the rank.
        position: of the epoch, a multiple of the world size.
        pairs: how many are read; of an epoch that has no more than that, all.
    """
    dataset = PaperDataset(manifest, who.index_bytes, who.hint_bytes)
    samples = read_samples(
        [StoredSource(dataset=dataset)],
        order,
        rank=who.rank,
        world_size=who.world_size,
        position=position,
        urgent=who.batch,
        pool=AtOnce(),
        read_ahead_bytes=who.read_ahead_bytes,
    )
    mean = manifest.bytes / manifest.pairs
    own = len(range(position + who.rank, order.pairs, who.world_size))
    # An epoch that is read to its end is counted whole; of a longer one not its beginning, which reads ahead.
    begun = 0 if own <= pairs else pairs // 2
    traffic, before, first, held = dataset.traffic, Traffic(), Traffic(), 0.0
    for number, _ in enumerate(islice(samples, pairs), 1):
        of_pairs = traffic.bytes - traffic.index_bytes
        held = max(held, of_pairs - (number - 1) * (mean + who.hint_bytes))
        if number == min(who.batch, own):
            first = replace(traffic)
        if number == begun:
            before = replace(traffic)
    done = min(own, pairs)
    return Reading(
        first=first,
        lasting=traffic - before,
        pairs=done - begun,
        held_bytes=held,
        index_memory=sum(index.memory for index in dataset._indexes.values()),
    )


def read_again(order: EpochOrder, position: int) -> int:
    """Pairs that all ranks together read again where they resume: of their shuffle windows, the used ones."""
    windows = islice(order.rank_windows(0, 1, position), order.lanes)  # one rank alone has all lanes
    return sum(sum(run.count for run in window.runs) - len(window.shuffle) for window in windows)
