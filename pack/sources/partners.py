"""Matches each real image with its reconstruction. Nothing is guessed, and no image may be left over."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from pack.base.config import PackConfig
from pack.base.items import File, Item
from pack.sources.place import check_folder, images
from recon.base.errors import UserError
from recon.listing import FAKE, MASK

Splits = dict[str | None, list[Item]]


def with_reconstructions(splits: Splits, source: str, fakes: str) -> Splits:
    """Joins each real image with the one reconstruction that has the same relative name, with any suffix.

    Raises:
        UserError: an image has no partner, or several.
    """
    check_folder(fakes, "", f", expected the reconstructions of {source}")
    reals = {item.path: item for items in splits.values() for item in items}
    found = paired(reals, {file.name: file for file in images(fakes)}, source, fakes)
    pairs = {item.path: item for item in found}
    return {split: [pairs[item.path] for item in items] for split, items in splits.items()}


def paired(reals: Mapping[str, Item], fakes: Mapping[str, File], source: str, folder: str) -> list[Item]:
    """The items of `reals` with their partners. Names are relative to `source` and `folder`."""
    real_of = _by_stem(reals, source)
    masks = _masks(fakes, real_of, folder)
    marking = set(masks.values())
    fake_of = _by_stem((name for name in fakes if name not in marking), folder)
    # Both ways: a reconstruction without a real image is an error too.
    for here, there, place in ((real_of, fake_of, folder), (fake_of, real_of, source)):
        missing = sorted(here.keys() - there.keys())
        if missing:
            raise UserError(
                f"{len(missing)} of {len(here)} images have no partner in {place}, "
                f"the first is {here[missing[0]]}; add or remove them"
            )
    return [
        replace(reals[path], fake=fakes[fake_of[stem]], mask=fakes[masks[stem]] if masks else None)
        for stem, path in real_of.items()
    ]


def _masks(fakes: Collection[str], reals: Mapping[str, str], folder: str) -> dict[str, str]:
    """The mask of each real image by stem; none, or one of every image, as all samples have equal names."""
    found = {}
    for name in (one for one in fakes if one.endswith(MASK)):
        stem = _stem(name)
        place = stem.removesuffix(".mask")
        # A photograph may itself be called a.mask: then this is its reconstruction.
        if stem not in reals and place in reals:
            found[place] = name
    if found and (missing := sorted(reals.keys() - found.keys())):
        raise UserError(
            f"{len(missing)} of {len(reals)} reconstructions in {folder} have no mask, the first is that of "
            f"{reals[missing[0]]}; add NAME{MASK} (white where all is changed), or remove the other masks"
        )
    return found


def refuse_fakes(splits: Splits, config: PackConfig) -> None:
    """Refuses a source with a folder of fakes, which would otherwise be packed as real images."""
    for items in splits.values():
        for item in items:
            # the quick test first, because there may be millions of paths
            if FAKE in item.path and FAKE in item.path.split("/")[:-1]:
                raise UserError(
                    f"{config.source} holds fakes ({item.path}), expected photographs only; "
                    "pass --layout tree, or a 0_real folder as --source and its 1_fake as --reconstructions"
                )


def _by_stem(paths: Iterable[str], folder: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in paths:
        other = found.setdefault(_stem(path), path)
        if other != path:
            raise UserError(f"{other} and {path} in {folder} have the same name; keep one of them")
    return found


def _stem(path: str) -> str:
    folder, _, name = path.rpartition("/")
    return f"{folder}/{name.rsplit('.', 1)[0]}"
