"""What packing would do: images, bytes, shards, and the time by a sample that is really reconstructed.

Nothing is written.
"""

import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from pack.base.config import PackConfig
from pack.base.items import File, Item
from pack.pipeline.decoding import Rejection
from pack.pipeline.maker import PairMaker
from pack.plan.plan import Plan, make_plan
from pack.publish.claim import Claim, held
from pack.publish.finish import causes, is_published
from pack.publish.prepare import build_maker, output_of, refuse_other_splits, with_claimed_threads
from pack.sources import find_items
from pack.storage import open_store
from recon.base.progress import clock, counted

_RUNS = 8  # of neighbours, at equal distances over the source: neighbours batch as they do in a shard
_BATCHES = 2  # in a run
_LONGEST_S = 30.0  # for the runs after the first, about
_FRAME = 512  # bytes: a tar's header of a member, and what its payload is padded to
_RECORD = 1024  # bytes of a pair's JSON, padded

_UNITS = ("B", "KB", "MB", "GB", "TB")


@dataclass(kw_only=True)
class _Trial:
    """What became of some items, and how long it took."""

    tried: int = 0
    bytes: int = 0
    """Of the pairs in a tar."""
    rejected: list[dict[str, str]] = field(default_factory=list)
    seconds: float = 0.0


def dry_run(config: PackConfig) -> None:
    """Prints what packing by these options would do.

    Raises:
        UserError: as packing itself would; the output holds something else, for one.
    """
    splits = find_items(config)
    refuse_other_splits(config, list(splits))
    config, maker, provenances = build_maker(with_claimed_threads(config, list(splits)))
    plans = {split: make_plan(items, config, provenances) for split, items in splits.items()}
    for split, plan in plans.items():
        _tell(_about(config, split, plan))
    items = [item for plan in plans.values() for shard in plan.shards for item in shard]
    with maker:
        samples = _samples(maker, items, config.batch_size * _BATCHES)
    _tell(_expected(samples, len(items), config.world_size or 1))


def _tell(lines: Sequence[tuple[str, str]]) -> None:
    sys.stdout.write("".join(f"{name:14}{text}\n" for name, text in lines) + "\n")


def _about(config: PackConfig, split: str | None, plan: Plan) -> list[tuple[str, str]]:
    """What is known of a split before any pixel is decoded."""
    items = [item for shard in plan.shards for item in shard]
    sizes = {item.path: (_size(item.real), _size(item.fake)) for item in items}
    known = [sum(size) for size in sizes.values() if None not in size]  # type: ignore[arg-type]
    total = sum(known) * len(sizes) / max(len(known), 1)
    about = "" if len(known) == len(sizes) else f", by the {len(known)} whose size is known"
    lines = [
        ("images", f"{len(sizes)} of {split or config.source}, {_bytes(total)}{about}"),
        ("pairs", f"{len(items)}, if none is rejected"),
        ("autoencoder", _autoencoders(plan, items)),
        ("shards", f"{len(plan.shards)} of {len(plan.shards[0])} pairs, the last of {len(plan.shards[-1])}"),
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
    counts = Counter(item.autoencoder for item in items)
    return ", ".join(f"{one['autoencoder']} ({counts[number]} pairs)" for number, one in enumerate(made_by))


def _state(url: str, claim: Claim) -> str:
    """What the output holds of these shards."""
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
    """Makes the pairs of a first run of items, in which all warms up, then of as many as time allows."""
    first = _made(maker, [items[:count]])
    rest, runs = items[count:], min(_RUNS, int(_LONGEST_S / first.seconds))
    if not rest or not runs:
        return [first]
    step = max(count, len(rest) // runs)
    starts = range(0, len(rest), step)[:runs]
    return [first, _made(maker, [rest[start : start + count] for start in starts])]


def _made(maker: PairMaker, runs: Sequence[Sequence[Item]]) -> _Trial:
    """Makes the pairs of runs of items, and throws them away."""
    sample, begun = _Trial(), time.monotonic()
    for _, results in maker.shards(enumerate(runs)):
        for one in results:
            sample.tried += 1
            if isinstance(one, Rejection):
                sample.rejected.append({"cause": one.cause})
            else:
                sample.bytes += _framed(one.real) + _framed(one.fake) + _FRAME + _RECORD
    sample.seconds = max(time.monotonic() - begun, 1e-3)
    return sample


def _framed(data: bytes) -> int:
    return _FRAME - (-len(data) // _FRAME) * _FRAME


def _expected(samples: Sequence[_Trial], items: int, world: int) -> list[tuple[str, str]]:
    """What the samples let expect of all items; the last of them tells the rate."""
    tried = sum(sample.tried for sample in samples)
    rejected = [one for sample in samples for one in sample.rejected]
    size = sum(sample.bytes for sample in samples) / tried * items
    rate = samples[-1].tried / samples[-1].seconds
    lines = [
        ("sample", f"{counted(tried, 'pair')} made and thrown away"),
        ("rejected", f"{len(rejected)} of the sample" + (f": {causes(rejected)}" if rejected else "")),
        ("bytes", f"{_bytes(size)} are expected in the shards"),
        ("time", f"{clock(items / rate)} by one process like this one ({rate:.3g} pairs/s)"),
    ]
    if world > 1:
        alone = f"{clock(items / rate / world)} by {world}, if each has a machine or GPU of its own"
        lines.append(("", alone))
    return lines


def _size(file: File | None) -> int | None:
    return 0 if file is None else file.size


def _bytes(count: float) -> str:
    """In the unit that leaves one to three digits before the point."""
    for unit in _UNITS:
        if count < 1000 or unit == _UNITS[-1]:
            break
        count /= 1000
    return f"{count:.3g} {unit}"
