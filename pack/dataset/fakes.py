"""The reconstructions of the pairs of an index, where a dataset has several a photograph."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa

from pack.dataset.pairs import StoredPair
from pack.shard.schema import MAKER, MORE_FAKES

OF_FAKE = {"fake_codec": "codec", "fake_field": "field"} | {name: name for name in MAKER}
"""The columns that belong to a reconstruction, and what they are called within ``more_fakes``."""


def values_of(table: pa.Table, column: str) -> list[Any]:
    """The values of a column: one for each pair, or for each reconstruction if it belongs to these.

    Args:
        table: an index, with `column` and, where the dataset has several fakes, ``more_fakes``.
        column: its name.

    Returns:
        The values of the pairs in their order; those of a pair's reconstructions follow each other.
    """
    first: list[Any] = table[column].to_pylist()
    if column not in OF_FAKE or MORE_FAKES not in table.column_names:
        return first
    name, more = OF_FAKE[column], table[MORE_FAKES].to_pylist()
    return [
        value for own, rest in zip(first, more, strict=True) for value in (own, *(one[name] for one in rest))
    ]


def each_fake(pair: StoredPair) -> Iterator[StoredPair]:
    """The pair once for each of its fakes, as if it had no other; its JSON names that one's maker."""
    fakes = {name: data for name, data in pair.members.items() if name.startswith("fake")}
    if len(fakes) < 2:
        yield pair
        return
    record = json.loads(pair.members["json"])
    others = {name: data for name, data in pair.members.items() if name not in fakes}
    makers = [{}, *record.pop(MORE_FAKES)]
    for (name, data), maker in zip(fakes.items(), makers, strict=True):
        about = record | {column: maker[own] for column, own in OF_FAKE.items() if own in maker}
        own = {f"fake.{name.partition('.')[2]}": data, "json": json.dumps(about).encode()}
        yield replace(pair, members=others | own)
