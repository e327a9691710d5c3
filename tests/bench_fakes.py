"""Does a detector find a decoder better if it was trained on several fakes of each photograph?

    python tests/bench_fakes.py --photos coco --autoencoders vae/taesd vae/taesd3

The photographs are packed once, each with a fake of every autoencoder, a fifth of them for validation. The
detector of `configs/cpu.yaml` is then trained in three ways for equally many steps: on the fakes of the first
autoencoder alone, on one autoencoder's fake of each photograph (dealt by its path), and on all fakes of each,
one drawn at each visit. The table has the AUC on the fakes of each autoencoder for the held-out photographs.
A stopped run continues by the same command.
"""

import argparse
import json
import sys
from pathlib import Path

from bench_command import ROOT, run_module

WAYS = ("alone", "dealt", "drawn")


def main() -> None:
    """Packs once, trains and evaluates each way; prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, required=True, help="folder of photographs")
    parser.add_argument("--autoencoders", nargs="+", required=True, help="two or more, as --autoencoder")
    parser.add_argument("--limit", type=int, help="take only so many photographs of each split")
    parser.add_argument("--codec", default="match", help="as --codec of packing")
    parser.add_argument("--tile", type=int, help="cut photographs into tiles of this side")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="each trains every way anew")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--out", type=Path, default=Path("out/fakes"))
    given = parser.parse_args()
    given.out = given.out.absolute()
    packed = _packed(given)
    found = {(way, seed): _trained(way, seed, packed, given) for way in given.ways for seed in given.seeds}
    names = list(next(iter(found.values())))
    _tell("trained on", "seed", *(f"AUC on {name}" for name in names))
    for (way, seed), areas in found.items():
        _tell(way, str(seed), *(f"{areas[name]:.4f}" for name in names))


def _tell(*cells: str) -> None:
    sys.stdout.write(f"{'  '.join(f'{cell:16}' for cell in cells).rstrip()}\n")


def _packed(given: argparse.Namespace) -> Path:
    out: Path = given.out / "packed"
    chosen = {"--limit": given.limit, "--tile": given.tile}
    options = [text for name, value in chosen.items() if value for text in (name, value)]
    run_module("pack", "--source", given.photos, "--out", out, "--autoencoder", ",".join(given.autoencoders),
         "--fakes_per_real", "all", "--codec", given.codec, "--val_fraction", 0.2,
         "--threads", given.threads, *options)  # fmt: skip
    return out


def _trained(way: str, seed: int, packed: Path, given: argparse.Namespace) -> dict[str, float]:
    """AUC by autoencoder, of a detector that was trained in one way."""
    first = json.loads((packed / "train/dataset.json").read_text())["provenance"]["autoencoder"][0]
    alone = f'autoencoder == "{first["autoencoder"]}"'
    ways = {
        "alone": ("--data.filter", alone, "--data.val_filter", alone),
        "dealt": ("--data.fakes", "first"),
        "drawn": (),
    }
    run = given.out / f"{way}-{seed}"
    # Every way has all photographs in each epoch, so equal epochs are equal steps.
    run_module("train", "--config", ROOT / "configs/cpu.yaml", "--out", run, "--resume", "auto",
         "--data.train", packed / "train", "--data.val", packed / "val", "--epochs", given.epochs,
         "--optim.patience", given.epochs, "--order.seed", seed, "--threads", given.threads,
         *ways[way])  # fmt: skip
    run_module("train.evaluate", "--checkpoint", run / "best.pt", "--data", packed / "val",
         "--group_by", "autoencoder", "--out", run / "eval")  # fmt: skip
    groups = json.loads((run / "eval/metrics.json").read_text())["groups"]
    return {name: one["auc"] for name, one in groups.items()}


if __name__ == "__main__":
    main()
