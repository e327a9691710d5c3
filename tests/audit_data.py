"""Photographs that reach both ends of the grey levels, and datasets with leaks planted in them."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from pack.base.config import PackConfig
from pack.base.names import make_key
from pack.publish.packing import pack
from pack.shard.index import index_bytes
from pack.shard.manifest import NAME, Manifest, ShardEntry
from pack.shard.pair import Pair
from pack.shard.writer import ShardWriter
from pack.storage import open_store
from recon.image.codec import Picture, Pixels, decode, encode

PHOTOGRAPHS = 24
SIDE = 96

Change = Callable[[Pixels], Pixels]


def photograph(seed: int, side: int = SIDE) -> Pixels:
    """(side, side, 3) uint8: grey waves, tinted, and noise; some pixels are clipped at either end."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side]
    grey = sum(np.sin(y * a + x * b + c) for a, b, c in rng.uniform(0.03, 0.4, (3, 3)))
    tint = np.stack([np.sin(y * a + x * b + c) for a, b, c in rng.uniform(0.03, 0.1, (3, 3))], axis=2)
    levels = rng.uniform(70, 180) + rng.uniform(-20, 20, 3) + 45 * grey[..., None] + 20 * tint
    levels += rng.normal(0, 5, levels.shape)
    levels[:8, :16], levels[-8:, :16] = 0, 255
    return np.rint(levels.clip(0, 255)).astype(np.uint8)


def photographs(count: int = PHOTOGRAPHS) -> list[Pixels]:
    return [photograph(seed) for seed in range(count)]


def truncated(pixels: Pixels) -> Pixels:
    """To an autoencoder's [-1, 1], to [0, 1] and back without rounding."""
    model = pixels.astype(np.float32) / np.float32(255) * np.float32(2) - np.float32(1)
    return ((model + np.float32(1)) / np.float32(2) * np.float32(255)).astype(np.uint8)


def brighter(pixels: Pixels) -> Pixels:
    return np.minimum(pixels, 254) + np.uint8(1)


def darker(pixels: Pixels) -> Pixels:
    return np.maximum(pixels, 1) - np.uint8(1)


def as_png(pixels: Pixels) -> bytes:
    return encode(pixels, Picture(pixels=pixels, codec="png"), "png")


def as_jpeg(pixels: Pixels, quality: int = 75) -> bytes:
    from io import BytesIO

    from PIL import Image

    out = BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=quality)
    return out.getvalue()


def as_fine_jpeg(pixels: Pixels) -> bytes:
    return as_jpeg(pixels, 96)


def unpacked(data: bytes) -> Pixels:
    return decode(data, max_pixels=1 << 24).pixels


def write_dataset(folder: Path, pairs: Iterable[tuple[str, bytes, bytes]], *, shard_pairs: int = 10) -> str:
    """Writes (source path, real file, fake file) as a dataset, whatever they hold; returns its path."""
    store, entries, waiting = open_store(str(folder)), [], list(pairs)
    for start in range(0, len(waiting), shard_pairs):
        name = f"shard-{len(entries):06}"
        with store.publish(f"{name}.tar") as file:
            writer = ShardWriter(file, folder.name)
            for number, one in enumerate(waiting[start : start + shard_pairs], start):
                writer.add(_pair(number, *one))
            size, sha256 = writer.close()
        with store.publish(f"{name}.parquet") as file:
            file.write(index_bytes(writer.rows, {}))
        entries.append(_entry(folder, name, len(writer.rows), size, sha256))
    manifest = Manifest(name=folder.name, split=None, shards=tuple(entries), rejected=0, provenance={})
    (folder / NAME).write_text(manifest.to_json(), "utf-8")
    return str(folder)


def _pair(number: int, path: str, real: bytes, fake: bytes) -> Pair:
    codecs = [decode(data, max_pixels=1 << 24).codec if data else "png" for data in (real, fake)]
    record = {"path": path, "group": "photos", "real_codec": codecs[0], "fake_codec": codecs[1]}
    key = make_key(path, (number, 0))
    return Pair(key=key, real=real, real_codec=codecs[0], fake=fake, fake_codec=codecs[1], record=record)


def _entry(folder: Path, name: str, pairs: int, size: int, sha256: str) -> ShardEntry:
    import hashlib

    index = hashlib.sha256((folder / f"{name}.parquet").read_bytes()).hexdigest()
    return ShardEntry(name=name, pairs=pairs, bytes=size, sha256=sha256, index_sha256=index)


def planted(
    folder: Path,
    change: Change,
    images: Sequence[Pixels] | None = None,
    coded: Callable[[Pixels], bytes] = as_png,
    fakes_coded: Callable[[Pixels], bytes] = as_png,
) -> str:
    """A dataset whose reconstructions are its real images, but for `change` and the coding."""
    reals = [coded(pixels) for pixels in (photographs() if images is None else images)]
    fakes = [fakes_coded(change(unpacked(real))) for real in reals]
    paths = [f"{number:03}.png" for number in range(len(reals))]
    return write_dataset(folder, zip(paths, reals, fakes, strict=True))


def packed_by(autoencoder: str, folder: Path, suffix: str, codec: str = "match") -> str:
    """The photographs, packed as a user would."""
    coded = as_png if suffix == "png" else as_jpeg
    source = folder / "photos"
    source.mkdir(parents=True)
    for number, pixels in enumerate(photographs()):
        (source / f"{number:03}.{suffix}").write_bytes(coded(pixels))
    out = str(folder / "packed")
    options = {"source": str(source), "out": out, "autoencoder": autoencoder, "codec": codec}
    pack(PackConfig(**options, device="cpu", threads=2))  # type: ignore[arg-type]
    return out
