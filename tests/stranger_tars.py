"""Tars of pairs as somebody makes them with plain webdataset or tarfile, for the tests of `pack.index`."""

import gc
import io
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import webdataset
from conftest import photograph
from PIL import Image

from recon.image.codec import Pixels

SIZES = [(40, 56), (33, 48), (64, 31)]
"""Heights and widths in turn."""

Members = list[tuple[str, bytes]]


def image(number: int, kind: str = "JPEG", size: tuple[int, int] | None = None, **options: Any) -> bytes:
    """An image file; equal arguments give equal bytes."""
    out = io.BytesIO()
    pixels = photograph(*(size or SIZES[number % len(SIZES)]), number)
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


def pair(number: int, **fields: bytes | dict[str, Any]) -> dict[str, Any]:
    """A sample of webdataset, by default a JPEG, a PNG and a json as `pack.index` expects them."""
    default = {
        "real.jpg": image(number),
        "fake.png": image(number, "PNG"),
        "json": {"label": f"l{number % 2}"},
    }
    return {"__key__": f"k{number:04}", **(fields or default)}


def write_samples(path: Path, samples: Iterable[dict[str, Any]]) -> Path:
    """A tar by `webdataset.TarWriter` as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with webdataset.TarWriter(str(path)) as tar:
        for sample in samples:
            tar.write(sample)
    return path


def write_members(path: Path, members: Iterable[tuple[str, bytes]], form: int = tarfile.GNU_FORMAT) -> Path:
    """A tar of members in the order given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def members_of(number: int, key: str | None = None) -> Members:
    """The members of a pair for `write_members`."""
    key = key or f"k{number:04}"
    return [(f"{key}.real.jpg", image(number)), (f"{key}.fake.png", image(number, "PNG"))]


def plain(paths: Iterable[Path | str]) -> Iterator[dict[str, Any]]:
    """The samples that webdataset itself reads, images decoded to (H, W, 3) uint8."""
    urls = [str(path) for path in paths]
    yield from webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8")
    gc.collect()  # webdataset leaves its tars to the collector


def plain_pixels(
    paths: Iterable[Path | str], real: str = "real", fake: str = "fake"
) -> dict[str, tuple[Pixels, Pixels]]:
    """Both images of each key, by webdataset; fields are named by their beginnings."""

    def find(sample: dict[str, Any], field: str) -> Pixels:
        pixels: Pixels = next(value for name, value in sample.items() if name.startswith(field))
        return pixels

    return {one["__key__"]: (find(one, real), find(one, fake)) for one in plain(paths)}


def files(folder: Path) -> dict[str, bytes]:
    """The contents of all files in a folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
