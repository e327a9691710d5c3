"""Shows what a dataset holds: totals, and for each property how many pairs have which value.

python -m pack.info data/mine
"""

import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from recon.base.cli import run
from recon.base.options import at_least_one, refuse_idle
from recon.base.progress import counted

if TYPE_CHECKING:
    from pack.dataset.dataset import Dataset

_COLUMNS = [
    "group",
    "autoencoder",
    "real_codec",
    "fake_codec",
    "jpeg_quality",
    "jpeg_subsampling",
    "jpeg_progressive",
    "channels",
]
_BAR = 30  # characters of the longest bar


@dataclass(frozen=True, kw_only=True)
class InfoConfig:
    """Which dataset to show, and how."""

    url: str = field(kw_only=False)
    """Directory or URL of a dataset."""
    as_json: bool = False
    """Print the counts as JSON instead of text."""
    top: int = 10
    """Maximum number of values to show for each property, the most frequent first."""

    def __post_init__(self) -> None:
        at_least_one(self, "top")
        if self.as_json:
            refuse_idle(self, "top", because="as_json prints all values")


def main() -> None:
    """The command."""
    run(InfoConfig, _job, prog="python -m pack.info", about=__doc__ or "")


def _job(config: InfoConfig) -> None:
    from pack.dataset.dataset import open_dataset

    facts = describe(open_dataset(config.url))
    text = json.dumps(facts, indent=1) if config.as_json else _text(facts, config.top)
    sys.stdout.write(text + "\n")


def describe(dataset: "Dataset") -> dict[str, Any]:
    """Totals of a dataset, and for each property the number of pairs by value, most frequent first.

    What belongs to a reconstruction, as ``autoencoder``, is counted over all of them.
    """
    from pack.dataset.fakes import values_of
    from pack.shard.manifest import OLD_FORMAT
    from pack.shard.schema import HINT_COLUMNS, MORE_FAKES

    columns = _COLUMNS if dataset.manifest.format == OLD_FORMAT else [*_COLUMNS, "jpeg_phase"]
    counts: dict[str, Counter[str]] = {name: Counter() for name in [*columns, "megapixels", "hints"]}
    more = [MORE_FAKES] if dataset.manifest.fakes > 1 else []
    for shard in range(len(dataset.manifest.shards)):
        # Only these columns: an index of a million pairs is large, and a remote one takes time.
        table = dataset.table(shard, [*columns, "width", "height", HINT_COLUMNS[0], *more])
        for name in columns:
            counts[name].update(map(str, values_of(table, name)))
        sizes = zip(table["width"].to_pylist(), table["height"].to_pylist(), strict=True)
        counts["megapixels"].update(_megapixels(width * height) for width, height in sizes)
        counts["hints"]["yes" if HINT_COLUMNS[0] in table.column_names else "no"] += table.num_rows
    manifest = dataset.manifest
    return {
        "name": manifest.name,
        "split": manifest.split,
        "pairs": manifest.pairs,
        "fakes": manifest.pairs * manifest.fakes,
        "shards": len(manifest.shards),
        "bytes": manifest.bytes,
        "rejected": manifest.rejected,
        "sha256": manifest.sha256,
        "counts": {name: dict(counter.most_common()) for name, counter in counts.items()},
    }


def _megapixels(pixels: int) -> str:
    # Sizes are counted in ranges: photographs have too many different ones to list.
    bounds = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16)
    return next((f"<= {bound}" for bound in bounds if pixels <= bound * 1e6), f"> {bounds[-1]}")


def _text(facts: dict[str, Any], top: int) -> str:
    several = facts["fakes"] > facts["pairs"]
    fakes = f" of {facts['fakes'] // facts['pairs']} fakes each" if several else ""
    lines = [
        f"{facts['name']} ({facts['split'] or 'no split'}): {counted(facts['pairs'], 'pair')}{fakes} in "
        f"{counted(facts['shards'], 'shard')}, {facts['bytes'] / 1e6:.1f} MB, {facts['rejected']} rejected",
        f"manifest sha256 {facts['sha256']}",
    ]
    for name, values in facts["counts"].items():
        lines += ["", name]
        total = sum(values.values())
        lines += [_bar(value, count, total) for value, count in list(values.items())[:top]]
        if len(values) > top:
            lines.append(f"  ... {len(values) - top} more values")
    return "\n".join(lines)


def _bar(value: str, count: int, total: int) -> str:
    # At least one "#", so that a rare value does not look like none.
    return f"  {value[:24]:24} {count:9d} {'#' * max(1, round(_BAR * count / total))}"
