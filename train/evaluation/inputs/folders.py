"""Labels of images by the folders that they lie in."""

from collections.abc import Container, Sequence
from typing import NamedTuple

from pack.base.items import File
from pack.sources.place import source_name
from recon.base.errors import UserError
from recon.base.paths import folder_name
from train.evaluation.inputs.files import source_of_files
from train.evaluation.inputs.labels import CHOICES, Words
from train.evaluation.inputs.source import ImageSource, Label, Listed, with_shared

_PLAIN = ("0_real", "real", "reals")
"""Folders whose neighbours may be generators. Beside ``nature`` there may lie ``city``, too."""


class _Place(NamedTuple):
    """What an image's folders say."""

    label: Label
    group: str
    rest: str
    """The path below the folder that gave the label."""


def open_folder(place: str, files: list[File], words: Words) -> ImageSource:
    """The images below a folder or URL prefix.

    The innermost folder whose name is one of the words gives the label, and what lies above it the group:
    ``GEN/0_real``, ``GEN/val/ai``. Folders beside one of real images are generators: ``real``, ``gen_0``.
    Without any such folder, the name of the folder itself counts; then the images have no label.

    Raises:
        UserError: some images have a label and others none.
    """
    files = sorted(files, key=lambda file: file.name.split("/"))
    listed = label_by_folders([file.name for file in files], place, words)
    return source_of_files("a folder", listed, files)


def label_by_folders(names: Sequence[str], place: str, words: Words) -> list[Listed]:
    """The label, group and photograph of each path below `place`; see `open_folder`."""
    own = source_name(place)
    found = [_by_word(name, own, words) for name in names]
    if words.label is not None:
        if said := [name for name, one in zip(names, found, strict=True) if one.label is not None]:
            raise UserError(
                f"{place}: the folders of {len(said)} of {len(names)} images say real or fake, the first is "
                f"that of {said[0]}; leave --label out, or name other folders by --real and --fake"
            )
        return [Listed(name, _first(name, own), words.label, name) for name in names]
    words.check_used(place, "folder", [own, *(part for name in names for part in name.split("/")[:-1])])
    all_found = _beside_reals(names, found, _PLAIN if words == Words() else words.real)
    guessed = (new.group for old, new in zip(found, all_found, strict=True) if old.label != new.label)
    words.check_generators(place, "the folder", (group.rpartition("/")[2] for group in guessed))
    found = all_found
    lacking = [name for name, one in zip(names, found, strict=True) if one.label is None]
    if lacking and len(lacking) < len(names):
        raise UserError(
            f"{place}: {len(lacking)} of {len(names)} images lie in no folder that says real or fake, "
            f"the first is {lacking[0]}; {CHOICES}"
        )
    if lacking:
        label = words.label_of(own)
        return [Listed(name, _first(name, own), label, name) for name in names]
    return with_shared(
        [Listed(name, one.group, one.label, _photograph(one)) for name, one in zip(names, found, strict=True)]
    )


def _by_word(name: str, own: str, words: Words) -> _Place:
    parts = name.split("/")
    for depth in reversed(range(len(parts) - 1)):  # the innermost folder counts
        if (label := words.label_of(parts[depth])) is not None:
            return _Place(label, "/".join(parts[:depth]) or own, "/".join(parts[depth + 1 :]))
    return _Place(None, "", "")


def _beside_reals(names: Sequence[str], found: list[_Place], reals: Container[str]) -> list[_Place]:
    """Labels the images in folders beside a folder of real images: each such folder is a generator."""
    above = set()  # folders that hold a folder of real images
    for name, one in zip(names, found, strict=True):
        parts = name.split("/")[: -len(one.rest.split("/"))]
        if one.label == 0 and parts[-1].casefold() in reals:
            above.add("/".join(parts[:-1]))
    places = []
    for name, one in zip(names, found, strict=True):
        parts = name.split("/")
        for depth in reversed(range(len(parts) - 1)) if one.label is None else ():
            if "/".join(parts[:depth]) in above:
                one = _Place(1, "/".join(parts[: depth + 1]), "/".join(parts[depth + 1 :]))
                break
        places.append(one)
    return places


def _photograph(place: _Place) -> str:
    """A fake has the name of its real image in the published trees, but for its suffix."""
    folder, _, name = place.rest.rpartition("/")
    return f"{folder}/{name.rpartition('.')[0] or name}".lstrip("/")


def _first(name: str, own: str) -> str:
    return name.split("/", 1)[0] if "/" in name else own


def open_image(place: str, file: File, words: Words) -> ImageSource:
    """One image file."""
    listed = [Listed(file.name, folder_name(place), words.label, file.name)]
    return source_of_files("an image", listed, [file])
