"""Finds the images that a table lists in a column of paths or URLs, with an optional column of groups."""

import csv
import os
import posixpath
import stat
import sys
from collections.abc import Callable
from functools import partial
from io import BytesIO, StringIO
from typing import Any

from pack.base.config import PackConfig
from pack.base.items import File, Item, store_of
from pack.sources.place import is_url, located, parent
from pack.storage.trouble import refuse_secrets, without_secrets
from recon.base.errors import UserError
from recon.base.paths import folder_name, split_path

_COLUMNS = ("path", "url", "image", "file_name")
_LOCAL_SCHEMES = ("file", "local", "dir", "git")  # schemes of fsspec that read this machine's disk

Splits = dict[str | None, list[Item]]
Table = dict[str, Callable[[], list[Any]]]
"""Column name to a function that reads the column: a Parquet file may have large ones that nobody needs."""


def find_table(config: PackConfig) -> Splits:
    """Finds the images that a .csv (comma, header line, UTF-8) or .parquet table lists.

    Relative paths begin at the table's folder, which may be a directory or a URL. URLs and absolute paths
    stay unchanged, but a table at a URL may not have absolute paths. The group comes from --group_column,
    else it is the folder of the image. Rows are counted from 1, without the header.

    Raises:
        UserError: the table can't be read or lacks a column; or a row has no value, names the image of
            another row, or names a file that the table may not name.
    """
    place = located(config.source)
    folder, name = split_path(place)
    table = read_table(place, store_of(folder).read(name))
    paths = _values(table, place, config.column, "--column")
    groups = _values(table, place, config.group_column, "--group_column") if config.group_column else None
    otherwise = folder_name(folder)
    items: dict[str, Item] = {}
    for number, path in enumerate(paths):
        path, file = file_of(folder, path, f"{place}, row {number + 1}")
        if path in items:
            rows = f"rows {list(items).index(path) + 1} and {number + 1}"
            raise UserError(f"{place}: {rows} both name {path}; keep one of them")
        group = sys.intern(groups[number]) if groups else parent(path, otherwise)
        items[path] = Item(path=path, group=group, real=file)
    for root in {item.real.root for item in items.values()}:
        store_of(root)  # opened now, so that a URL that can't be opened is reported before packing begins
    return {None: list(items.values())}


def read_table(place: str, data: bytes) -> Table:
    """Reads the columns of a table.

    Args:
        place: path or URL, for its suffix and for messages.
        data: its bytes.

    Raises:
        UserError: it is no table of the kind that its suffix says.
    """
    try:
        return _parquet(data) if place.lower().endswith(".parquet") else _csv(data)
    except (ValueError, csv.Error, OSError) as error:  # pyarrow raises ValueError or OSError
        kind = "Parquet" if place.lower().endswith(".parquet") else "CSV in UTF-8 with a header line"
        raise UserError(f"{place} can't be read as {kind}: {error}") from error


def _csv(data: bytes) -> Table:
    # utf-8-sig, because Excel writes a byte order mark
    lines = csv.reader(StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
    header = next(lines, [])
    rows = [line for line in lines if line]  # csv gives [] for an empty line
    for number, row in enumerate(rows, 1):
        if len(row) != len(header):
            raise ValueError(f"row {number} has {len(row)} cells, expected {len(header)}")
    _check_names(header)

    def column(number: int) -> list[Any]:
        return [row[number] for row in rows]

    return {name: partial(column, number) for number, name in enumerate(header)}


def _parquet(data: bytes) -> Table:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(BytesIO(data))
    names: list[str] = file.schema_arrow.names
    _check_names(names)

    def column(name: str) -> list[Any]:
        values: list[Any] = file.read([name]).column(0).to_pylist()
        return values

    return {name: partial(column, name) for name in names}


def _check_names(names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"it has {names.count(name)} columns {name}")


def _values(table: Table, place: str, name: str | None, option: str) -> list[str]:
    """The texts of the column `name`, or of the first usual column that exists."""
    found = name or next((one for one in _COLUMNS if one in table), "")
    if found not in table:
        expected, has = found or " or ".join(_COLUMNS), ", ".join(table) or "an empty header"
        raise UserError(f"{place} has no column {expected}, only {has}; name one with {option}")
    kinds = str if option == "--column" else (str, int)
    values = table[found]()
    for number, value in enumerate(values, 1):
        if value is None or value == "" or (isinstance(value, str) and value.isspace()):
            raise UserError(
                f"{place}, row {number} has no value in column {found}; fill it in or drop the row"
            )
        if not isinstance(value, kinds):
            kind = type(value).__name__
            raise UserError(
                f"{place}: column {found} holds {kind}, expected text; name another with {option}"
            )
    return [str(value) for value in values]


def file_of(folder: str, value: str, where: str) -> tuple[str, File]:
    """The path that identifies a row's image, and its file."""
    if is_url(folder):
        _refuse_local(folder, value, where)
    if is_url(value) and not value.startswith("file://"):
        return value, _remote(value, where)
    value = value.removeprefix("file://")
    if "\0" in value:
        raise UserError(f"{where} holds {value!r}, expected a path or URL")
    if value.startswith("/"):
        return value, _local("/", value.lstrip("/"), where)
    name = posixpath.normpath(value)  # so that a/../b.jpg and b.jpg are found to be one image
    if not is_url(folder):
        return name, _local(folder, name, where)
    if name.startswith("../"):
        raise UserError(f"{where} leads out of {folder} ({value}); give it as a URL")
    return name, File(folder, name)


def _refuse_local(folder: str, value: str, where: str) -> None:
    """Refuses a file of this machine: the author of a table at a URL must not choose what we publish."""
    if value.startswith("/") or (is_url(value) and value.partition("://")[0].lower() in _LOCAL_SCHEMES):
        raise UserError(
            f"{where} names a file of this machine ({value}), but the table comes from {folder}; "
            "expected a URL or a path relative to the table"
        )


def _remote(url: str, where: str) -> File:
    try:
        refuse_secrets(url)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    scheme, _, rest = url.partition("://")
    host, _, name = rest.partition("/")
    if not host or not name or "::" in url:
        raise UserError(f"{where} holds {without_secrets(url)}, expected SCHEME://HOST/PATH")
    return File(sys.intern(f"{scheme}://{host}"), name)


def _local(root: str, name: str, where: str) -> File:
    try:
        found = os.stat(f"{root}/{name}")
    except OSError:  # the image is rejected later, with its cause
        return File(root, name)
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):  # a folder is rejected later, too
        raise UserError(f"{where} names {root}/{name}, which is no file but a pipe, socket or device")
    return File(root, name, found.st_size)
