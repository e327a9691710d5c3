"""The options of ``python -m pack.index``."""

from dataclasses import dataclass, field

from recon.base.errors import UserError
from recon.base.options import at_least_one

IMAGES = "jpg,jpeg,png,webp"


@dataclass(frozen=True, kw_only=True)
class IndexConfig:
    """Which tars to index, and how their members are named."""

    url: list[str] = field(kw_only=False)
    """Directory or URL prefix (all its *.tar are taken), or tars, globs or brace ranges of one directory."""
    real: str = f"real.{{{IMAGES}}}"
    """Field of the real image: the part of a member's name after its first dot, in lower case. Give several with braces or ";"; the first one found is used."""  # noqa: E501
    fake: str = f"fake.{{{IMAGES}}}"
    """Field of the reconstruction, given in the same way."""
    name: str | None = None
    """Name of the dataset, part of every pair's id; by default the name of the directory."""
    group: str | None = None
    """Label group of all pairs; by default the first folder in a pair's key, or the dataset's name."""
    group_field: str | None = None
    """Field in each pair's json that holds its label group."""
    split: str | None = None
    """Name of the split, such as train; the manifest records it."""
    autoencoder: str = "unknown"
    """Id of the autoencoder that made the reconstructions; the index records it."""
    skip_incomplete: bool = False
    """Leave out samples that are no pair and list them in rejected.jsonl; otherwise they are an error."""
    max_pixels: int = 100_000_000
    """A sample with an image of more pixels than this is no pair."""
    entries: bool = False
    """Add entry points and colours to the indexes of a dataset that lacks them, whoever wrote it. Tars that are indexed now get them anyway."""  # noqa: E501

    def __post_init__(self) -> None:
        if not self.url or not all(self.url):
            raise UserError("url must not be empty")
        for name in ("name", "group", "group_field", "split", "autoencoder"):
            if getattr(self, name) == "":
                raise UserError(f"{name} must not be empty")
        if self.group is not None and self.group_field is not None:
            raise UserError("group and group_field both set the label group; give only one of them")
        at_least_one(self, "max_pixels")
