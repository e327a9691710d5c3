"""What is to be packed: the sorted items of each split, found before anything is written."""

from dataclasses import replace
from pathlib import Path

from pack.config import PackConfig
from pack.items import File, Item
from pack.names import in_validation
from recon.codec import image_size
from recon.errors import RejectedImageError, UserError
from recon.folder import FAKE, REAL, find_images


def find_items(config: PackConfig) -> dict[str | None, list[Item]]:
    """Lists the items of every split; the split is None where the dataset has none.

    Raises:
        UserError: nothing is there, or an image has no partner or several.
    """
    source = Path(config.source).expanduser()
    if not source.is_dir():
        raise UserError(f"source {source} is not a directory")
    splits = _find_tree(source) if config.layout == "tree" else _find_folder(source, config)
    splits = {split: items[: config.limit] for split, items in splits.items()}
    if config.tile:
        splits = {split: _tiles(items, config) for split, items in splits.items()}
    for split, items in splits.items():
        if not items:
            raise UserError(
                f"no images for {split or 'the dataset'} in {source}; see --val_fraction, --layout"
            )
    return splits


def _find_folder(source: Path, config: PackConfig) -> dict[str | None, list[Item]]:
    paths = find_images(source)
    _refuse_tree(source, paths)
    items = [Item(path=path, group=_group(source, path), real=_file(source, path)) for path in paths]
    if config.reconstructions:
        items = _paired(items, source, Path(config.reconstructions).expanduser())
    if not config.val_fraction:
        return {None: items}
    split: dict[str | None, list[Item]] = {"train": [], "val": []}
    for item in items:
        split["val" if in_validation(item.path, config.val_fraction) else "train"].append(item)
    return split


def _refuse_tree(source: Path, paths: list[str]) -> None:
    """A published tree taken for a folder of photographs would label its fakes as real."""
    for path in paths:
        if FAKE in path.split("/"):
            raise UserError(
                f"{source} holds fakes ({path}), expected photographs only; "
                "pass --layout tree, or a 0_real folder as --source and its 1_fake as --reconstructions"
            )


def _group(source: Path, path: str) -> str:
    return path.split("/", 1)[0] if "/" in path else source.resolve().name


def _find_tree(source: Path) -> dict[str | None, list[Item]]:
    """Source: the folder layout of Rajan et al. (ICLR 2025) and of CNNDetection before it."""
    names = {"train": "train", "val": "val", "valid": "val"}
    found = {names[child.name]: child for child in sorted(source.iterdir()) if child.name in names}
    if not found:
        raise UserError(f"{source} holds none of train, val, valid; expected {source}/train/GENERATOR/0_real")
    return {split: _find_generators(source, folder) for split, folder in found.items()}


def _find_generators(source: Path, folder: Path) -> list[Item]:
    items: list[Item] = []
    for real in sorted(folder.rglob(REAL)):
        group = real.parent.relative_to(folder).as_posix()
        prefix = real.relative_to(source).as_posix()
        reals = [
            Item(path=f"{prefix}/{path}", group=group, real=_file(real, path)) for path in find_images(real)
        ]
        items += _paired(reals, real, real.with_name(FAKE))
    return sorted(items, key=lambda item: item.path)


def _paired(items: list[Item], source: Path, fakes: Path) -> list[Item]:
    """Joins each real image to the one reconstruction of the same relative name."""
    if not fakes.is_dir():
        raise UserError(f"{fakes} is not a directory, expected the reconstructions of {source}")
    real_of = _by_stem([_below(item.real, source) for item in items], source)
    fake_of = _by_stem(find_images(fakes), fakes)
    for here, there, folder in ((real_of, fake_of, fakes), (fake_of, real_of, source)):
        missing = sorted(here.keys() - there.keys())
        if missing:
            raise UserError(
                f"{len(missing)} of {len(here)} images have no partner in {folder}, "
                f"the first is {here[missing[0]]}; add or remove them"
            )
    stems = [_stem(_below(item.real, source)) for item in items]
    return [replace(item, fake=_file(fakes, fake_of[stem])) for item, stem in zip(items, stems, strict=True)]


def _by_stem(paths: list[str], folder: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in paths:
        other = found.setdefault(_stem(path), path)
        if other != path:
            raise UserError(f"{other} and {path} in {folder} have the same name; keep one of them")
    return found


def _stem(path: str) -> str:
    folder, _, name = path.rpartition("/")
    return f"{folder}/{name.rsplit('.', 1)[0]}"


def _tiles(items: list[Item], config: PackConfig) -> list[Item]:
    """Replaces each photograph by its tiles; an unreadable one stays, to be rejected with its cause."""
    assert config.tile is not None
    side, stride = config.tile, config.tile_stride or config.tile
    tiles: list[Item] = []
    for item in items:
        corners = _corners(item, side, stride, config.max_pixels)
        tiles += [replace(item, tile=corner) for corner in corners] or [item]
    return tiles


def _corners(item: Item, side: int, stride: int, max_pixels: int) -> list[tuple[int, int]]:
    try:
        height, width = read_size(item.real, max_pixels)
    except RejectedImageError:
        return []
    return [(y, x) for y in range(0, height - side + 1, stride) for x in range(0, width - side + 1, stride)]


def read_size(file: File, max_pixels: int) -> tuple[int, int]:
    """(height, width) from the file's header.

    Raises:
        RejectedImageError: the file is no readable image.
    """
    return image_size(file.read(), max_pixels=max_pixels)


def _file(root: Path, name: str) -> File:
    try:
        size = (root / name).stat().st_size
    except OSError:  # the item will be rejected
        size = None
    return File(str(root), name, size)


def _below(file: File, root: Path) -> str:
    return (Path(file.root) / file.name).relative_to(root).as_posix()
