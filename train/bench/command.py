"""Measures how fast pairs are read, decoded and augmented, and where the time goes.

    python -m train.bench data/mine/train --json bench.json
    python -m train.bench data/mine/train --whole           also the pipeline that decodes images whole
    python -m train.bench data/mine/train --oracle          also the published whole-image pipeline
    python -m train.bench data/mine/train --threads 8 --device cuda

Each batch is measured in two to four ways: the pipeline, decoding only and, with --whole, the pipeline
without the index's entry points and colours; with --oracle, the published pipeline on whole images
(`train.augment.oracle`, with its own reading and decoding). By default all of them use one thread.
The occupancy of a stage is its share of the pipeline's time; the stages run one after the other.
"""

import json
import sys
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from recon.base.cli import run
from recon.base.cpus import available_cpus
from recon.base.options import at_least_one
from recon.base.progress import counted
from train.draws.config import RECIPES, AugmentConfig

if TYPE_CHECKING:  # imports torch; `bench` does it, so that --help answers at once
    from train.bench.clock import Spent
    from train.bench.stages import Measured

_GREYS = 64  # number of images whose mean grey is compared


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """The options of ``python -m train.bench``."""

    url: str = field(kw_only=False)
    """Directory or URL of a packed dataset."""
    pairs: int = 512
    """Number of pairs, in blocks spread over the dataset; a smaller one is read again, with other draws."""
    batch: int = 64
    """Pairs in a batch."""
    threads: int = 1
    """Threads for decoding and for torch; 1: everything runs on the main thread."""
    device: str = "cpu"
    """Device of the ops: cpu, cuda or auto."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """The augmentation, with the same options as in training."""
    seed: int = 0
    """Seed of the augmentation."""
    whole: bool = False
    """Also decode all images whole, as without the index's entry points, and compare the CPU time."""
    oracle: bool = False
    """Also run the published pipeline on whole images, and compare the speed."""
    json: str | None = None
    """File to write the results to, as JSON."""

    def __post_init__(self) -> None:
        at_least_one(self, "pairs", "batch", "threads")


def main() -> None:
    """Runs the command line."""
    recipes = {"augment": RECIPES}
    run(BenchConfig, _job, prog="python -m train.bench", about=__doc__ or "", recipes=recipes)


def _job(config: BenchConfig) -> None:
    from pack.base.writable import write_file

    facts = bench(config)
    sys.stdout.write(_text(facts) + "\n")
    if config.json:
        write_file(config.json, (json.dumps(facts, indent=1) + "\n").encode())


