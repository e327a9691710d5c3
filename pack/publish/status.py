"""How far a packing run is, read from what its ranks have published; nothing is written.

    python -m pack.status s3://bucket/mine --world_size 16

It tells the shards that are done and missing, of each rank too, how fast they came and how long the rest will
take, and the line that submits the ranks again which have shards missing. Exit status 0 if the dataset is
complete, 1 if shards are missing. No output says how many ranks pack it, so give their number.
"""

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from pack.publish.finish_command import begun
from recon.base.cli import run
from recon.base.errors import UserError
from recon.base.options import at_least_one
from recon.base.progress import clock, counted

if TYPE_CHECKING:
    from pack.storage import Store

ARRAY = "launch/slurm/pack.sbatch"
_RECENT = 50  # shards by which the speed of a rank is told: it changes with machines and photographs
_FEW = 5  # shards of a rank, below which the start counts too: two may be published almost at once
_ROWS = 40  # ranks that are shown; those with shards missing come first
_SILENT = 5  # times the usual interval without a shard: then it looks stopped


@dataclass(frozen=True, kw_only=True)
class StatusConfig:
    """Which dataset, and how it is packed."""

    url: str = field(kw_only=False)
    """Directory or URL of a dataset, or the parent of its splits train/, val/ and test/."""
    world_size: int = 1
    """Ranks that pack it."""
    ranks_a_task: int = 1
    """Ranks of each task of a Slurm array, as by --ntasks."""

    def __post_init__(self) -> None:
        at_least_one(self, "world_size", "ranks_a_task")
        if self.world_size % self.ranks_a_task:
            raise UserError(
                f"world_size={self.world_size}, expected a multiple of ranks_a_task={self.ranks_a_task}"
            )


@dataclass(frozen=True, kw_only=True)
class RankStatus:
    """How far a rank is."""

    rank: int
    shards: int
    done: tuple[float, ...]
    """When each finished shard was published, seconds since 1970, rising; without those of unknown time."""
    missing: int
    begun: float | None = None
    """When the dataset was begun, seconds since 1970; None if that is not known."""

    @property
    def interval_s(self) -> float | None:
        """Mean time between the last shards, or since the start if they are few; None if it can't be told."""
        moments = _moments(self.done, self.begun, 1)
        return (moments[-1] - moments[0]) / (len(moments) - 1) if len(moments) > 1 else None

    @property
    def left_s(self) -> float | None:
        """Time until its last shard, if it goes on as it did; None if that is not known."""
        return None if self.interval_s is None else self.missing * self.interval_s


def _moments(times: Sequence[float], begun: float | None, ranks: int) -> Sequence[float]:
    """The times by which the speed is told, each but the first that of a shard; none if it can't be told."""
    if len(times) >= _FEW * ranks:
        return times[-_RECENT * ranks :]
    return () if begun is None else (begun, *times)


def main() -> None:
    """The command."""
    run(StatusConfig, _job, prog="python -m pack.status", about=__doc__ or "")


def _job(config: StatusConfig) -> int:
    missing: set[int] = set()
    options, out = "", config.url
    for store in begun(config.url.rstrip("/")):
        ranks = status_of(store, config.world_size)
        sys.stdout.write("\n".join(told(store, ranks, time.time())) + "\n")
        missing |= {one.rank for one in ranks if one.missing}
        options, out = options or recorded(store), _root(store, config.url)
    if missing:
        sys.stdout.write("to pack what is left, with source and autoencoder in place of ...:\n")
        sys.stdout.write(f"  {line(replace(config, url=out), missing, options)}\n")
    return 1 if missing else 0


def _root(store: "Store", url: str) -> str:
    """What was --out: the parent of the dataset, if this is one of several splits."""
    from pack.publish.claim import read_claim

    claim, url = read_claim(store), url.rstrip("/")
    if claim is None or not claim.split or store.url.rstrip("/") != url:
        return url
    above, _, last = f"./{url}".rpartition("/") if "/" not in url else url.rpartition("/")
    return (above or "/") if last == claim.split else f"{url}/.."


def recorded(store: "Store") -> str:
    """The options in the claim that are not the default, as they are typed; none for source and model.

    The number of threads is left out: every rank takes it over from the claim.
    """
    from pack.base.config import PackConfig
    from pack.publish.claim import read_claim

    claim = read_claim(store)
    defaults = {one.name: one.default for one in fields(PackConfig) if one.name != "threads"}
    options = claim.provenance.get("options", {}) if claim else {}
    changed = {name: value for name, value in options.items() if value != defaults.get(name, value)}
    return " ".join(f"--{name} {shlex.quote(str(value))}" for name, value in changed.items())


