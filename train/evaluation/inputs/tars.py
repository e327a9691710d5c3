"""Images in the tars of a plain WebDataset, with their labels in the samples or in the names."""

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

from pack.base.items import File
from pack.shard.tar_members import Member
from pack.sources.tar_names import find_tar_files
from pack.sources.tars import Sample, samples_of
from recon.base.errors import UserError
from recon.base.walk import Leave, LeftOut, sum_of
from recon.image.codec import SUFFIXES
from recon.listing import tell
from train.evaluation.inputs.files import source_of_files
from train.evaluation.inputs.folders import label_by_folders
from train.evaluation.inputs.labels import Words
from train.evaluation.inputs.source import ImageSource, Listed
from train.evaluation.inputs.tables import LABELS, Columns, list_rows

_THREADS = 16  # they wait for storage
_META = ("json", "cls")
_NUMBER = re.compile(r"[-_.]?\d*$")  # of a shard


class _Image(NamedTuple):
    """An image of a sample, and what the sample says of it."""

    name: str
    file: File
    place: str
    """Folders and names that may hold a label: tar, folder in the tar, field, key."""
    photograph: str
    meta: dict[str, Any]


def open_tars(place: str, words: Words, columns: Columns) -> ImageSource:
    """One tar, those of a pattern, or all below a folder; every field with an image is an image.

    The label is the sample's ``cls`` or a column of its ``json``; else the field (``real.jpg``), the folder
    in the tar, or the name of the tar or its folder (``fake-000.tar``) is a word for it.

    Raises:
        UserError: there are no tars, one is damaged, or the labels can't be told.
    """
    tars = find_tar_files(place)
    hidden = [LeftOut() for _ in tars]  # by tar, as a thread counts them
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(lambda tar, left_out: list(_images(tar, left_out.add)), tars, hidden)
        images = [image for of_tar in found for image in of_tar]
    tell(place, sum_of(hidden))
    names = [image.name for image in images]
    keys = dict.fromkeys(key for image in images for key in image.meta)
    table: dict[str, Callable[[], list[Any]]] = {key: partial(_column, images, key) for key in keys}
    if columns.label or any(name in table for name in LABELS):
        listed = list_rows(table, names, place, words, columns)
    else:
        labelled = label_by_folders([image.place for image in images], place, words)
        listed = [one._replace(name=name) for one, name in zip(labelled, names, strict=True)]
    rows = zip(listed, images, strict=True)
    known = [Listed(one.name, one.group, one.label, image.photograph) for one, image in rows]
    return source_of_files("tars of a WebDataset", known, [image.file for image in images])


def _images(tar: File, leave: Leave) -> Iterator[_Image]:
    for sample in samples_of(tar, leave):
        pictures = {field: one for field, one in sample.fields.items() if f".{field}".endswith(SUFFIXES)}
        meta = _meta(tar, sample) if pictures else {}
        for field, member in pictures.items():
            name = member.name.removeprefix("./")
            folder, _, _ = name.rpartition("/")
            own = _NUMBER.sub("", tar.name.removesuffix(".tar"))
            parts = [*own.split("/"), *folder.split("/"), *field.split(".")[:-1], name.rpartition("/")[2]]
            yield _Image(
                name=f"{tar.name}/{name}",
                file=_part(tar, member),
                place="/".join(part for part in parts if part),
                photograph=f"{tar.name}/{sample.key}",
                meta=meta,
            )


def _meta(tar: File, sample: Sample) -> dict[str, Any]:
    """What the sample's ``json`` and ``cls`` say, by name."""
    found: dict[str, Any] = {}
    for field in _META:
        if field not in sample.fields:
            continue
        text = _part(tar, sample.fields[field]).read()
        try:
            value = json.loads(text)
        except ValueError as error:
            raise UserError(f"{tar.url}: {field} of sample {sample.key} can't be read: {error}") from error
        found |= value if isinstance(value, dict) else {field: value}
    return found


def _part(tar: File, member: Member) -> File:
    return File(tar.root, tar.name, member.size, member.offset)


def _column(images: list[_Image], key: str) -> list[Any]:
    return [image.meta.get(key) for image in images]
