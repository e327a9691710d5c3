"""Do degradations and a contrastive loss help a detector outside its training? Recipes beside each other.

    python tests/bench_recipes.py --photos coco --autoencoder vae/taesd --cpu_minutes 6

Packs the photographs once, a fifth of them for validation. The small detector is then trained by each recipe
and seed for equally many minutes of CPU time, loader included, and the best epoch by validation is evaluated
on the held-out pairs through the grid ``standard`` of the robustness test. The table has areas under the ROC
curve, for each family of the grid the mean over its cells: the mean over the seeds, and half of its 95 %
interval (Student's t). A stopped benchmark continues by the same command.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev

from bench_command import ROOT, run_module

CONTRAST = ("--augment.views", 2, "--loss.bce", 0.5, "--loss.contrastive", 0.5)
WAYS: dict[str, tuple[object, ...]] = {
    "aligned-iclr25": ("--augment", "aligned-iclr25"),
    "wild": ("--augment", "wild"),
    "wild + contrastive": ("--augment", "wild", *CONTRAST),
    "none": ("--augment", "none"),
}
_T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # of Student's distribution, by the number of seeds


def main() -> None:
    """Packs once, trains and evaluates each recipe; prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, required=True, help="folder of photographs")
    parser.add_argument("--autoencoder", required=True, help="as --autoencoder of packing")
    parser.add_argument("--codec", default="match", help="as --codec of packing")
    parser.add_argument("--cpu_minutes", type=float, default=6.0, help="of each training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ways", nargs="+", default=list(WAYS)[:3], choices=WAYS)
    parser.add_argument("--out", type=Path, default=Path("out/recipes"))
    given = parser.parse_args()
    given.out = given.out.absolute()
    packed = given.out / "packed"
    run_module("pack", "--source", given.photos, "--out", packed, "--autoencoder", given.autoencoder,
         "--codec", given.codec, "--val_fraction", 0.2)  # fmt: skip
    found = {way: [_areas(way, seed, packed, given) for seed in given.seeds] for way in given.ways}
    families = list(next(iter(found.values()))[0])
    _tell("trained by", *families)
    for way, areas in found.items():
        _tell(way, *(_with_end([one[family] for one in areas]) for family in families))


def _tell(*cells: str) -> None:
    sys.stdout.write(f"| {' | '.join(cells)} |\n")


def _with_end(values: list[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.3f}"
    return f"{mean(values):.3f} ± {_T_95[len(values)] * stdev(values) / len(values) ** 0.5:.3f}"


def _areas(way: str, seed: int, packed: Path, given: argparse.Namespace) -> dict[str, float]:
    """AUC by family of the grid, ``as is`` among them."""
    run = given.out / f"{way.replace(' ', '')}-{seed}"
    if not (run / "trained").exists():
        _train(way, seed, packed, run, given.cpu_minutes * 60)
    results = run / "robustness/robustness.json"
    if not results.exists():
        scored = ("--checkpoint", run / "best.pt", "--data", packed / "val")
        run_module("train.robustness", *scored, "--grid", "standard", "--out", results.parent)
    found: dict[str, list[float]] = defaultdict(list)
    for cell in json.loads(results.read_text())["cells"]:
        found[cell["family"]].append(cell["overall"]["auc"])
    return {family: mean(areas) for family, areas in found.items()}


def _train(way: str, seed: int, packed: Path, run: Path, seconds: float) -> None:
    """Trains until the processes of the run have used the time; they are then asked to end."""
    options = ("--config", ROOT / "configs/cpu.yaml", *WAYS[way], "--out", run, "--order.seed", seed,
               "--data.train", packed / "train", "--data.val", packed / "val", "--epochs", 100000,
               "--optim.schedule", "constant", "--threads", 1, "--data.threads", 1)  # fmt: skip
    command = [sys.executable, "-m", "train", *map(str, options)]
    process = subprocess.Popen(command, cwd=ROOT)
    while process.poll() is None and _cpu_seconds(process.pid) < seconds:
        time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    if process.wait() != os.EX_TEMPFAIL:
        raise SystemExit(f"{' '.join(command)} ended with status {process.returncode}")
    (run / "trained").touch()


def _cpu_seconds(pid: int) -> float:
    """Of a process and those that it has started; Linux only."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        if pid in (int(stat.parent.name), int(fields[1])):
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
