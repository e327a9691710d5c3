"""What a detector learns of the photographs' own compression, beside the decoder's trace.

    python tests/bench_photographs.py --photos coco --never_jpeg kodak --autoencoder vae/taesd

A photograph that was a JPEG has the traces of that compression; its reconstruction has not. A detector may
learn just that, and then calls photographs fake that never were a JPEG. Here `highpass` is trained on centre
crops of `--limit` JPEG photographs, a fifth of them for validation, packed in several ways, for equally many
steps. A line of the table has the share of images that it calls real: the fakes of the validation, crops of
the other JPEG photographs, prepared as those of the training, and tiles of `--never_jpeg`, as they are and
halved in size. Before that `pack.audit --used_on` says what to expect of `--never_jpeg`: the line below. A
stopped run continues by the same command.
"""

import argparse
import json
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

from bench_command import ROOT, run_module
from PIL import Image
from PIL.JpegImagePlugin import get_sampling

from recon.folder import find_images
from recon.listing import REAL

SIDE = 192  # pixels of the crops

Cut = Callable[[Image.Image], Image.Image]


def main() -> None:
    """Packs, trains and evaluates each way; prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, required=True, help="folder of JPEG photographs")
    parser.add_argument(
        "--never_jpeg", type=Path, required=True, help="folder of photographs that never were"
    )
    parser.add_argument("--autoencoder", default="tiny")
    parser.add_argument("--limit", type=int, default=120)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--out", type=Path, default=Path("out/photographs"))
    given = parser.parse_args()
    given.out = given.out.absolute()
    for way in given.ways:
        _prepare(way, given)
    warnings = {way: _warned(way, given) for way in given.ways}
    shares = {way: _measured(way, given) for way in given.ways}
    head = ["way", *next(iter(shares.values()))]
    sys.stdout.write(f"called real, of crops\n{'  '.join(f'{cell:20}' for cell in head)}\n")
    for way, found in shares.items():
        cells = [way, *(f"{share:.1%} of {count}" for share, count in found.values())]
        sys.stdout.write(f"{'  '.join(f'{cell:20}' for cell in cells)}\n  audit: {warnings[way]}\n")


def _centre(photo: Image.Image, grid: int = 1) -> Image.Image:
    """The centre crop, or what is there of it; its corner is a multiple of `grid` pixels."""
    left, top = (max(0, side - SIDE) // 2 // grid * grid for side in photo.size)
    return photo.crop((left, top, min(left + SIDE, photo.width), min(top + SIDE, photo.height)))


def _halved(photo: Image.Image) -> Image.Image:
    return photo.resize((photo.width // 2, photo.height // 2), Image.Resampling.LANCZOS)


def _save_png(photo: Image.Image, path: Path) -> None:
    _centre(photo).save(path.with_suffix(".png"))


def _save_jpeg(photo: Image.Image, path: Path) -> None:
    """The crop as a JPEG on the blocks of its photograph, with the same tables."""
    tables = photo.quantization  # type: ignore[attr-defined]
    _centre(photo, grid=16).save(path.with_suffix(".jpg"), qtables=tables, subsampling=get_sampling(photo))


def _save_halved(photo: Image.Image, path: Path) -> None:
    _centre(_halved(photo)).save(path.with_suffix(".png"))


WAYS: dict[str, tuple[Callable[[Image.Image, Path], None], str]] = {
    "lossless-png": (_save_png, "lossless-png"),
    "match": (_save_jpeg, "match"),
    "both": (_save_png, "both"),
    "halved": (_save_halved, "lossless-png"),
}
"""By name: how a crop of a photograph is saved, and --codec of packing."""


def _prepare(way: str, given: argparse.Namespace) -> None:
    """Cuts the photographs and packs those of the training."""
    save, codec = WAYS[way]
    out, unseen = given.out / way, given.out / way / "unseen"
    photos, held_out = _folder(out / "photos"), _folder(unseen / "held out" / REAL)
    for number, name in enumerate(find_images(given.photos)):
        with Image.open(given.photos / name) as photo:
            save(photo, (photos if number < given.limit else held_out) / name)
    _save_tiles(given.never_jpeg, unseen)
    run_module("pack", "--source", photos, "--out", out / "packed", "--autoencoder", given.autoencoder,
         "--codec", codec, "--val_fraction", 0.2, "--threads", 1)  # fmt: skip


def _warned(way: str, given: argparse.Namespace) -> str:
    """What the audit says before a detector is trained."""
    packed, out = given.out / way / "packed", given.out / way / "audit"
    run_module("pack.audit", packed / "train", packed / "val", "--used_on", given.never_jpeg, "--out", out,
         "--threads", 1, finds=True)  # fmt: skip
    found = json.loads((out / "audit.json").read_text())
    seen = next(one for one in found["findings"] if one["name"] == "used_on")
    area = "{value:.2f} ({low:.2f} to {high:.2f})".format(**seen["separation"])
    leaks = ", ".join(found["leaks"]) or "none"
    return f"{seen['verdict']} {area}, {seen['real']}, {seen['fake']}; leaks: {leaks}"


def _measured(way: str, given: argparse.Namespace) -> dict[str, tuple[float, int]]:
    """(share called real, number of images) by what the images are."""
    out = given.out / way
    packed, unseen = out / "packed", out / "unseen"
    run_module("train", "--config", ROOT / "configs/cpu.yaml", "--out", out / "run", "--resume", "auto",
         "--data.train", packed / "train", "--data.val", packed / "val", "--epochs", given.epochs,
         "--threads", 1)  # fmt: skip
    fakes, reals = (_evaluated(out / "run", data) for data in (packed / "val", unseen))
    groups = {name: (one["real_accuracy"], one["n_real"]) for name, one in reals["groups"].items()}
    return {"fakes": (1 - fakes["overall"]["fake_accuracy"], fakes["overall"]["n_fake"]), **groups}


def _evaluated(run: Path, data: Path) -> dict[str, Any]:
    out = run / f"eval-{data.name}"
    run_module("train.evaluate", "--checkpoint", run / "best.pt", "--data", data, "--out", out)
    found: dict[str, Any] = json.loads((out / "metrics.json").read_text())
    return found


def _save_tiles(photos: Path, out: Path) -> None:
    for name in find_images(photos):
        with Image.open(photos / name) as photo:
            for group, one in (("never JPEG", photo), ("never JPEG, halved", _halved(photo))):
                folder = _folder(out / group / REAL)
                corners = product(range(0, one.width - SIDE + 1, SIDE), range(0, one.height - SIDE + 1, SIDE))
                for left, top in corners:
                    tile = one.crop((left, top, left + SIDE, top + SIDE))
                    tile.save(folder / f"{Path(name).stem}-{left}-{top}.png")


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


if __name__ == "__main__":
    main()
