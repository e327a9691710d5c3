"""What a packing run is going to write: which items go into which shard, and a hash of it all.

A shard takes a fixed number of the sorted items, chosen before the first is written, so
that any worker, rerun or machine of the same type gives the same shards.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pack.config import PackConfig
from pack.items import File, Item
from pack.names import make_key, printable
from pack.sources import read_size
from recon.errors import RejectedImageError, UserError

LIBRARIES = ("torch", "diffusers", "numpy", "pillow", "pyarrow", "webdataset")
"""Libraries whose version may change the bytes of a dataset; recorded in its manifest."""

_SAMPLED = 64  # items whose size on disk is looked at to choose the pairs per shard
_PNG_BYTES_PER_PIXEL = 1.6  # lossless reconstructions of photographs: median of Kodak's 24 with taesd
# Where things lie changes no byte; the autoencoder and its device are recorded by its own provenance.
_PLACES = {
    "device",
    "out",
    "source",
    "reconstructions",
    "autoencoder",
    "buffer_mb",
    "rank",
    "world_size",
    "dry_run",
}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The items of each shard and the hash of everything that decides their bytes."""

    dataset: str
    shards: tuple[tuple[Item, ...], ...]
    provenance: dict[str, Any]

    @property
    def sha256(self) -> str:
        """Hash of all that decides the bytes; of the source files' contents only their sizes."""
        items = [
            [printable(item.path), item.tile, item.group, len(shard), _size(item.real), _size(item.fake)]
            for shard in self.shards
            for item in shard
        ]
        text = json.dumps([self.dataset, items, self.provenance], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def make_plan(items: Sequence[Item], config: PackConfig, autoencoder: dict[str, Any]) -> Plan:
    """Deals sorted items to shards.

    Args:
        items: what is to be packed, in order.
        config: the options of packing.
        autoencoder: its provenance, recorded in the manifest.

    Raises:
        UserError: two items have the same key.
    """
    _check_keys(items)
    count = config.shard_pairs or _pairs_per_shard(items, config)
    options = {name: value for name, value in asdict(config).items() if name not in _PLACES}
    libraries = {name: version(name) for name in LIBRARIES}
    provenance = {"autoencoder": autoencoder, "options": options, "libraries": libraries}
    shards = tuple(tuple(items[start : start + count]) for start in range(0, len(items), count))
    return Plan(dataset=dataset_name(config), shards=shards, provenance=provenance)


def dataset_name(config: PackConfig) -> str:
    """The name given, else that of the source folder."""
    return config.name or printable(Path(config.source).expanduser().resolve().name)


def shard_name(number: int) -> str:
    """The stem of a shard's files."""
    return f"shard-{number:06d}"


def _check_keys(items: Sequence[Item]) -> None:
    seen: dict[str, Item] = {}
    for item in items:
        key = make_key(item.path, item.tile)
        other = seen.setdefault(key, item)
        if other is not item:
            raise UserError(f"{item.path} and {other.path} have the same key {key}; rename one of them")


def _size(file: File | None) -> int | None:
    return None if file is None else file.size


def _pairs_per_shard(items: Sequence[Item], config: PackConfig) -> int:
    step = max(1, len(items) // _SAMPLED)
    sizes = [_pair_bytes(item, config) for item in items[::step]]
    mean = sum(sizes) / len(sizes)
    return max(1, round(config.shard_mb * 2**20 / max(mean, 1.0)))


def _pair_bytes(item: Item, config: PackConfig) -> float:
    """Expected bytes of a pair on disk, from file sizes and headers alone."""
    try:
        height, width = (config.tile, config.tile) if config.tile else read_size(item.real, config.max_pixels)
    except RejectedImageError:
        return 0.0
    real = item.real.size or 0
    lossless = _PNG_BYTES_PER_PIXEL * height * width
    if config.tile:
        return 2 * lossless
    if item.fake is not None and config.codec == "keep":
        return real + (item.fake.size or 0)
    matched = config.codec == "match" and item.real.suffix in (".jpg", ".jpeg")
    return 2.0 * real if matched else real + lossless
