"""Adopts pair tars that somebody made with plain webdataset: indexes and a manifest beside them.

    python -m pack.index data/theirs
    python -m pack.index s3://bucket/pairs --real jpg --fake recon.png --name theirs
    python -m pack.index "data/theirs/{000..099}.tar" --group coco --skip_incomplete true

Every tar is read once and none is changed. NAME.parquet comes beside each NAME.tar, and dataset.json
last; the directory is then a dataset like those of python -m pack.
"""

from dataclasses import dataclass, field

from recon.cli import run
from recon.config import at_least_one
from recon.errors import UserError

IMAGES = "jpg,jpeg,png,webp"


@dataclass(frozen=True, kw_only=True)
class IndexConfig:
    """Which tars, and what their members are called."""

    url: list[str] = field(kw_only=False)
    """Directory or URL prefix, all of whose *.tar are taken; or tars, globs, brace ranges of one."""
    real: str = f"real.{{{IMAGES}}}"
    """Field of the real image: what follows the first dot of a member's name, in lower case. Several by braces or ";", the first found counts."""  # noqa: E501
    fake: str = f"fake.{{{IMAGES}}}"
    """Field of the reconstruction, likewise."""
    name: str | None = None
    """Name of the dataset, part of every pair's id; by default that of the directory."""
    group: str | None = None
    """Label group of all pairs; by default the first folder in a pair's key, else the name of the dataset."""
    group_field: str | None = None
    """Field of each pair's json that names its label group."""
    split: str | None = None
    """Split that the manifest records, such as train."""
    autoencoder: str = "unknown"
    """Id of the autoencoder that made the reconstructions, recorded in the index."""
    skip_incomplete: bool = False
    """Leave samples out that are no pair, and list them in rejected.jsonl; otherwise they are an error."""
    max_pixels: int = 100_000_000
    """Images of more pixels than this make no pair."""

    def __post_init__(self) -> None:
        if not self.url or not all(self.url):
            raise UserError("url must not be empty")
        for name in ("name", "group", "group_field", "split", "autoencoder"):
            if getattr(self, name) == "":
                raise UserError(f"{name} must not be empty")
        if self.group is not None and self.group_field is not None:
            raise UserError("group and group_field are two ways to label pairs; give one of them")
        at_least_one(self, "max_pixels")


def main() -> None:
    """The command."""
    run(IndexConfig, _job, prog="python -m pack.index", about=__doc__ or "")


def _job(config: IndexConfig) -> None:
    from pack.adopt import adopt

    adopt(config)


if __name__ == "__main__":
    main()
