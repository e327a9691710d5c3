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
for {names} in wds.WebDataset(tars, shardshuffle=False).decode("pil").to_tuple({fields}):
    ...
"""

_PAIRSTREAM = """\
from train import PairLoader

for batch in PairLoader("FOLDER{place}", batch_size=32):  # augmented crops
    pairs = batch.images[batch.mask]  # (B, 2, 3, 96, 96) uint8: real, fake
"""


def snippets(fields: Fields, split: str, folder: str) -> dict[str, str]:
    """By the name of a package, the lines that read a split with it.

    Args:
        fields: of the samples.
        split: its name for ``datasets``.
        folder: where it lies below the dataset, such as ``train/``; may be empty.
    """
    columns = fields.columns | ({"about": fields.about} if fields.about else {})
    values = "\n".join(f"    {name} = {_value(column)}" for name, column in columns.items())
    # webdataset turns all names into small letters.
    small = [dict.fromkeys(name.lower() for name in column) for column in columns.values()]
    joined = ", ".join(f'"{";".join(names)}"' for names in small)
    return {
        "datasets": _DATASETS.format(split=split, values=values),
        "webdataset": _WEBDATASET.format(folder=folder, names=", ".join(columns), fields=joined),
        "pairstream": _PAIRSTREAM.format(place=f"/{folder}".rstrip("/")),
    }


def _value(columns: Sequence[str]) -> str:
    """The value of a column; of several, a row has one and None in the others."""
    return " or ".join(f'pair["{column}"]' for column in columns)
