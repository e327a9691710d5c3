"""The scores of a set of images, and their file scores.csv."""

import csv
import io
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pack.storage import open_store
from recon.base.errors import UserError
from recon.base.options import refuse_special
from recon.base.paths import is_dir, printable, split_path

SHARED = ""
"""The label group of real images that are compared with the fakes of every group."""
OVERALL = SHARED
"""The key of the row for all images together. No group can have this name, because it means `SHARED`."""

FILE = "scores.csv"
COLUMNS = ("name", "group", "label", "logit", "photograph")
"""The columns of scores.csv; the group is empty for a real image that counts in all groups, the label where
it is unknown. Images of one photograph (a real one and its fakes) share the last column."""
NEEDED = COLUMNS[:-1]
"""The columns that a file of scores must have; a column ``photograph`` is used if it is there."""
_CLASSES = {"0_real", "1_fake", "real", "fake", "nature", "ai"}
_HALVES = (".real", ".fake")


@dataclass(frozen=True, kw_only=True)
class Scores:
    """N scored images; their order has no meaning."""

    names: Sequence[str]
    """Name of each image."""
    groups: Sequence[str]
    """Label group of each image; `SHARED` for a real image that counts in all groups."""
    photographs: Sequence[str]
    """What is resampled together: equal for an image and all that was made from it."""
    labels_N: NDArray[np.integer]
    """0 real, 1 fake."""
    logits_N: NDArray[np.float64]
    """Above 0 for fake; finite."""

    def __post_init__(self) -> None:
        """Checks labels and logits; UserError if there is no image, or one of them has no such value."""
        count = len(self.logits_N)
        lengths = [len(self.names), len(self.groups), len(self.photographs), len(self.labels_N)]
        assert lengths == [count] * 4, (lengths, count)
        if not count:
            raise UserError("there are no scores; expected at least one image")
        if not np.isin(self.labels_N, (0, 1)).all():
            raise UserError(f"labels {sorted(set(self.labels_N.tolist()))}, expected 0 (real) and 1 (fake)")
        if bad := int((~np.isfinite(self.logits_N)).sum()):
            raise UserError(f"{bad} of {count} logits are not finite; the model has diverged")

    def photograph_numbers(self) -> NDArray[np.int64]:
        """(N,) the number of each image's photograph, counted from 0 in the order of their names."""
        numbers_N: NDArray[np.int64] = np.unique(
            np.array(self.photographs, dtype=object), return_inverse=True
        )[1]
        return numbers_N

    def chosen(self, chosen_N: NDArray[Any]) -> "Scores":
        """The images at some places, given as indices or as booleans."""
        places = np.arange(len(self.names))[chosen_N]
        return Scores(
            names=[self.names[place] for place in places],
            groups=[self.groups[place] for place in places],
            photographs=[self.photographs[place] for place in places],
            labels_N=self.labels_N[places],
            logits_N=self.logits_N[places],
        )

    def of_group(self, name: str) -> "Scores":
        """The images of a label group, with those of `SHARED`."""
        groups_N = np.array(self.groups, dtype=object)  # numpy's own strings lose trailing NULs
        return self.chosen((groups_N == name) | (groups_N == SHARED))


def photograph_of(name: str, group: str) -> str:
    """What an image was made from, as far as its name tells.

    The halves ``KEY.real`` and ``KEY.fake`` of a pair have one photograph. Of a path, the folders that name
    the class or the group are left out, and the suffix: ``gan/0_real/7.png`` and ``gan/1_fake/7.jpg`` have
    one photograph, and so have ``real/7.png`` and ``flux/7.png``, if flux is a group.

    Args:
        name: of the image.
        group: its label group.
    """
    if name.endswith(_HALVES):
        return name[: -len(_HALVES[0])]
    *folders, file = name.split("/")
    dropped = _CLASSES | set(group.split("/"))
    stem = file.rpartition(".")[0] or file
    return "/".join([*(folder for folder in folders if folder not in dropped), stem])


def scores_file(place: str) -> str:
    """The path of the scores that an evaluation wrote into a folder or URL, or the file that is named."""
    return f"{place.rstrip('/')}/{FILE}" if is_dir(place) or not place.lower().endswith(".csv") else place


def read_scores(place: str) -> Scores:
    """Reads scores.csv, as ``train.evaluate`` writes it or with these columns from elsewhere.

    Args:
        place: the file, or the folder or URL of an evaluation.

    Raises:
        UserError: there is no such file, a column is missing, a row has no valid label or logit, or two
            images of a group have one name. The message names the line.
    """
    refuse_special(place, place)
    path = scores_file(place)
    folder, name = split_path(path)
    store = open_store(folder)
    if not store.exists(name):
        raise UserError(f"{path} not found; expected scores that python -m train.evaluate wrote")
    try:
        text = store.read(name).decode("utf-8-sig", "surrogateescape")
        reader = csv.DictReader(io.StringIO(text, newline=""))
        if set(NEEDED) - set(reader.fieldnames or ()):
            found = printable(",".join(reader.fieldnames or ()) or "none")
            raise UserError(f"{path}: expected the columns {','.join(NEEDED)}, found {found}")
        if doubled := [name for name in COLUMNS if (reader.fieldnames or []).count(name) > 1]:
            raise UserError(f"{path} has several columns {doubled[0]}, expected one")
        # An evaluation leaves the label empty where it is unknown.
        rows = [_row(f"{path} line {reader.line_num}", row) for row in reader if row["label"] != ""]
    except csv.Error as error:
        raise UserError(f"{path} is not a CSV: {error}") from error
    if not rows:
        raise UserError(f"{path} holds no score with a label; expected a row for each image")
    (twice, times), *_ = Counter((row[0], row[1]) for row in rows).most_common(1)
    if times > 1:
        raise UserError(f"{path}: {times} rows are called {twice[0]!r} in group {twice[1]!r}, expected one")
    names, groups, photographs, labels, logits = zip(*rows, strict=True)
    return Scores(
        names=names,
        groups=groups,
        photographs=photographs,
        labels_N=np.array(labels),
        logits_N=np.array(logits),
    )


def scores_bytes(rows: Iterable[Sequence[object]]) -> bytes:
    """The file of scores.

    Args:
        rows: a value for each of `COLUMNS`; the logit is a Python float.
    """
    return csv_bytes(COLUMNS, rows)


def csv_bytes(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """A CSV file with a line of names; names of files keep their bytes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    # All digits of a float, as csv writes them: a threshold that is one of these scores must equal it.
    writer.writerows(rows)
    return encoded(text.getvalue())


def encoded(text: str) -> bytes:
    """UTF-8, in which names of files that are not UTF-8 keep their bytes."""
    return text.encode("utf-8", "surrogateescape")


def _row(where: str, row: dict[Any, Any]) -> tuple[str, str, str, int, float]:
    if None in row:  # where csv.DictReader puts what no column has
        raise UserError(f"{where} has more cells than there are columns")
    name, group, label = row["name"] or "", row["group"] or "", row["label"]
    if label not in ("0", "1"):
        raise UserError(f"{where}: label {label!r}, expected 0 (real) or 1 (fake)")
    try:
        logit = float(row["logit"])
    except (TypeError, ValueError):
        logit = math.nan
    if not math.isfinite(logit):
        raise UserError(f"{where}: logit {row['logit']!r}, expected a finite number")
    return name, group, row.get("photograph") or photograph_of(name, group), int(label), logit