def status_of(store: "Store", world: int) -> list[RankStatus]:
    """How far each rank is; of a complete dataset an empty list.

    Raises:
        UserError: nothing was packed there, or by another version.
    """
    from pack.publish.claim import EMPTY, read_claim
    from pack.publish.finish import is_published
    from pack.shard.manifest import PLAN

    claim = read_claim(store)
    if claim is None:
        return []
    times, all_names = store.times(), claim.names
    ranks = []
    for rank in range(world):
        names = all_names[rank::world]
        done = [name for name in names if is_published(name, times.keys())]
        published = (times.get(f"{name}.parquet") or times.get(f"{name}{EMPTY}") for name in done)
        when = tuple(sorted(filter(None, published)))
        missing, begun = len(names) - len(done), times.get(PLAN)
        ranks.append(RankStatus(rank=rank, shards=len(names), done=when, missing=missing, begun=begun))
    return ranks


def told(store: "Store", ranks: Sequence[RankStatus], now: float) -> list[str]:
    """The lines that tell how far a dataset is.

    Args:
        store: of the dataset.
        ranks: of `status_of`.
        now: seconds since 1970.
    """
    if not ranks:
        return [f"{store.url} is complete"]
    total, missing = sum(one.shards for one in ranks), sum(one.missing for one in ranks)
    lines = [f"{store.url}: {total - missing} of {counted(total, 'shard')} done, {missing} missing"]
    if not missing:
        return [*lines, f"python -m pack.finish {store.url} writes the manifest, if no rank is about to"]
    if len(ranks) > 1:
        lines += [
            "",
            f"{'rank':>6}{'shards':>9}{'done':>9}{'missing':>9}{'last':>12}{'shards/h':>10}{'left':>10}",
        ]
        lines += [_row(one, now) for one in _shown(ranks)] + [""] * (len(ranks) <= _ROWS)
        if len(ranks) > _ROWS:
            lacking = sum(one.missing > 0 for one in ranks)
            lines += [f"   ... of {len(ranks):,} ranks, {lacking:,} of them with shards missing", ""]
    return [*lines, *_speed(ranks, now)]


def _shown(ranks: Sequence[RankStatus]) -> list[RankStatus]:
    """As many ranks as are read, in their order."""
    chosen = sorted(ranks, key=lambda one: (not one.missing, one.rank))[:_ROWS]
    return sorted(chosen, key=lambda one: one.rank)


def _row(one: RankStatus, now: float) -> str:
    last = f"{clock(max(0.0, now - one.done[-1]))} ago" if one.done else "-"
    per_h = f"{3600 / one.interval_s:.1f}" if one.interval_s else "-"
    left = "-" if one.left_s is None else clock(one.left_s)
    counts = f"{one.rank:>6}{one.shards:>9}{one.shards - one.missing:>9}{one.missing:>9}"
    return f"{counts}{last:>12}{per_h:>10}{left:>10}"


def _speed(ranks: Sequence[RankStatus], now: float) -> list[str]:
    """The speed of all ranks, and when the last will be ready."""
    working = [one for one in ranks if one.missing]
    times = sorted(when for one in ranks for when in one.done)
    begun = next((one.begun for one in ranks), None)
    moments = _moments(times, begun, len(ranks))
    gaps = [later - sooner for sooner, later in pairwise(moments)]
    if not gaps or not sum(gaps) > 0:
        return ["too few shards are done to tell the speed"]
    lines = []
    if now - times[-1] > _SILENT * max(gaps):
        lines = [f"nothing was published for {clock(now - times[-1])}: it looks stopped"]
    rate = len(gaps) / sum(gaps)
    if any(one.left_s is None for one in working):
        ahead = f"{clock(sum(one.missing for one in working) / rate)} left, if the missing are dealt evenly"
    else:
        ahead = f"{clock(max(one.left_s or 0.0 for one in working))} left, until the slowest rank is ready"
    by = f"{len(times)} since the start" if moments[0] == begun else f"last {len(moments)}"
    return [*lines, f"{3600 * rate:.1f} shards/h by the {by}; {ahead}"]


def line(config: StatusConfig, missing: set[int], options: str) -> str:
    """The line that submits these ranks again, and no others; with the options of the first run."""
    tasks = sorted({rank // config.ranks_a_task for rank in missing})
    whole = len(tasks) == config.world_size // config.ranks_a_task
    several = f" --ntasks={config.ranks_a_task}" if config.ranks_a_task > 1 else ""
    # An array with gaps does not tell how many ranks there were (`pack.plan.array`).
    world = "" if whole else f" --world_size {config.world_size}"
    known = " ".join(filter(None, (f"--out {shlex.quote(config.url)}", options)))
    return f"sbatch --array={_indices(tasks)}{several} {ARRAY}{world} {known} ..."


def _indices(tasks: Sequence[int]) -> str:
    """Numbers as Slurm takes them: 0-3,7."""
    runs: list[list[int]] = []
    for task in tasks:
        if runs and runs[-1][-1] == task - 1:
            runs[-1][1:] = [task]
        else:
            runs.append([task])
    return ",".join("-".join(map(str, one)) for one in runs)
