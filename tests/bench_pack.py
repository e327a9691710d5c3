"""How fast photographs become shards, beside plain loops that do the same by hand.

    python tests/bench_pack.py --source photos                      # null reconstruction: the writing alone
    python tests/bench_pack.py --source photos --autoencoder vae/taesd --limit 48

Each way runs in turn, round by round; medians are printed. With the null reconstruction the loops are
those of `webdataset.ShardWriter`: one decodes and compresses each photograph anew, as packing must, the
other only copies ready files into the tar. With an autoencoder, "bare" is the autoencoder alone on pixels
that are in memory already, in the batches of packing, and "one by one" the loop of the reference: an
image is read, reconstructed, and written as PNG before the next is read.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import webdataset
from PIL import Image

from pack.base.config import PackConfig
from pack.publish.packing import pack
from recon.folder import find_images
from recon.image.codec import Picture, decode, encode
from recon.models.load import load
from recon.reconstruct import reconstruct_each

Way = Callable[[Path], None]

_AS_WRITTEN = argparse.RawDescriptionHelpFormatter


def main() -> None:
    """Prints the table."""
    if "MALLOC_ARENA_MAX" not in os.environ:  # python -m pack does so for itself, before it has threads
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"MALLOC_ARENA_MAX": "1"})
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, required=True, help="folder of JPEG photographs")
    parser.add_argument("--autoencoder", default="identity")
    parser.add_argument("--limit", type=int, default=256)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    names = find_images(given.source)[: given.limit]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in names:
            (folder / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(given.source / name, folder / "photos" / name)
        ways = _null_ways(folder) if given.autoencoder == "identity" else _ways(folder, given)
        _print(_measure(ways, folder, given.rounds), len(names))


def _null_ways(folder: Path) -> dict[str, Way]:
    photos = folder / "photos"
    return {
        "loop: decode, compress, ShardWriter": lambda out: _shard_loop(photos, out, _compressed_anew),
        "pack --autoencoder identity": lambda out: pack(_config(photos, out, "identity")),
        "loop: copy ready files, ShardWriter": lambda out: _shard_loop(photos, out, Path.read_bytes),
    }


def _ways(folder: Path, given: argparse.Namespace) -> dict[str, Way]:
    photos, model, size = folder / "photos", given.autoencoder, given.batch_size
    config = _config(photos, folder, model, batch_size=size)
    autoencoder = load(config)
    pictures = {
        name: decode((photos / name).read_bytes(), max_pixels=10**8).pixels for name in find_images(photos)
    }

    def bare(_: Path) -> None:
        for _each in reconstruct_each(autoencoder, list(pictures.values()), list(pictures), size):
            pass

    def one_by_one(out: Path) -> None:
        for name in find_images(photos):
            pixels = decode((photos / name).read_bytes(), max_pixels=10**8).pixels
            ((_, fake),) = reconstruct_each(autoencoder, [pixels], [name], 1)
            target = (out / name).with_suffix(".png")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(encode(fake, Picture(pixels=fake, codec="png"), "png"))

    return {
        "bare autoencoder": bare,
        "pack --codec match": lambda out: pack(_config(photos, out, model, batch_size=size)),
        "pack --codec lossless-png": lambda out: pack(
            _config(photos, out, model, batch_size=size, codec="lossless-png")
        ),
        "one by one, PNG": one_by_one,
    }


def _config(source: Path, out: Path, autoencoder: str, **options: object) -> PackConfig:
    return PackConfig(source=str(source), out=str(out), autoencoder=autoencoder, shard_mb=64, **options)  # type: ignore[arg-type]


def _shard_loop(photos: Path, out: Path, fake_of: Callable[[Path], bytes]) -> None:
    out.mkdir()
    with webdataset.ShardWriter(f"{out}/%06d.tar", maxsize=64 << 20, verbose=0) as sink:
        for number, name in enumerate(find_images(photos)):
            path = photos / name
            record = json.dumps({"path": name}).encode()
            key = f"{number:06d}"
            sink.write(
                {"__key__": key, "real.jpg": path.read_bytes(), "fake.jpg": fake_of(path), "json": record}
            )


def _compressed_anew(path: Path) -> bytes:
    """As anyone would: decoded by Pillow, compressed with the file's own tables."""
    from io import BytesIO

    with Image.open(path) as image:
        out = BytesIO()
        image.load()
        image.save(out, "JPEG", quality="keep")
    return out.getvalue()


def _measure(ways: dict[str, Way], folder: Path, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """(wall, CPU) seconds of each way, round by round."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            out = folder / "out"
            shutil.rmtree(out, ignore_errors=True)
            wall, cpu = time.perf_counter(), _cpu_s()
            way(out)
            taken[name].append((time.perf_counter() - wall, _cpu_s() - cpu))
    return taken


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _print(taken: dict[str, list[tuple[float, float]]], pairs: int) -> None:
    first = statistics.median(wall for wall, _ in next(iter(taken.values())))
    sys.stdout.write(f"{pairs} photographs\n{'':36}  pairs/s  of first  CPU ms/pair\n")
    for name, times in taken.items():
        wall, cpu = (statistics.median(column) for column in zip(*times, strict=True))
        sys.stdout.write(f"{name:36}{pairs / wall:9.1f}{first / wall:10.2f}{1e3 * cpu / pairs:13.2f}\n")


if __name__ == "__main__":
    main()
