"""Labels and groups of the rows of a table, and the tables that list paths or URLs of images."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pack.base.items import store_of
from pack.sources.place import source_name
from pack.sources.table import file_of, read_table
from recon.base.errors import UserError
from recon.base.paths import split_path
from train.evaluation.figures.scores import SHARED
from train.evaluation.inputs.files import source_of_files
from train.evaluation.inputs.folders import label_by_folders
from train.evaluation.inputs.labels import CHOICES, Words
from train.evaluation.inputs.source import ImageSource, Label, Listed, with_shared

PATHS = ("filename", "file_name", "path", "url", "image", "image_path", "filepath", "file")
"""Usual columns of paths; the first that is there counts."""
LABELS = ("typ", "label", "class", "target", "cls")
"""Usual columns of labels. ``typ`` is ``real`` or the name of a generator, as in grip-unina's lists."""
GROUPS = ("model", "model_name", "generator", "split")
"""Usual columns of groups."""

Table = Mapping[str, Callable[[], list[Any]]]
"""Column name to a function that reads the column."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns of a table, where the user names them; None: the usual ones."""

    path: str | None = None
    label: str | None = None
    group: str | None = None


def open_table(place: str, words: Words, columns: Columns) -> ImageSource:
    """A .csv or .parquet table of images; relative paths begin at its folder.

    Raises:
        UserError: it can't be read, lacks a column, names an image twice, or its labels can't be told.
    """
    folder, name = split_path(place)
    table = read_table(place, store_of(folder).read(name))
    column = chosen(table, place, columns.path, PATHS, "path_column")
    if column is None:
        raise UserError(
            f"{place} has none of the columns {', '.join(PATHS)}, only {', '.join(table) or 'none'}; "
            "name that of the paths by --path_column"
        )
    names, files = [], []
    for row, value in enumerate(table[column](), 1):
        if not isinstance(value, str) or not value.strip():
            raise UserError(f"{place}, row {row}: expected a path or URL in column {column}, found {value!r}")
        path, file = file_of(folder, value, f"{place}, row {row}")
        names.append(path)
        files.append(file)
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError(f"{place} names {twice[0]} in {names.count(twice[0])} rows; keep one of them")
    return source_of_files("a table", list_rows(table, names, place, words, columns), files)


def list_rows(table: Table, names: list[str], place: str, words: Words, columns: Columns) -> list[Listed]:
    """Labels and groups by the columns of a table, or by the folders in the names if it has no labels.

    Args:
        table: the columns.
        names: that of each row's image.
        place: of the table, for messages and for the group if no column has it.
        words: what the labels' values mean.
        columns: which columns.

    Raises:
        UserError: a column is missing, or a value means neither real nor fake.
    """
    label_column = chosen(table, place, columns.label, LABELS, "label_column")
    labels: list[Label]
    if words.label is not None:
        if label_column is not None:
            raise UserError(f"{place} has the labels in its column {label_column}; leave --label out")
        labels = [words.label] * len(names)
    elif label_column is None:
        found = label_by_folders(names, place, words)
        labels = [one.label for one in found]
        if columns.group is None and not any(name in table for name in GROUPS):
            return found
    else:
        labels = _labels(table, place, label_column, words)
    groups = _groups(table, place, words, columns, label_column, labels)
    rows = zip(names, groups, labels, strict=True)
    return with_shared([Listed(name, group, label, name) for name, group, label in rows])


def chosen(table: Table, place: str, name: str | None, usual: tuple[str, ...], option: str) -> str | None:
    """The column `name`, which must exist, or the first usual one; None if there is none."""
    if name is not None and name not in table:
        raise UserError(f"{place} has no column {name}, expected one of {', '.join(table)}; see --{option}")
    return name or next((one for one in usual if one in table), None)


def _labels(table: Table, place: str, column: str, words: Words) -> list[Label]:
    values = table[column]()
    labels = [words.label_of_value(value, rest_is_fake=column == "typ") for value in values]
    words.check_used(place, f"value of column {column}", values)
    called = (str(value) for value, label in zip(values, labels, strict=True) if label == 1)
    words.check_generators(place, f"in column {column},", called)
    unknown = Counter(repr(value) for value, label in zip(values, labels, strict=True) if label is None)
    if unknown:
        shown = ", ".join(f"{value} ({count})" for value, count in unknown.most_common(5))
        raise UserError(
            f"{place}: column {column} holds {shown}, which says neither real nor fake; {CHOICES}, "
            "or name another column by --label_column"
        )
    return labels


def _groups(
    table: Table, place: str, words: Words, columns: Columns, label_column: str | None, labels: list[Label]
) -> list[str]:
    own = source_name(place)
    column = chosen(table, place, columns.group, GROUPS, "group_column")
    if column is None and label_column is not None and (label_column == "typ" or words != Words()):
        column = label_column  # it holds the names of the generators
    if column is None:
        return [own] * len(labels)
    values = ["" if value is None else str(value).strip() for value in table[column]()]
    if column == label_column:
        return [SHARED if label == 0 else value for value, label in zip(values, labels, strict=True)]
    # A real image without a generator counts in every group; any other image has to have a group.
    return [value or (SHARED if label == 0 else own) for value, label in zip(values, labels, strict=True)]
