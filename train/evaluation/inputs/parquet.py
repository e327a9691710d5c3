"""Parquet files that hold the images themselves, as datasets of Hugging Face's hub do."""

import io
import json
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pack.base.items import File, store_of
from recon.base.errors import RejectedImageError, UserError
from train.evaluation.inputs.labels import Words
from train.evaluation.inputs.source import ImageSource, Read
from train.evaluation.inputs.tables import Columns, list_rows

IMAGES = ("image", "image_data", "img", "jpg", "png", "webp", "bytes")
"""Usual columns of images: bytes, or a struct of ``bytes`` and ``path``."""


class _Object(io.RawIOBase):
    """An object in storage as a file that can be read in parts."""

    def __init__(self, file: File) -> None:
        self._file, self._size, self._place = file, file.measured(), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        count = max(0, min(len(buffer), self._size - self._place))
        if count:
            buffer[:count] = store_of(self._file.root).read_range(self._file.name, self._place, count)
        self._place += count
        return count


@cache
def _metadata(file: File) -> pq.FileMetaData:
    return pq.ParquetFile(_Object(file)).metadata


def _rows(file: File, group: int) -> int:
    """The number of rows of a row group."""
    return int(_metadata(file).row_group(group).num_rows)


def _opened(file: File) -> pq.ParquetFile:
    """Opens a file anew, because one reader must not serve several threads."""
    try:
        return pq.ParquetFile(_Object(file), metadata=_metadata(file), pre_buffer=True)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file.url} can't be read as Parquet: {error}") from error


def holds_images(file: File) -> bool:
    """Whether a Parquet file has a column of images."""
    return _image_column(_opened(file)) is not None


def _image_column(file: pq.ParquetFile, name: str | None = None) -> str | None:
    found = [one.name for one in file.schema_arrow if _is_image(one.type) and name in (None, one.name)]
    return next((one for one in (*IMAGES, *found) if one in found), None)


def _is_image(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(kind.field(at).name == "bytes" for at in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def open_parquet(place: str, files: Sequence[File], words: Words, columns: Columns) -> ImageSource:
    """Parquet files; a row is an image, and a row group is read at once.

    Args:
        place: what the user named, for messages and for the group of images that tell none.
        files: the files there, at least one.
        words: what means real and fake.
        columns: the columns that the user named.

    Raises:
        UserError: one can't be read or has no column of images, or labels can't be told.
    """
    opened = [_opened(file) for file in files]
    image = _image_column(opened[0], columns.path)
    if image is None:
        raise UserError(f"{files[0].url} has no column of images; name it by --path_column")
    readers = list(zip(files, opened, strict=True))
    names = [f"{file.name}#{row}" for file, one in readers for row in range(one.metadata.num_rows)]
    listed = list_rows(_table(opened), names, place, words, columns)
    every = [(file, group) for file, one in readers for group in range(one.num_row_groups)]
    groups = [one for one in every if _rows(*one)]
    counts = [_rows(*one) for one in groups]
    starts = np.cumsum([0, *counts])

    def read(first: int, count: int) -> list[Read]:
        number = int(np.searchsorted(starts, first, side="right")) - 1
        assert (starts[number], counts[number]) == (first, count), "row groups are read as a whole"
        file, group = groups[number]
        values = _opened(file).read_row_group(group, [image]).column(0).to_pylist()
        return [_bytes(value) for value in values]

    return ImageSource(kind="Parquet with images", listed=listed, read=read, blocks=counts)


def _table(files: list[pq.ParquetFile]) -> dict[str, Callable[[], list[Any]]]:
    """The columns of all files together, but those of images."""
    plain = [one.name for one in files[0].schema_arrow if not _is_image(one.type)]
    return {name: partial(_column, files, name) for name in plain}


def _column(files: list[pq.ParquetFile], name: str) -> list[Any]:
    values: list[Any] = list(chain.from_iterable(one.read([name]).column(0).to_pylist() for one in files))
    names = _class_names(files[0].schema_arrow, name)
    if names is None:
        return values
    return [names[value] if isinstance(value, int) and 0 <= value < len(names) else value for value in values]


def _class_names(schema: pa.Schema, column: str) -> list[str] | None:
    """What the numbers of a column mean, if the file's metadata of `datasets` say so (its ClassLabel)."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names: list[str] | None = features[column].get("names")
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return names


def _bytes(value: Any) -> Read:
    data = value.get("bytes") if isinstance(value, dict) else value
    return bytes(data) if data is not None else RejectedImageError("can't be read: the row holds no bytes")
