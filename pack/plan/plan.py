"""Plans what a packing run will write: which items go into which shard, and a hash of everything.

Each shard takes the same number of sorted items. This number is chosen before the first shard is written.
Therefore every process, rerun or machine of the same type writes the same shards.
"""

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from pack.base.config import PackConfig
from pack.base.items import File, Item
from pack.base.names import dealt, make_key, printable
from pack.sources import read_size, source_name
from recon.base.errors import RejectedImageError, UserError

LIBRARIES = ("torch", "diffusers", "numpy", "pillow", "pyarrow")
"""Libraries whose version may change the bytes of a dataset; recorded in its manifest."""

PLUGINS = ("pillow-heif", "pillow-jxl-plugin")
"""Such libraries that need not be installed."""

_SAMPLED = 64  # items, at least, whose sizes are read to choose the pairs per shard
_READERS = 16  # threads that read them; most of the time they wait for storage
_PNG_BYTES_PER_PIXEL = 1.6  # lossless reconstructions of photographs: median of Kodak's 24 with taesd
_JPEG_BYTES_PER_PIXEL = {50: 0.1, 75: 0.15, 90: 0.26, 95: 0.38, 100: 0.78}  # by quality; from 4 photographs
# Options that are not recorded: where files lie and how a run is divided change no byte of the dataset. The
# autoencoder and its device are recorded in the autoencoder's own provenance.
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
    "engine",
    "engine_workers",
}
# Options that older versions did not have. They are recorded where they change something, so that an older
# version's dataset is still the one that its options make, byte by byte.
_LATER = {"fakes_per_real": 1, "generations": 1}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The items of each shard and the hash of everything that decides their bytes."""

    dataset: str
    shards: tuple[tuple[Item, ...], ...]
    provenance: dict[str, Any]
    fields: dict[str, str] | None
    """See `pack.shard.manifest.Manifest.fields`."""

    @cached_property
    def sha256(self) -> str:
        """Hash of everything that decides the bytes; it knows the source files by path and size only."""
        whole = [self.dataset, self.provenance, self.fields]
        sha256 = hashlib.sha256(json.dumps(whole, sort_keys=True).encode())
        for shard in self.shards:  # one at a time, because the text of 20M items takes some GB
            sha256.update(json.dumps([_facts(item) for item in shard]).encode())
        return sha256.hexdigest()

    @property
    def pairs(self) -> int:
        """Items in all shards."""
        return sum(map(len, self.shards))


def make_plan(
    items: Sequence[Item],
    config: PackConfig,
    autoencoders: Sequence[dict[str, Any]],
    fields: dict[str, str] | None = None,
) -> Plan:
    """Deals sorted items to autoencoders and shards.

    Args:
        items: the items to pack, sorted.
        config: the options of packing.
        autoencoders: the provenance of each autoencoder (and of several seeds of one, of each), recorded in
            the manifest.
        fields: the names of the images in every sample; None names them by their codecs.

    Raises:
        UserError: two items have the same key.
    """
    items = _dealt(items, config, autoencoders)
    _check_keys(items)
    count = config.shard_pairs or _pairs_per_shard(items, config)
    recorded = ((name, value) for name, value in asdict(config).items() if name not in _PLACES)
    options = {name: value for name, value in recorded if (name, value) not in _LATER.items()}
    libraries = {name: version(name) for name in LIBRARIES} | _plugins()
    made_by = autoencoders[0] if len(autoencoders) == 1 else list(autoencoders)
    provenance: dict[str, Any] = {"autoencoder": made_by, "options": options, "libraries": libraries}
    if any(item.mask for item in items):
        provenance["masks"] = True
    shards = tuple(tuple(items[start : start + count]) for start in range(0, len(items), count))
    return Plan(dataset=dataset_name(config), shards=shards, provenance=provenance, fields=fields)


def _plugins() -> dict[str, str]:
    """The versions of the installed `PLUGINS`."""
    found = {}
    for name in PLUGINS:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def dataset_name(config: PackConfig) -> str:
    """The name of the dataset: --name, else the name of the source."""
    return config.name or printable(source_name(config.source))


def shard_name(number: int) -> str:
    """The file name of a shard's tar and index, without suffix."""
    return f"shard-{number:06d}"


