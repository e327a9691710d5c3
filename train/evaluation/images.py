"""Labelled images to score: a packed dataset, a folder tree, or a CSV.

Bytes are read one image at a time, so that a source of any size streams.
"""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from pack.dataset.dataset import Dataset, iterate_pairs, open_dataset
from pack.shard.schema import INDEX_SCHEMA
from recon.base.errors import RejectedImageError, UserError
from recon.folder import FAKE, REAL
from recon.image.codec import SUFFIXES, Pixels, decode
from train.evaluation.metrics import SHARED

CSV_COLUMNS = ("filename", "typ")
"""The columns of a list of images, as in grip-unina's ClipBased-SyntheticImageDetection."""

_FORMS = (
    "a packed dataset (a directory or URL that holds dataset.json), "
    f"a folder tree (.../{REAL}/... and .../{FAKE}/...), "
    f"or a CSV with the columns {','.join(CSV_COLUMNS)}"
)


@dataclass(frozen=True, kw_only=True)
class LabelledImage:
    """An image file's bytes and what is known of it."""

    name: str
    """Path relative to the source, or the pair's key with ``.real`` or ``.fake``."""
    group: str
    """Label group (generator); `train.evaluation.metrics.SHARED` for a real image that has none."""
    label: Literal[0, 1]
    """0 real, 1 fake."""
    data: bytes
    """The file."""


@dataclass(frozen=True, kw_only=True)
class ImageSource:
    """Images to score; `images` begins anew at each call."""

    total: int
    """Number of images."""
    images: Callable[[], Iterator[LabelledImage]]
    """Reads them, in a fixed order."""


def open_source(data: str, group_by: str = "group") -> ImageSource:
    """Opens whichever of the three forms `data` has.

    Args:
        data: directory, URL or CSV file.
        group_by: of a packed dataset, the column of its index that gives the label groups.

    Raises:
        UserError: it has none of the three forms, holds no image, or has no such column.
    """
    path = Path(data)
    if "://" in data or (path / "dataset.json").is_file():
        source = _packed(data, group_by)
    elif group_by != "group":
        raise UserError(f"group_by={group_by} is for packed datasets, and data={data} is none; leave it out")
    elif path.is_dir():
        source = _tree(path)
    elif path.is_file() and path.suffix.lower() == ".csv":
        source = _table(path)
    else:
        found = "a file of another kind" if path.is_file() else "nothing"
        raise UserError(f"data={data}: found {found}, expected {_FORMS}")
    if not source.total:
        raise UserError(f"data={data} holds no image; expected {_FORMS}")
    return source


def pixels_of(image: LabelledImage, max_pixels: int) -> Pixels:
    """Decodes to (H, W, 3) uint8 RGB in the stored frame: an EXIF rotation is not applied.

    Grey is repeated thrice; other modes become RGB as `recon.image.codec.decode` converts them.

    Raises:
        UserError: the file is broken or exceeds `max_pixels`; the text names it.
    """
    try:
        pixels = decode(image.data, max_pixels=max_pixels, convert=True).pixels
    except RejectedImageError as error:
        raise UserError(f"{image.name}: {error}") from error
    return pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)


def _packed(url: str, group_by: str) -> ImageSource:
    if group_by not in INDEX_SCHEMA.names:
        raise UserError(
            f"group_by={group_by}, expected a column of the index: {', '.join(INDEX_SCHEMA.names)}"
        )
    dataset = open_dataset(url)

    def images() -> Iterator[LabelledImage]:
        for group, pair in zip(_groups(dataset, group_by), iterate_pairs(url), strict=True):
            yield LabelledImage(name=f"{pair.key}.real", group=group, label=0, data=pair.real)
            yield LabelledImage(name=f"{pair.key}.fake", group=group, label=1, data=pair.fake)

    return ImageSource(total=2 * dataset.manifest.pairs, images=images)


def _groups(dataset: Dataset, column: str) -> Iterator[str]:
    """A column of all pairs in stored order, as text."""
    for shard in range(len(dataset.manifest.shards)):
        yield from map(str, dataset.table(shard, [column])[column].to_pylist())


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """An image that is still on disk."""

    path: Path
    name: str
    group: str
    label: Literal[0, 1]


def _on_disk(entries: list[_Entry]) -> ImageSource:
    def images() -> Iterator[LabelledImage]:
        for entry in entries:
            data = _read(entry.path)
            yield LabelledImage(name=entry.name, group=entry.group, label=entry.label, data=data)

    return ImageSource(total=len(entries), images=images)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}") from error


def _tree(root: Path) -> ImageSource:
    """The label group is the folder, relative to `root`, that holds 0_real and 1_fake."""
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    entries = [entry for path in files if (entry := _tree_entry(root, path))]
    if len(entries) < len(files):
        strays = len(files) - len(entries)
        raise UserError(
            f"data={root}: {strays} of {len(files)} images lie in no {REAL} or {FAKE} folder; "
            f"expected {_FORMS}"
        )
    return _on_disk(entries)


def _tree_entry(root: Path, path: Path) -> _Entry | None:
    parts = path.relative_to(root).parts
    for depth in reversed(range(len(parts) - 1)):
        if parts[depth] in (REAL, FAKE):
            group = "/".join(parts[:depth]) or root.resolve().name
            label: Literal[0, 1] = 1 if parts[depth] == FAKE else 0
            return _Entry(path=path, name="/".join(parts), group=group, label=label)
    return None


def _table(path: Path) -> ImageSource:
    """``typ`` is ``real`` or a generator's name; the real images stand against every generator."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [column for column in CSV_COLUMNS if column not in (reader.fieldnames or ())]
            if missing:
                raise UserError(
                    f"{path}: expected the columns {','.join(CSV_COLUMNS)}, "
                    f"found {','.join(reader.fieldnames or ()) or 'none'}"
                )
            entries = [_table_entry(path, reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not a CSV in UTF-8: {error}") from error
    return _on_disk(entries)


def _table_entry(table: Path, line: int, row: dict[str, str]) -> _Entry:
    name, kind = row["filename"], row["typ"]
    if not name or not kind:
        raise UserError(f"{table} line {line}: filename and typ must both be given")
    if kind != "real" and kind.strip().casefold() in ("real", "0", "0_real"):
        raise UserError(f"{table} line {line}: typ {kind!r}, expected exactly 'real', or a generator's name")
    path = table.parent / name
    if not path.is_file():
        raise UserError(f"{table} line {line}: there is no file {path}")
    if kind == "real":
        return _Entry(path=path, name=name, group=SHARED, label=0)
    return _Entry(path=path, name=name, group=kind, label=1)
