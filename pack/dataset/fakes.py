"""The reconstructions of the pairs of an index, where a dataset has several a photograph."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa

from pack.dataset.pairs import StoredPair
from pack.shard.schema import MAKER, MORE_FAKES

OF_FAKE = {f"fake_{name}": name for name in ("codec", "field", "offset", "size", "crc32")}
OF_FAKE |= {name: name for name in MAKER}
"""The columns that belong to a reconstruction, and what they are called within ``more_fakes``."""


def more_fakes(table: pa.Table) -> list[pa.StructArray]:
    """The further reconstructions: for fake2, fake3 and so on the column of all pairs."""
    if MORE_FAKES not in table.column_names or not table.num_rows or not table[MORE_FAKES][0].is_valid:
        return []  # no column, no pair, or a column of nulls
    column = table[MORE_FAKES].combine_chunks()
    every, count = column.flatten(), len(column[0])
    assert len(every) == count * len(column), "all pairs of a dataset have equally many"
    return [every.take(pa.array(range(number, len(every), count))) for number in range(count)]


def by_fake(table: pa.Table) -> Iterator[pa.Table]:
    """The table of some columns once for each fake, as if the pairs had no other.

    Args:
        table: an index; without ``more_fakes`` it stands for the first fakes.
    """
    yield table
    for more in more_fakes(table):
        one = table
        for column in OF_FAKE.keys() & set(table.column_names):
            one = one.set_column(one.column_names.index(column), column, more.field(OF_FAKE[column]))
        yield one


def values_of(table: pa.Table, column: str) -> list[Any]:
    """The values of a column: one for each pair, or for each reconstruction if it belongs to these.

    Args:
        table: an index, with `column` and, where the dataset has several fakes, ``more_fakes``.
        column: its name.

    Returns:
        The values of the pairs in their order; those of a pair's reconstructions follow each other.
    """
    fakes = by_fake(table) if column in OF_FAKE else [table]
    columns = (one[column].to_pylist() for one in fakes)
    return [value for values in zip(*columns, strict=True) for value in values]


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
        member, _, suffix = name.partition(".")
        own = {f"fake.{suffix}": data, "json": json.dumps(about).encode()}
        hints = {to: pair.hints[one] for to, one in (("real", "real"), ("fake", member)) if one in pair.hints}
        yield replace(pair, members=others | own, hints=hints)
