"""Packs one rank's part of a source: split by split, shard by shard.

Rank n % world packs shard n. The ranks share nothing but the output. Each rank writes the claim there or
finds the same claim, skips its finished shards, writes the others, and then completes the dataset if all
shards are there (pack/publish/finish.py).
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from itertools import chain
from typing import Any

from pack.base.config import PackConfig
from pack.pipeline.decoding import Rejection
from pack.pipeline.maker import PairMaker
from pack.plan.fields import field_names
from pack.plan.plan import Plan, make_plan, shard_name
from pack.plan.ranks import Rank
from pack.publish.claim import (
    EMPTY,
    Claim,
    OtherDatasetError,
    claim,
    is_begun,
    read_if_there,
    size_if_there,
)
from pack.publish.finish import (
    TRACES,
    Facts,
    NoPairsError,
    finish,
    in_parallel,
    put_card_above,
    read_facts,
    read_marker,
    write_marker,
)
from pack.publish.prepare import build_maker, output_of, refuse_other_splits, with_claimed_threads
from pack.publish.publisher import Publisher
from pack.shard.index import index_bytes
from pack.shard.pair import Pair
from pack.shard.schema import columns_of
from pack.shard.writer import ShardWriter
from pack.sources import Splits, find_items
from pack.storage import open_store
from recon.base.cpus import available_cpus
from recon.base.errors import UserError
from recon.base.progress import Progress, counted

Draw = Callable[[str | None, int], Iterator[int]]
"""Gives numbers of shards to write, out of all shards of a split: ``draw(split, shards)``."""

_LOG = logging.getLogger(__name__)


def pack(config: PackConfig, draw: Draw | None = None) -> bool:
    """Packs this process's shards of every split of the source.

    Args:
        config: the options; without rank and world_size, this process packs everything.
        draw: gives this process its shards one by one, instead of the rank. Finished ones are skipped.

    Returns:
        Whether all shards are there, so that the dataset is complete.

    Raises:
        UserError: the source can't be packed, or the output holds another dataset.
    """
    if config.rank is None and config.world_size is not None:
        raise UserError(f"world_size={config.world_size} without rank, expected both or neither")
    splits = find_items(config)
    refuse_other_splits(config, list(splits))
    while True:
        run = with_claimed_threads(config, list(splits))
        if run.threads not in (config.threads, available_cpus()):
            _LOG.info("%s was begun with --threads %d, which this process takes over", run.out, run.threads)
        try:
            return _pack_splits(run, splits, draw)
        except OtherDatasetError:
            # Perhaps only the threads differ, because another rank with other CPUs claimed the output since
            # we looked. Then try again with its number; if the number is unchanged, the error is real.
            if with_claimed_threads(config, list(splits)).threads == run.threads:
                raise


def _pack_splits(config: PackConfig, splits: Splits, draw: Draw | None) -> bool:
    """Packs all splits; a split without any pair does not stop the splits after it."""
    config, maker, provenances = build_maker(config)
    fields = field_names(chain.from_iterable(splits.values()), config)
    if fields:
        _LOG.info(
            "every sample holds %s, whatever their codecs (--fields auto)", " and ".join(fields.values())
        )
    failed: list[str] = []
    unfinished: list[_Packing] = []
    with maker:
        for split, items in splits.items():
            try:
                packing = _Packing(config, maker, make_plan(items, config, provenances, fields), split)
                if not packing.run(draw):
                    unfinished.append(packing)
            except NoPairsError as error:
                failed.append(str(error))
    if named := list(filter(None, splits)):
        put_card_above(config.out, named)
    if failed:
        raise NoPairsError("; ".join(failed))
    # Others may have written the last shards of a split while this process was at the next one.
    return not any(finish(one.store, one.claim) for one in unfinished)


class _Packing:
    """Packs one split into one dataset."""

    def __init__(self, config: PackConfig, maker: PairMaker, plan: Plan, split: str | None) -> None:
        self.maker = maker
        self.split = split
        self.rank = Rank(config.rank or 0, config.world_size or 1)
        self.plan = plan
        self.claim = Claim.of(self.plan, split)
        self.store = open_store(output_of(config, split))

    def run(self, draw: Draw | None) -> bool:
        """Writes this rank's missing shards, then completes the dataset if all ranks' shards are there."""
        if claim(self.store, self.claim):
            # Checks that no file was lost since, and removes what a killed process left.
            finish(self.store, self.claim)
            _LOG.info("%s is complete already, nothing to do", self.store.url)
            return True
        if draw is None:
            self._write_shards()
        else:
            self._write_drawn(draw(self.split, self.claim.shards))
        if missing := finish(self.store, self.claim):
            self._check_claimed()
            url, total = self.store.url, self.claim.shards
            _LOG.info(
                "%s: %d of %d shards are there; the last rank, or python -m pack.finish URL, "
                "completes the dataset",
                *(url, total - len(missing), total),
            )
        return not missing

    def _check_claimed(self) -> None:
        """Raises an error if another rank found all shards empty and so removed the claim."""
        if not is_begun(self.store):
            raise NoPairsError(
                f"{self.store.url}: none of {counted(self.plan.pairs, 'image')} became a pair, as another "
                "rank found, which has printed the causes"
            )

    def _write_shards(self) -> None:
        mine = list(range(self.rank.rank, self.claim.shards, self.rank.world))
        finished = self._finished(mine)
        todo = [number for number in mine if number not in finished]
        if self.rank.world > 1:
            about = (self.rank.rank, self.rank.world, len(mine), self.claim.shards, len(finished))
            _LOG.info("rank %d of %d: %d of %d shards, %d of them are finished already", *about)
        shards = self.plan.shards
        total = sum(len(shards[number]) for number in mine)
        who = f"rank {self.rank.rank}" if self.rank.world > 1 else ""
        what = " ".join(filter(None, ("pack", self.split, who)))
        with (
            Progress(total=total, unit="items", what=what) as progress,
            Publisher(self.maker.fail) as publisher,
        ):
            progress.skip(sum(len(shards[number]) for number in finished))
            tally = _Tally(progress, sum(finished.values()))
            for number, results in self.maker.shards((number, shards[number]) for number in todo):
                self._write(shard_name(number), results, tally, publisher)

    def _write_drawn(self, drawn: Iterator[int]) -> None:
        """Writes the shards that are drawn; how many there will be is not known before."""
        todo = (number for number in drawn if not self._finished([number]))
        with (
            Progress(total=None, unit="items", what=" ".join(filter(None, ("pack", self.split)))) as progress,
            Publisher(self.maker.fail) as publisher,
        ):
            tally = _Tally(progress, 0)
            for number, results in self.maker.shards((number, self.plan.shards[number]) for number in todo):
                self._write(shard_name(number), results, tally, publisher)

    def _finished(self, mine: Sequence[int]) -> dict[int, int]:
        """The shards that an earlier run published or found to be empty: number to count of rejections."""
        # Decided by the index, which is published after the tar: a tar alone comes from a stopped run.
        there = set(self.store.names())
        begun = [name for name in map(shard_name, mine) if {f"{name}.parquet", f"{name}{EMPTY}"} & there]
        found = dict(zip(begun, in_parallel(self._finished_facts, begun), strict=True))
        numbers = {shard_name(number): number for number in mine}
        return {numbers[name]: len(facts["rejected"]) for name, facts in found.items() if facts}

    def _finished_facts(self, name: str) -> Facts | None:
        """The shard's facts if it is of this plan and its tar has the recorded size; the tar isn't read."""
        index = read_if_there(self.store, f"{name}.parquet")
        if index is None:
            marker = read_if_there(self.store, f"{name}{EMPTY}")  # an empty shard has this and no index
            facts = read_marker(marker) if marker else None
            return facts if facts and facts.get("plan") == self.claim.plan else None
        facts = read_facts(index)
        if facts is None or facts.get("plan") != self.claim.plan:
            return None
        size = size_if_there(self.store, f"{name}.tar")
        if size == facts["bytes"]:
            return facts
        if size is not None:  # a missing tar needs no warning
            told = (self.store.url, name, size, facts["bytes"])
            _LOG.warning("%s/%s.tar has %d bytes, but %d were written; packing it again", *told)
        return None

    def _write(
        self, name: str, results: Iterator[Pair | Rejection], tally: "_Tally", publisher: Publisher
    ) -> None:
        """Publishes a shard, or a marker if none of its items became a pair."""
        rejected: list[dict[str, Any]] = []
        pairs = _pairs(results, rejected, tally)
        first = next(pairs, None)  # before a tar is opened: an empty shard has none
        if first is None:
            publisher.wait()
            publisher.begin(partial(write_marker, self.store, name, self.claim.plan, rejected))
        else:
            self._write_pairs(name, chain([first], pairs), rejected, publisher)

    def _write_pairs(
        self, name: str, pairs: Iterator[Pair], rejected: list[dict[str, Any]], publisher: Publisher
    ) -> None:
        """Writes the tar; tar and index are then published in the background, during the next shard."""
        with ExitStack() as tar:
            file = tar.enter_context(self.store.publish(f"{name}.tar"))
            writer = ShardWriter(file, self.plan.dataset, self.plan.fields)
            traces: Counter[str] = Counter()
            for pair in pairs:
                writer.add(pair)
                traces.update([pair.traces] if pair.traces else [])
            size, sha256 = writer.close()
            facts = {"name": name, "pairs": len(writer.rows), "bytes": size, "sha256": sha256}
            facts |= {"plan": self.claim.plan, "rejected": rejected}  # complete only after the last pair
            facts |= {TRACES: dict(traces)} if traces else {}
            publisher.wait()
            # `pop_all` hands the open tar to the publisher. If anything fails before, the end of this
            # `with` block throws the tar away.
            publisher.begin(partial(self._publish, name, tar.pop_all(), writer.rows, facts))

    def _publish(self, name: str, tar: ExitStack, rows: list[dict[str, Any]], facts: dict[str, Any]) -> None:
        """Publishes the tar, then its index; the index marks the shard as finished."""
        tar.close()  # closing a written tar publishes it
        with self.store.publish(f"{name}.parquet") as file:
            file.write(index_bytes(rows, facts, columns_of(rows)))


class _Tally:
    """Shows the items done, and how many of them became no pair."""

    def __init__(self, progress: Progress, rejected: int) -> None:
        self._progress, self._rejected = progress, 0
        self._note(rejected)

    def count(self, one: Pair | Rejection) -> None:
        """Counts one more item."""
        self._note(int(isinstance(one, Rejection)))
        self._progress.update(1)

    def _note(self, rejected: int) -> None:
        self._rejected += rejected
        if rejected:
            self._progress.note(f"{self._rejected} rejected")


def _pairs(
    results: Iterator[Pair | Rejection], rejected: list[dict[str, Any]], tally: _Tally
) -> Iterator[Pair]:
    """Yields the pairs among the results; appends the rejections to `rejected`."""
    for one in results:
        tally.count(one)
        if isinstance(one, Rejection):
            rejected.append(asdict(one))
        else:
            yield one
