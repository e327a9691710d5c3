"""The packing of a source: split by split, shard by shard, the manifest last."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import chain
from typing import Any

import pyarrow as pa

from pack.config import PackConfig
from pack.manifest import NAME, Manifest, ShardEntry, read_manifest
from pack.pairs import Pair, PairMaker, Rejection
from pack.plan import make_plan, shard_name
from pack.shard import ShardWriter, index_bytes, index_facts, tar_sha256
from pack.sources import Item, find_items
from pack.storage import open_store
from recon.errors import UserError
from recon.progress import Progress, counted

PLAN = "plan.json"
"""Stands in an unfinished dataset: the hash of what is being written there."""

REJECTED = "rejected.jsonl"
"""Lists the images that did not become pairs; absent where all did."""

_LOG = logging.getLogger(__name__)

Facts = dict[str, Any]  # of a finished shard: name, pairs, bytes, sha256, rejected


def pack(config: PackConfig) -> None:
    """Packs every split of the source.

    Raises:
        UserError: the source can't be packed as it is, or the output holds something else.
    """
    splits = find_items(config)
    config, maker = _build_maker(config)
    for split, items in splits.items():
        _Packing(config, maker, split, items).run()


def _build_maker(config: PackConfig) -> tuple[PackConfig, PairMaker]:
    """The pair maker, and the config with the threads it really uses."""
    if config.has_reconstructions:
        return config, PairMaker(config, None, {"autoencoder": "given"})
    from recon.autoencoder import load
    from recon.reconstruct import reconstruct

    autoencoder = load(config)
    provenance = asdict(autoencoder.provenance)
    config = replace(config, threads=autoencoder.provenance.threads)
    make = partial(reconstruct, autoencoder, batch_size=config.batch_size)
    return config, PairMaker(config, make, provenance)


class _Packing:
    """One split on its way into one dataset."""

    def __init__(
        self, config: PackConfig, maker: PairMaker, split: str | None, items: Sequence[Item]
    ) -> None:
        self.maker = maker
        self.split = split
        self.plan = make_plan(items, config, maker.provenance)
        self.plan_sha256 = self.plan.sha256
        self.store = open_store(f"{config.out.rstrip('/')}/{split}" if split else config.out)

    def run(self) -> None:
        """Writes what is missing."""
        if self._is_finished():
            if self.store.exists(PLAN):  # killed between the manifest and this
                self.store.remove(PLAN)
            _LOG.info("%s is complete already, nothing to do", self.store.url)
            return
        self._claim()
        total = sum(map(len, self.plan.shards))
        with Progress(total=total, unit="pairs", what=f"pack {self.split or ''}".strip()) as progress:
            facts = [self._shard(number, progress) for number in range(len(self.plan.shards))]
        self._finish(facts)

    def _is_finished(self) -> bool:
        if not self.store.exists(NAME):
            return False
        if read_manifest(self.store).provenance.get("plan") != self.plan_sha256:
            raise UserError(
                f"{self.store.url} holds another dataset (of other images, options or versions); "
                "choose another --out or delete it"
            )
        return True

    def _claim(self) -> None:
        """Leaves the plan's hash in the output, or checks that the one there is ours."""
        if self.store.exists(PLAN):
            if self.store.read(PLAN) != self.plan_sha256.encode():
                raise UserError(
                    f"{self.store.url} holds an unfinished dataset of other images, options or versions; "
                    "choose another --out or delete it"
                )
        elif any(name.startswith("shard-") for name in self.store.names()):
            raise UserError(
                f"{self.store.url} holds shards of another run; choose another --out or delete it"
            )
        else:
            self._put(PLAN, self.plan_sha256)

    def _shard(self, number: int, progress: Progress) -> Facts:
        """Facts of a shard: those that its index kept if it is finished, else of writing it now."""
        name = shard_name(number)
        if (facts := self._finished(name)) is not None:
            progress.update(len(self.plan.shards[number]))
            return facts
        rejected: list[Rejection] = []
        pairs = self._pairs(number, rejected, progress)
        first = next(pairs, None)
        if first is None:
            return {"pairs": 0, "rejected": [asdict(one) for one in rejected]}
        return self._write(name, chain([first], pairs), rejected)

    def _finished(self, name: str) -> Facts | None:
        """Facts of a shard that an earlier run published; None unless its tar has the very bytes."""
        if not (self.store.exists(f"{name}.parquet") and self.store.exists(f"{name}.tar")):
            return None
        try:
            facts = index_facts(self.store.read(f"{name}.parquet"))
        except pa.ArrowInvalid:
            return None
        if facts.get("sha256") == tar_sha256(self.store, name):
            return facts
        _LOG.warning("%s/%s.tar was changed since it was written; it is packed again", self.store.url, name)
        return None

    def _pairs(self, number: int, rejected: list[Rejection], progress: Progress) -> Iterator[Pair]:
        for one in self.maker.make(self.plan.shards[number]):
            progress.update(1)
            if isinstance(one, Rejection):
                rejected.append(one)
            else:
                yield one

    def _write(self, name: str, pairs: Iterator[Pair], rejected: list[Rejection]) -> Facts:
        """Publishes the tar, then its index, which marks the shard as finished."""
        with self.store.publish(f"{name}.tar") as file:
            writer = ShardWriter(file, self.plan.dataset)
            for pair in pairs:
                writer.add(pair)
            size, sha256 = writer.close()
        facts = {"name": name, "pairs": len(writer.rows), "bytes": size, "sha256": sha256}
        facts["rejected"] = [asdict(one) for one in rejected]
        with self.store.publish(f"{name}.parquet") as file:
            file.write(index_bytes(writer.rows, facts))
        return facts

    def _finish(self, shards: list[Facts]) -> None:
        """Publishes the list of rejected images and, last of all, the manifest."""
        rejected = [one for shard in shards for one in shard["rejected"]]
        entries = tuple(self._entry(shard) for shard in shards if shard["pairs"])
        if not entries:
            self.store.remove(PLAN)
            raise UserError(f"none of {len(rejected)} images became a pair: {_causes(rejected)}")
        manifest = Manifest(
            name=self.plan.dataset,
            split=self.split,
            shards=entries,
            rejected=len(rejected),
            provenance=self.plan.provenance | {"plan": self.plan_sha256},
        )
        if rejected:
            self._put(REJECTED, "".join(json.dumps(one, sort_keys=True) + "\n" for one in rejected))
        self._put(NAME, manifest.to_json())
        self.store.remove(PLAN)
        self._report(manifest, rejected)

    def _entry(self, shard: Facts) -> ShardEntry:
        index = self.store.read(f"{shard['name']}.parquet")
        fields = {name: shard[name] for name in ("name", "pairs", "bytes", "sha256")}
        return ShardEntry(**fields, index_sha256=hashlib.sha256(index).hexdigest())

    def _put(self, name: str, text: str) -> None:
        with self.store.publish(name) as file:
            file.write(text.encode())

    def _report(self, manifest: Manifest, rejected: list[Facts]) -> None:
        size = f"{counted(len(manifest.shards), 'shard')}, {manifest.bytes / 1e6:.1f} MB"
        _LOG.info("%s in %s -> %s", counted(manifest.pairs, "pair"), size, self.store.url)
        if rejected:
            what, where = counted(len(rejected), "image"), f"{self.store.url}/{REJECTED}"
            _LOG.warning("%s rejected, listed in %s: %s", what, where, _causes(rejected))


def _causes(rejected: list[Facts], shown: int = 3) -> str:
    """The most frequent causes, e.g. ``12x zero bytes; 3x CMYK image, ...``."""
    counts = Counter(one["cause"] for one in rejected).most_common()
    more = f"; and {len(counts) - shown} other causes" if len(counts) > shown else ""
    return "; ".join(f"{count}x {cause}" for cause, count in counts[:shown]) + more
