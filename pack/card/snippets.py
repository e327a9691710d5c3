"""How to read a dataset, as Python for its card; FOLDER stands for where the dataset lies."""

from collections.abc import Sequence

from pack.card.fields import Fields

_DATASETS = """\
from datasets import load_dataset

pairs = load_dataset("FOLDER", split="{split}", streaming=True)  # or its name on Hugging Face's hub
for pair in pairs:
{values}
"""

_WEBDATASET = """\
from glob import glob

import webdataset as wds

tars = sorted(glob("FOLDER/{folder}*.tar"))
samples = wds.WebDataset(tars, shardshuffle=False{select})
for {names} in samples.decode("pil").to_tuple({fields}):
    ...
"""

_PAIRSTREAM = """\
from train import PairLoader

for batch in PairLoader("FOLDER{place}", batch_size=32):  # augmented crops
    pairs = batch.images[batch.mask]  # (B, 2, 3, 96, 96) uint8: real, fake
"""


_UNHIDDEN = ', select_files=lambda name: "/." not in f"/{name}"'
"""Of tars that others wrote: webdataset takes hidden members for samples, unless they lie at the root."""


def snippets(fields: Fields, split: str, folder: str, rejected: int = 0) -> dict[str, str]:
    """By the name of a package, the lines that read a split with it.

    Args:
        fields: of the samples.
        split: its name for ``datasets``.
        folder: where it lies below the dataset, such as ``train/``; may be empty.
        rejected: samples of its tars that are no pairs.
    """
    columns = fields.columns | ({"about": fields.about} if fields.about else {})
    values = "\n".join(f"    {name} = {_value(column)}" for name, column in columns.items())
    # webdataset turns all names into small letters.
    small = [dict.fromkeys(name.lower() for name in column) for column in columns.values()]
    joined = ", ".join(f'"{";".join(names)}"' for names in small)
    joined += ", missing_is_error=False" if rejected else ""  # None in place of what such a sample lacks
    select = "" if fields.has_record else _UNHIDDEN
    return {
        "datasets": _DATASETS.format(split=split, values=values),
        "webdataset": _WEBDATASET.format(
            folder=folder, names=", ".join(columns), fields=joined, select=select
        ),
        "pairstream": _PAIRSTREAM.format(place=f"/{folder}".rstrip("/")),
    }


def _value(columns: Sequence[str]) -> str:
    """The value of a column; of several, a row has one and None in the others."""
    return " or ".join(f'pair["{column}"]' for column in columns)
