"""Prints what packing would do: images, bytes, shards, and an estimate of the time; writes nothing.

The estimate comes from a sample of items that are really decoded, reconstructed and compressed.
"""

import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

from pack.base.config import PackConfig
from pack.base.items import File, Item
from pack.pipeline.decoding import Rejection
from pack.pipeline.maker import PairMaker
from pack.plan.fields import field_names
from pack.plan.plan import Plan, make_plan
from pack.publish.claim import Claim, held
from pack.publish.finish import is_published
from pack.publish.prepare import build_maker, output_of, refuse_other_splits, with_claimed_threads
from pack.shard.hints import packed_hints
from pack.shard.tar_header import HEADER, padded
from pack.sources import find_items
from pack.storage import open_store
from recon.base.progress import clock, counted
from recon.base.rejections import causes, won_by_converting

# The sample is a few runs of neighbours, spread evenly over the source. Neighbours rather than single items,
# because they share batches as they do in a shard.
_RUNS = 8
_BATCHES = 2  # per run
_LONGEST_S = 30.0  # approximate limit for all runs after the first
_RECORD = 1024  # bytes of a pair's JSON with its padding

_UNITS = ("B", "KB", "MB", "GB", "TB")


@dataclass(kw_only=True)
class _Trial:
    """The results of some sample items, and the time they took."""

    tried: int = 0
    bytes: int = 0
    """Bytes that their pairs would take in a tar."""
    rejected: list[dict[str, str]] = field(default_factory=list)
    seconds: float = 0.0


def dry_run(config: PackConfig) -> None:
    """Prints what packing with these options would do.

    Raises:
        UserError: whatever would stop packing, for example an output that holds another dataset.
    """
    splits = find_items(config)
    refuse_other_splits(config, list(splits))
    config, maker, provenances = build_maker(with_claimed_threads(config, list(splits)))
    fields = field_names(chain.from_iterable(splits.values()), config)
    plans = {split: make_plan(items, config, provenances, fields) for split, items in splits.items()}
    for split, plan in plans.items():
        _tell(_about(config, split, plan))
    items = [item for plan in plans.values() for shard in plan.shards for item in shard]
    with maker:
        samples = _samples(maker, items, config.batch_size * _BATCHES)
    _tell(_expected(samples, len(items), config.world_size or 1))


def _tell(lines: Sequence[tuple[str, str]]) -> None:
    sys.stdout.write("".join(f"{name:14}{text}\n" for name, text in lines) + "\n")


def _about(config: PackConfig, split: str | None, plan: Plan) -> list[tuple[str, str]]:
    """What is known about a split before any image is decoded."""
    items = [item for shard in plan.shards for item in shard]
    # By path: tiles and several reconstructions of one photograph share its files.
    sizes = {item.path: (_size(item.real), _size(item.fake)) for item in items}
    known = [sum(size) for size in sizes.values() if None not in size]  # type: ignore[arg-type]
    total = sum(known) * len(sizes) / max(len(known), 1)  # unknown sizes count as the mean
    about = "" if len(known) == len(sizes) else f", estimated from the {len(known)} whose size is known"
    lines = [
        ("images", f"{len(sizes)} of {split or config.source}, {_bytes(total)}{about}"),
        ("pairs", f"{len(items)}, if none is rejected"),
        ("autoencoder", _autoencoders(plan, items)),
        ("shards", f"{len(plan.shards)} of {len(plan.shards[0])} pairs, the last of {len(plan.shards[-1])}"),
        ("fields", ", ".join((*plan.fields.values(), "json")) if plan.fields else "named by codec"),
        ("output", _state(output_of(config, split), Claim.of(plan, split))),
    ]
    if config.rank is not None and (config.world_size or 1) > 1:
        mine = len(plan.shards[config.rank :: config.world_size])
        lines.insert(
            4, ("this process", f"rank {config.rank} of {config.world_size}: {mine} of these shards")
        )
    return lines


def _autoencoders(plan: Plan, items: Sequence[Item]) -> str:
    made_by = plan.provenance["autoencoder"]
    if isinstance(made_by, dict):
        return str(made_by["autoencoder"])
    counts = Counter(which for item in items for which in item.makers)
    what = "fakes" if items[0].more else "pairs"
    return ", ".join(f"{one['autoencoder']} ({counts[number]} {what})" for number, one in enumerate(made_by))


def _state(url: str, claim: Claim) -> str:
    """The output, and how many of its shards are finished."""
    store = open_store(url)
    there = held(store, claim)
    if there == "complete":
        return f"{url}, which is complete: nothing would be done"
    if there is None:
        return f"{url}, which is new"
    names = set(store.names())
    finished = sum(is_published(name, names) for name in claim.names)
    return f"{url}, where {finished} of {claim.shards} shards are finished"


def _samples(maker: PairMaker, items: Sequence[Item], count: int) -> list[_Trial]:
    """Makes the pairs of a first run of items as a warm-up, then of as many runs as the time limit allows."""
    first = _made(maker, [items[:count]])
    rest, runs = items[count:], min(_RUNS, int(_LONGEST_S / first.seconds))
    if not rest or not runs:
        return [first]
    step = max(count, len(rest) // runs)
    starts = range(0, len(rest), step)[:runs]
    return [first, _made(maker, [rest[start : start + count] for start in starts])]


def _made(maker: PairMaker, runs: Sequence[Sequence[Item]]) -> _Trial:
    """Makes the pairs of runs of items and throws them away."""
    sample, begun = _Trial(), time.monotonic()
    for _, results in maker.shards(enumerate(runs)):
        for one in results:
            sample.tried += 1
            if isinstance(one, Rejection):
                sample.rejected.append({"path": one.path, "cause": one.cause})
            else:
                sample.bytes += sum(map(_framed, (*one.images, packed_hints(one.hints)))) + HEADER + _RECORD
    sample.seconds = max(time.monotonic() - begun, 1e-3)  # never 0: callers divide by it
    return sample


def _framed(data: bytes) -> int:
    """Bytes of a tar member: its header, and its payload with padding."""
    return HEADER + padded(len(data))


def _expected(samples: Sequence[_Trial], items: int, world: int) -> list[tuple[str, str]]:
    """Estimates for all items; the speed is that of the last sample, because the first is a warm-up."""
    tried = sum(sample.tried for sample in samples)
    rejected = [one for sample in samples for one in sample.rejected]
    size = sum(sample.bytes for sample in samples) / tried * items
    rate = samples[-1].tried / samples[-1].seconds
    told = f": {causes(rejected)}{won_by_converting(rejected)}" if rejected else ""
    lines = [
        ("sample", f"{counted(tried, 'pair')} made and thrown away"),
        ("rejected", f"{len(rejected)} of the sample{told}"),
        ("bytes", f"{_bytes(size)} are expected in the shards"),
        ("time", f"{clock(items / rate)} with one process like this one ({rate:.3g} pairs/s)"),
    ]
    if world > 1:
        alone = f"{clock(items / rate / world)} with {world}, if each has a machine or GPU of its own"
        lines.append(("", alone))
    return lines


def _size(file: File | None) -> int | None:
    return 0 if file is None else file.size


def _bytes(count: float) -> str:
    """A size in the unit that leaves one to three digits before the decimal point."""
    for unit in _UNITS:
        if count < 1000 or unit == _UNITS[-1]:
            break
        count /= 1000
    return f"{count:.3g} {unit}"
