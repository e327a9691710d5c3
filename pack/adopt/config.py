"""The options of ``python -m pack.index``."""

from dataclasses import dataclass, field

from recon.base.errors import UserError
from recon.base.options import at_least_one

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