def _dealt(
    items: Sequence[Item], config: PackConfig, autoencoders: Sequence[dict[str, Any]]
) -> Sequence[Item]:
    """Assigns autoencoders to the items: one of several to each item, or every one to every item."""
    count = len(autoencoders)
    if count == 1:
        return items
    if config.autoencoder_mode == "deal":
        return [_dealt_to(item, config, count) for item in items]
    names = [str(one["autoencoder"]) for one in autoencoders]  # does not depend on where a model is stored
    return [
        replace(item, autoencoder=number, variant=name) for item in items for number, name in enumerate(names)
    ]


def _dealt_to(item: Item, config: PackConfig, count: int) -> Item:
    """The item with what makes its reconstructions: one of `count`, and those after it, round the list."""
    assert isinstance(config.fakes_per_real, int), "its number is known by now"
    first = dealt(item.path, count) if config.has_several else 0
    which, *more = ((first + step) % count for step in range(config.fakes_per_real))
    return replace(item, autoencoder=which, more=tuple(more))


def _check_keys(items: Sequence[Item]) -> None:
    """UserError if two items have the same key."""
    # Compare 64-bit hashes first, because millions of keys would fill the memory. Python salts hash() per
    # process, which does not matter here: equal hashes are followed by a comparison of the keys.
    hashes = np.fromiter((hash(_key(item)) for item in items), np.int64, len(items))
    values, counts = np.unique(hashes, return_counts=True)
    seen: dict[str, Item] = {}
    for number in np.flatnonzero(np.isin(hashes, values[counts > 1])).tolist():
        item = items[number]
        other = seen.setdefault(_key(item), item)
        if other is not item:
            key = _key(item)
            raise UserError(f"{item.path} and {other.path} have the same key {key}; rename one of them")


def _key(item: Item) -> str:
    return make_key(item.path, item.tile, item.variant)


def _facts(item: Item) -> list[Any]:
    """The properties of an item that decide the bytes of its pair."""
    who = [item.variant, item.autoencoder]
    facts = [printable(item.path), item.tile, *who, item.group, _size(item.real), _size(item.fake)]
    further = [item.more] if item.more else []
    return [*facts, *further, *(["mask", _size(item.mask)] if item.mask else [])]


def _size(file: File | None) -> int | None:
    return None if file is None else file.size


def _pairs_per_shard(items: Sequence[Item], config: PackConfig) -> int:
    step = max(1, len(items) // _SAMPLED)  # evenly spaced, not random: a rerun must choose the same number
    with ThreadPoolExecutor(_READERS) as pool:
        sizes = list(pool.map(partial(_pair_bytes, config), items[::step]))
    mean = sum(sizes) / len(sizes)
    return max(1, round(config.shard_mb * 2**20 / max(mean, 1.0)))


def _pair_bytes(config: PackConfig, item: Item) -> float:
    """Estimates the bytes of a pair from file sizes and headers, without making it."""
    try:
        height, width = (config.tile, config.tile) if config.tile else read_size(item.real, config.max_pixels)
        real = 0 if config.tile else item.real.measured()
        fake = item.fake.measured() if item.fake else 0
    except RejectedImageError:  # it will not be in the shard
        return 0.0
    images = 1 + len(item.makers)
    if config.codec == "both":
        qualities, sizes = zip(*_JPEG_BYTES_PER_PIXEL.items(), strict=True)
        return images * height * width * float(np.interp(config.quality, qualities, sizes))
    lossless = _PNG_BYTES_PER_PIXEL * height * width
    if config.tile:
        return images * lossless
    if item.fake is not None and config.codec == "keep":
        return real + fake
    matched = config.codec == "match" and item.path.lower().endswith((".jpg", ".jpeg"))
    return float(images * real) if matched else real + (images - 1) * lossless
