"""Autoencoders that differ from each other, and datasets whose samples hold several of their fakes."""

from pathlib import Path
from typing import Any

from conftest import photograph, save
from pack_runs import config

from pack.dataset.dataset import open_dataset
from pack.publish.packing import pack

NAMES = ("one", "two", "three")


def write_autoencoders(root: Path) -> str:
    """Three small random autoencoders with a posterior; returns the value of --autoencoder."""
    import torch
    from diffusers import AutoencoderKL

    for seed, name in enumerate(NAMES):
        torch.manual_seed(seed)
        AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(8, 8),
            layers_per_block=1,
            norm_num_groups=4,
        ).save_pretrained(root / name)
    return ",".join(str(root / name) for name in NAMES)


def write_photographs(root: Path, count: int = 11) -> Path:
    """Small JPEG and PNG photographs of two sizes."""
    for number in range(count):
        suffix = ("jpg", "png")[number % 3 == 2]
        save(root / f"{number:02}.{suffix}", photograph(*((24, 32), (32, 24))[number % 2], number))
    return root


def pack_fakes(source: Path, out: Path, autoencoder: str, fakes: int | str, **options: Any) -> Path:
    """Packs photographs with several fakes each, four pairs a shard."""
    options = {"threads": 1, "shard_pairs": 4} | options
    pack(config(source, out, autoencoder=autoencoder, fakes_per_real=fakes, **options))
    return out


def rows_of(out: Path) -> list[dict[str, Any]]:
    """The rows of all indexes."""
    dataset = open_dataset(str(out))
    tables = (dataset.table(shard) for shard in range(len(dataset.manifest.shards)))
    return [row for table in tables for row in table.to_pylist()]
