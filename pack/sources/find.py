"""Finds the items that the options ask for: layout, partners, splits, limit and tiles, in this order."""

from collections.abc import Callable
from dataclasses import replace

from pack.base.config import Layout, PackConfig
from pack.base.items import Item
from pack.base.names import in_validation
from pack.sources.folders import find_classes, find_folder, find_tree
from pack.sources.partners import refuse_fakes, with_reconstructions
from pack.sources.place import TABLES, is_url, located
from pack.sources.table import find_table
from pack.sources.tars import find_tars
from pack.sources.tiles import tiled
from recon.base.errors import UserError
from recon.base.paths import is_dir

Splits = dict[str | None, list[Item]]

_LAYOUTS: dict[str, Callable[[PackConfig], Splits]] = {
    "folder": find_folder,
    "tree": find_tree,
    "imagefolder": find_classes,
    "webdataset": find_tars,
    "table": find_table,
}
_TARS = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2")


def find_items(config: PackConfig) -> Splits:
    """Lists the items of every split; the only key is None if the dataset has no splits.

    Items are sorted by path, tiles by their corner. A million local files take about ten seconds and
    300 MB; a bucket lists 1,000 names per request.

    Raises:
        UserError: there are no images, or an image has no partner or several.
    """
    layout = _layout(config)
    # If the layout was auto, this checks the options again and refuses those of other layouts.
    config = replace(config, layout=layout)
    splits = _LAYOUTS[layout](config)
    for items in splits.values():
        items.sort(key=lambda item: item.path)
    if layout != "tree":
        refuse_fakes(splits, config)
    if config.reconstructions:
        splits = with_reconstructions(splits, located(config.source), located(config.reconstructions))
    if config.val_fraction:
        splits = _divided(splits, config.val_fraction)
    # The limit counts the images of a split, so it comes after the splitting and before the tiling.
    splits = {split: items[: config.limit] for split, items in splits.items()}
    if config.tile:
        splits = {split: tiled(items, config) for split, items in splits.items()}
    _check_filled(splits, config)
    return splits


def _layout(config: PackConfig) -> Layout:
    """The layout of the options; for auto, the layout that the source's suffix means."""
    place = located(config.source)
    # A local folder is a folder even if its name ends in .tar or .csv.
    if config.layout != "auto" or (not is_url(place) and is_dir(place)):
        return "folder" if config.layout == "auto" else config.layout
    name = place.lower()
    return "webdataset" if name.endswith(_TARS) else "table" if name.endswith(TABLES) else "folder"


def _divided(splits: Splits, fraction: float) -> Splits:
    if list(splits) != [None]:
        names = ", ".join(sorted(map(str, splits)))
        raise UserError(f"val_fraction={fraction}, but the source brings its own splits ({names}); drop it")
    divided: Splits = {"train": [], "val": []}
    for item in splits[None]:
        divided["val" if in_validation(item.path, fraction) else "train"].append(item)
    return divided


def _check_filled(splits: Splits, config: PackConfig) -> None:
    for split, items in splits.items():
        if not items:
            what = split or "the dataset"
            raise UserError(f"no images for {what} in {config.source}; see --val_fraction, --layout")