def bench(config: BenchConfig) -> dict[str, Any]:
    """Measures the speed of all stages.

    Returns:
        ``pairs_per_s``, ``cpu_ms_per_pair``, ``stages`` (``cpu_ms_per_pair``, ``ms_per_pair`` and
        ``occupancy`` of each), ``decoding_cpu_ms_per_pair``, ``decode_ratio`` (the pipeline's CPU time
        over that of decoding alone), ``decoded_share`` (of all MCUs; what is decoded twice counts twice),
        ``read_share`` (of all bytes of the pairs' files; what is read twice counts twice),
        ``palette_deviation`` in levels, ``whole_ratio`` if asked for (the pipeline's CPU time over that
        with whole images) and, with the oracle, ``oracle_pairs_per_s``, ``oracle_cpu_ms_per_pair`` and
        ``oracle_ratio`` (the pipeline's pairs/s over the oracle's).

    Raises:
        UserError: a pair is damaged, or there is no such device.
    """
    from pack.base.writable import check_writable
    from pack.dataset.dataset import open_dataset
    from recon.base.device import find_device
    from recon.base.progress import Progress
    from train.bench.stages import Bench, places_of

    device = find_device(config.device)
    check_writable(config.json)  # before the measurement, which may take minutes
    dataset = open_dataset(config.url)
    places = places_of(dataset.manifest, config.pairs)
    batches = [places[first : first + config.batch] for first in range(0, len(places), config.batch)]
    measured = Bench(dataset, config.augment, threads=config.threads, device=device, seed=config.seed)
    # Warms up: the first batch compiles or loads numba's loops and fills caches.
    more = [name for name in ("whole", "oracle") if getattr(config, name)]
    measured.round(batches[0][:8], 0, more=more)
    measured.reset()
    with Progress(total=len(places), unit="pairs", what="bench") as shown:
        for number, batch in enumerate(batches):
            measured.round(batch, number, more=more)
            shown.update(len(batch))
    # At most _GREYS of the places, spread evenly.
    measured.compare_greys(places[:: -(-len(places) // _GREYS)])
    return _facts(config, measured.measured)


def _facts(config: BenchConfig, measured: "Measured") -> dict[str, Any]:
    ways = {name: _rates(spent, measured.pairs) for name, spent in measured.ways.items()}
    pipeline, decoding = ways["pipeline"], ways["decoding"]
    facts: dict[str, Any] = {
        "url": config.url,
        "pairs": measured.pairs,
        "megapixels": measured.pixels / measured.pairs / 1e6,
        **{name: getattr(config, name) for name in ("batch", "threads", "device", "seed")},
        **pipeline,
        "stages": {name: _stage(spent, measured) for name, spent in measured.stages.items()},
        "decoding_cpu_ms_per_pair": decoding["cpu_ms_per_pair"],
        "decode_ratio": pipeline["cpu_ms_per_pair"] / decoding["cpu_ms_per_pair"],
        "decoded_share": sum(measured.shares) / measured.pairs / 2,
        "read_share": sum(read for read, _ in measured.bytes) / sum(stored for _, stored in measured.bytes),
        "palette_deviation": {
            "mean": sum(measured.palette) / len(measured.palette),
            "most": max(measured.palette),
            "images": len(measured.palette),
        },
    }
    if config.whole:
        facts |= {f"whole_{name}": value for name, value in ways["whole"].items()}
        facts["whole_ratio"] = pipeline["cpu_ms_per_pair"] / facts["whole_cpu_ms_per_pair"]
    if config.oracle:
        facts |= {f"oracle_{name}": value for name, value in ways["oracle"].items()}
        facts["oracle_ratio"] = pipeline["pairs_per_s"] / facts["oracle_pairs_per_s"]
    return facts | {"cores": available_cpus(), "augment": asdict(config.augment)}


def _rates(spent: "Spent", pairs: int) -> dict[str, float]:
    return {"pairs_per_s": pairs / spent.wall_s, "cpu_ms_per_pair": spent.cpu_s / pairs * 1e3}


def _stage(spent: "Spent", measured: "Measured") -> dict[str, float]:
    return {
        "cpu_ms_per_pair": spent.cpu_s / measured.pairs * 1e3,
        "ms_per_pair": spent.wall_s / measured.pairs * 1e3,
        "occupancy": spent.wall_s / measured.ways["pipeline"].wall_s,
    }


def _text(facts: dict[str, Any]) -> str:
    size = f"{counted(facts['pairs'], 'pair')} of {facts['megapixels']:.2f} megapixels"
    threads = counted(facts["threads"], "thread")
    lines = [
        f"{size}, batches of {facts['batch']}, {threads}, {facts['device']}",
        "",
        f"{'':16} {'CPU ms/pair':>11} {'ms/pair':>8} {'occupancy':>9}",
    ]
    for name, stage in facts["stages"].items():
        cpu_ms, ms = stage["cpu_ms_per_pair"], stage["ms_per_pair"]
        lines.append(f"{name:16} {cpu_ms:11.3f} {ms:8.3f} {stage['occupancy']:9.1%}")
    greys = facts["palette_deviation"]
    lines += [
        f"{'in all':16} {facts['cpu_ms_per_pair']:11.3f} {1e3 / facts['pairs_per_s']:8.3f}",
        "",
        f"{facts['pairs_per_s']:.1f} pairs/s; {facts['decode_ratio']:.2f} times the CPU time of decoding "
        f"alone, {facts['decoding_cpu_ms_per_pair']:.3f} ms a pair",
        f"decoded: {facts['decoded_share']:.1%} of the images; "
        f"read: {facts['read_share']:.1%} of the files' bytes",
        f"mean grey of the palette and of the whole image: on average {greys['mean']:.2f} levels apart over "
        f"{counted(greys['images'], 'image')}, at most {greys['most']}",
    ]
    if "whole_ratio" in facts:
        lines.append(
            f"images decoded whole: {facts['whole_pairs_per_s']:.1f} pairs/s, "
            f"{facts['whole_cpu_ms_per_pair']:.2f} CPU ms a pair; "
            f"the pipeline takes {facts['whole_ratio']:.2f} of that"
        )
    if "oracle_ratio" in facts:
        lines.append(
            f"published pipeline on whole images: {facts['oracle_pairs_per_s']:.1f} pairs/s, "
            f"{facts['oracle_cpu_ms_per_pair']:.2f} CPU ms a pair; "
            f"the pipeline is {facts['oracle_ratio']:.2f} times as fast"
        )
    return "\n".join(lines)
