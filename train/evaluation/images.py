"""Labelled images to score: a packed dataset, a folder tree, or a CSV.

Bytes are read one image at a time, so that a source of any size streams.
"""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pack.dataset.dataset import Dataset, iterate_pairs, open_dataset
from pack.dataset.fakes import values_of
from pack.shard.schema import INDEX_SCHEMA, MORE_FAKES, fake_name
from pack.storage.trouble import reading
from recon.base.errors import RejectedImageError, UserError
from recon.base.paths import expanded, is_dir, is_file
from recon.image.codec import Pixels, as_rgb, decode
from recon.listing import FAKE, REAL, images_below
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
    """The bytes of an image file, with its name and labels."""

    name: str
    """Path relative to the source, or the pair's key with ``.real``, ``.fake``, ``.fake2``, ..."""
    group: str
    """Label group (generator); `train.evaluation.metrics.SHARED` for a real image that has none."""
    label: Literal[0, 1]
    """0 real, 1 fake."""
    data: bytes
    """The file."""


@dataclass(frozen=True, kw_only=True)
class ImageSource:
    """Images to score; each call of `images` begins again with the first one."""

    total: int
    """Number of images."""
    images: Callable[[], Iterator[LabelledImage]]
    """Reads them, in a fixed order."""


def open_source(data: str, group_by: str = "group") -> ImageSource:
    """Opens a packed dataset, a folder tree or a CSV, whichever `data` is.

    Args:
        data: directory, URL or CSV file.
        group_by: the index column that gives the label groups of a packed dataset.

    Raises:
        UserError: `data` has none of the three forms, can't be read, holds no image, or its index has no
            such column.
    """
    path = expanded(data)
    if "://" in data or is_file(path / "dataset.json"):
        source = _packed(data, group_by)
    elif group_by != "group":
        raise UserError(f"group_by={group_by} is for packed datasets, and data={data} is none; leave it out")
    elif is_dir(path):
        source = _tree(path)
    elif is_file(path) and path.suffix.lower() == ".csv":
        source = _table(path)
    else:
        found = "a file of another kind" if is_file(path) else "nothing"
        raise UserError(f"data={data}: found {found}, expected {_FORMS}")
    if not source.total:
        raise UserError(f"data={data} holds no image; expected {_FORMS}")
    return source


def pixels_of(image: LabelledImage, max_pixels: int) -> Pixels:
    """Decodes an image to (H, W, 3) uint8 RGB as it is stored: an EXIF rotation is not applied.

    A grey image gets three equal channels; other kinds are converted as in training (`recon.image.modes`).

    Raises:
        UserError: the file is broken or exceeds `max_pixels`; the message names the file.
    """
    try:
        return as_rgb(decode(image.data, max_pixels=max_pixels, convert=True).pixels)
    except RejectedImageError as error:
        raise UserError(f"{image.name}: {error}") from error


def _packed(url: str, group_by: str) -> ImageSource:
    if group_by not in INDEX_SCHEMA.names:
        raise UserError(
            f"group_by={group_by}, expected a column of the index: {', '.join(INDEX_SCHEMA.names)}"
        )
    dataset = open_dataset(url)

    fakes = dataset.manifest.fakes

    def images() -> Iterator[LabelledImage]:
        for groups, pair in zip(_groups(dataset, group_by), iterate_pairs(url), strict=True):
            # The fakes of one photograph may belong to several groups: then it is compared with all of them.
            own = groups[0] if len(set(groups)) == 1 else SHARED
            yield LabelledImage(name=f"{pair.key}.real", group=own, label=0, data=pair.real)
            for number, (group, data) in enumerate(zip(groups, pair.fakes, strict=True)):
                yield LabelledImage(name=f"{pair.key}.{fake_name(number)}", group=group, label=1, data=data)

    return ImageSource(total=(1 + fakes) * dataset.manifest.pairs, images=images)


def _groups(dataset: Dataset, column: str) -> Iterator[list[str]]:
    """For all pairs in stored order the values of an index column, one for each fake, as text."""
    fakes = dataset.manifest.fakes
    more = [MORE_FAKES] if fakes > 1 else []
    for shard in range(len(dataset.manifest.shards)):
        values = list(map(str, values_of(dataset.table(shard, [column, *more]), column)))
        each = len(values) // dataset.manifest.shards[shard].pairs  # 1 where it is a column of the pair
        for start in range(0, len(values), each):
            yield values[start : start + each] * (fakes // each)


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """An image file that has not been read yet."""

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
    with reading(path):
        return path.read_bytes()


def _tree(root: Path) -> ImageSource:
    """The label group is the folder, relative to `root`, that holds 0_real and 1_fake."""
    names = _image_names(root)
    entries = [entry for name in names if (entry := _tree_entry(root, name))]
    if len(entries) < len(names):
        strays = len(names) - len(entries)
        raise UserError(
            f"data={root}: {strays} of {len(names)} images lie in no {REAL} or {FAKE} folder; "
            f"expected {_FORMS}"
        )
    return _on_disk(entries)


def _image_names(root: Path) -> list[str]:
    """Names of the image files below a folder, sorted."""
    found = images_below(root)
    if gone := next((name for name, size in found if size is None), None):
        raise UserError(f"{root / gone} is a link to a file that is not there; remove or repair it")
    return sorted((name for name, _ in found), key=lambda name: name.split("/"))


def _tree_entry(root: Path, name: str) -> _Entry | None:
    parts = name.split("/")
    for depth in reversed(range(len(parts) - 1)):  # the innermost 0_real or 1_fake folder counts
        if parts[depth] in (REAL, FAKE):
            # resolve: a root such as "." has no name of its own.
            group = "/".join(parts[:depth]) or root.resolve().name
            label: Literal[0, 1] = 1 if parts[depth] == FAKE else 0
            return _Entry(path=root / name, name=name, group=group, label=label)
    return None


def _table(path: Path) -> ImageSource:
    """``typ`` is ``real`` or a generator's name; each generator is compared with all real images."""
    try:
        # utf-8-sig: Excel begins a CSV with a byte order mark, which would join the first column's name.
        with reading(path), path.open(newline="", encoding="utf-8-sig") as file:
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
    # Such a row would otherwise count as the images of a generator called "Real".
    if kind != "real" and kind.strip().casefold() in ("real", "0", "0_real"):
        raise UserError(f"{table} line {line}: typ {kind!r}, expected exactly 'real', or a generator's name")
    path = table.parent / name
    if not is_file(path):
        raise UserError(f"{table} line {line}: there is no file {path}")
    if kind == "real":
        return _Entry(path=path, name=name, group=SHARED, label=0)
    return _Entry(path=path, name=name, group=kind, label=1)
