"""The front matter of a card: the YAML by which Hugging Face's hub and ``datasets`` read the shards."""

import glob
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from pack.card.fields import Feature, Fields
from pack.shard.manifest import Manifest

_POWERS = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")
_LICENSE = "license: unknown # of the photographs: name it before you publish them\n"


@dataclass(frozen=True, kw_only=True)
class Part:
    """A split of the dataset that a card describes, or the whole dataset if it has no splits."""

    manifest: Manifest
    names: Collection[str]
    """Names of all files beside its manifest."""
    folder: str = ""
    """Where it lies below the card, such as ``train/``."""

    @property
    def split(self) -> str:
        """The name that ``datasets`` knows it by; it must have one, and takes letters and digits only."""
        return re.sub(r"\W", "_", self.manifest.split or "train")

    @property
    def paths(self) -> str | list[str]:
        """Its tars, as a pattern if the folder holds no others."""
        tars = [f"{shard.name}.tar" for shard in self.manifest.shards]
        if set(tars) == {name for name in self.names if name.endswith(".tar")}:
            return f"{self.folder}*.tar"
        return [f"{self.folder}{glob.escape(tar)}" for tar in tars]


def front_matter(parts: Sequence[Part]) -> str:
    """The YAML of a card, with the lines ``---`` around it."""
    facts = {
        "pretty_name": title(parts),
        "task_categories": ["image-classification"],
        "tags": ["webdataset", "pairstream", "generated-image-detection"],
        "size_categories": [_size(sum(part.manifest.pairs for part in parts))],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": part.split, "path": part.paths} for part in parts],
            }
        ],
        "dataset_info": {"features": _features(parts)} | _splits(parts),
    }
    return f"---\n{_LICENSE}{yaml.safe_dump(facts, sort_keys=False, allow_unicode=True)}---\n"


def title(parts: Sequence[Part]) -> str:
    """The name of the dataset, in one line."""
    return " ".join(parts[0].manifest.name.split()) or "pairs"


def _size(pairs: int) -> str:
    """The hub's category of a number of samples, such as 1K<n<10K."""
    place = len(str(pairs)) - 4  # 0 for the numbers of four digits
    return "n<1K" if place < 0 else f"{_POWERS[place]}<n<{_POWERS[place + 1]}"


def _features(parts: Sequence[Part]) -> list[Feature]:
    """The columns of all splits, each once."""
    found = {feature["name"]: feature for part in parts for feature in Fields.of(part.manifest).features}
    return list(found.values())


def _splits(parts: Sequence[Part]) -> dict[str, Any]:
    """The numbers of samples, with which ``datasets`` compares what it has read.

    Tars that others wrote may hold samples that are no pairs, so nothing is said of them.
    """
    if any("adopted" in part.manifest.provenance for part in parts):
        return {}
    return {
        "splits": [
            {"name": part.split, "num_bytes": part.manifest.bytes, "num_examples": part.manifest.pairs}
            for part in parts
        ],
        "download_size": sum(part.manifest.bytes for part in parts),
        "dataset_size": sum(part.manifest.bytes for part in parts),
    }
