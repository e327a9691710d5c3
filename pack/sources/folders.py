"""Finds images in folders: any folder, the tree of a published detector, an image folder of classes."""

import re
import sys
from collections import defaultdict

from pack.base.config import PackConfig
from pack.base.items import File, Item
from pack.sources.partners import paired
from pack.sources.place import check_folder, images, is_url, located, parent, walked
from recon.base.errors import UserError
from recon.base.paths import folder_name, is_dir
from recon.listing import FAKE, REAL

_TREE_SPLITS = {"train": "train", "val": "val", "valid": "val"}
_CLASS_SPLITS = {**_TREE_SPLITS, "validation": "val", "test": "test"}

Splits = dict[str | None, list[Item]]


def find_folder(config: PackConfig) -> Splits:
    """Finds all images below a folder or URL prefix; the group is the first folder of an image's path.

    Images that lie directly in the source get the source's name as their group.
    """
    source = _checked(config)
    files, own = images(source), folder_name(source)
    if not files and any(name.endswith(".tar") for name, _ in walked(source)):
        raise UserError(f"{config.source} holds tars and no images; pass --layout webdataset")
    return {None: [Item(path=file.name, group=_first(file.name, own), real=file) for file in files]}


def find_tree(config: PackConfig) -> Splits:
    """Finds the pairs of the folder layout of Rajan et al. (ICLR 2025), which CNNDetection used before.

    ``{train,val|valid}/GENERATOR/{0_real,1_fake}/IMAGE``; a folder with one of these names may be a link.
    """
    source = _checked(config)
    found: Splits = {}
    for folder, split in _TREE_SPLITS.items():
        files = _tree_files(source, folder)
        if files is not None and split in found:
            raise UserError(f"{source} holds both val and valid; keep one of them")
        if files is not None:
            found[split] = _generators(source, folder, files)
    if not found:
        raise UserError(f"{source} holds none of train, val, valid; expected {source}/train/GENERATOR/0_real")
    return found


def find_classes(config: PackConfig) -> Splits:
    """Finds the images of Hugging Face's ImageFolder; the group is the class, the folder of the image.

    ``{train,validation|val|valid,test}/CLASS/IMAGE``, or ``CLASS/IMAGE`` for one dataset without splits.
    """
    source = _checked(config)
    files = images(source, links=_CLASS_SPLITS)
    tops = sorted({file.name.split("/", 1)[0] for file in files})
    # One folder with the name of a split is enough: then all folders must be splits.
    has_splits = any(top in _CLASS_SPLITS for top in tops)
    if has_splits and (stray := [top for top in tops if top not in _CLASS_SPLITS]):
        raise UserError(
            f"{source} holds {stray[0]} next to its splits ({', '.join(_CLASS_SPLITS)}), so it is not clear "
            "whether these are splits or classes; move it, or pass --layout folder"
        )
    _check_one_name(source, tops)
    splits: Splits = defaultdict(list)
    for file in files:
        parts = file.name.split("/")
        if len(parts) < 2 + has_splits:
            raise UserError(
                f"{source}/{file.name} lies in no class folder, expected "
                f"{'SPLIT/' if has_splits else ''}CLASS/IMAGE; move it, or pass --layout folder"
            )
        split = _CLASS_SPLITS[parts[0]] if has_splits else None
        splits[split].append(Item(path=file.name, group=parent(file.name, ""), real=file))
    return dict(splits) or {None: []}


def _checked(config: PackConfig) -> str:
    source = located(config.source)
    check_folder(source, "source ")
    return source


def _first(path: str, otherwise: str) -> str:
    return sys.intern(path.split("/", 1)[0]) if "/" in path else otherwise


def _check_one_name(source: str, tops: list[str]) -> None:
    names = [top for top in tops if _CLASS_SPLITS.get(top) == "val"]
    if len(names) > 1:
        raise UserError(f"{source} holds both {names[0]} and {names[1]}; keep one of them")


def _tree_files(source: str, folder: str) -> list[File] | None:
    """The images of a split; None if there is no such folder."""
    if not is_url(source) and not is_dir(f"{source}/{folder}"):
        return None
    files = images(source, below=folder)
    # A bucket has no folders: a prefix without images is a missing folder.
    return None if is_url(source) and not files else files


def _generators(source: str, folder: str, files: list[File]) -> list[Item]:
    # GENERATOR may be several folders deep, or none: then group 1 is None.
    pattern = re.compile(rf"{folder}/(?:(.+?)/)?({REAL}|{FAKE})/(.+)")
    halves: defaultdict[str, dict[str, dict[str, File]]] = defaultdict(lambda: {REAL: {}, FAKE: {}})
    for file in files:
        if match := pattern.fullmatch(file.name):
            generator, half, name = match.groups()
            halves[generator or "."][half][name] = file
    return [item for generator in halves for item in _pairs(source, folder, generator, halves[generator])]


def _pairs(source: str, folder: str, generator: str, halves: dict[str, dict[str, File]]) -> list[Item]:
    reals = {name: Item(path=file.name, group=generator, real=file) for name, file in halves[REAL].items()}
    place = f"{source}/{folder}/{generator}" if generator != "." else f"{source}/{folder}"
    if not halves[FAKE]:  # a missing folder is a clearer error than images without partners
        check_folder(f"{place}/{FAKE}", "", f", expected the reconstructions of {place}/{REAL}")
    return paired(reals, halves[FAKE], f"{place}/{REAL}", f"{place}/{FAKE}")
