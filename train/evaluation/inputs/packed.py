"""The pairs of a packed dataset as single images."""

from collections.abc import Iterator

import numpy as np

from pack.dataset.dataset import Dataset, open_dataset
from pack.dataset.fakes import values_of
from pack.dataset.pairs import DamagedPair, StoredPair
from pack.shard.names import fake_name
from pack.shard.schema import INDEX_SCHEMA, MORE_FAKES
from recon.base.errors import UserError
from train.evaluation.figures.scores import SHARED
from train.evaluation.inputs.source import DamagedError, ImageSource, Listed, Read

_PAIRS = 16  # read together


def open_packed(url: str, group_by: str) -> ImageSource:
    """A dataset of `pack`: the images of a pair, the real one first, then each of its fakes.

    Args:
        url: directory or URL that holds ``dataset.json``.
        group_by: the column of the index that gives the label groups.

    Raises:
        UserError: there is no such column, or the dataset can't be read.
    """
    if group_by not in INDEX_SCHEMA.names:
        raise UserError(
            f"group_by={group_by}, expected a column of the index: {', '.join(INDEX_SCHEMA.names)}"
        )
    dataset = open_dataset(url)
    listed, blocks = list(_listed(dataset, group_by)), []
    for shard, entry in enumerate(dataset.manifest.shards):
        for first in range(0, entry.pairs, _PAIRS):
            blocks.append((shard, first, min(_PAIRS, entry.pairs - first)))
    each = 1 + dataset.manifest.fakes
    starts = np.cumsum([0, *(each * count for _, _, count in blocks)])

    def read(first: int, count: int) -> list[Read]:
        number = int(np.searchsorted(starts, first))
        assert (starts[number], starts[number + 1]) == (first, first + count), "blocks are read as a whole"
        return [image for pair in dataset.read_block(*blocks[number]) for image in _images(pair, each)]

    return ImageSource(
        kind="a packed dataset", listed=listed, read=read, blocks=[each * count for _, _, count in blocks]
    )


def _listed(dataset: Dataset, column: str) -> Iterator[Listed]:
    fakes = dataset.manifest.fakes
    for shard in range(len(dataset.manifest.shards)):
        more = [MORE_FAKES] if fakes > 1 else []
        table = dataset.table(shard, sorted({"key", "path", column, *more}))
        values = list(map(str, values_of(table, column)))
        each = len(values) // max(1, table.num_rows)  # 1 where it is a column of the pair
        for row, (key, path) in enumerate(
            zip(table["key"].to_pylist(), table["path"].to_pylist(), strict=True)
        ):
            groups = values[row * each : (row + 1) * each] * (fakes // each)
            photograph = str(path or key)
            # The fakes of one photograph may belong to several groups: then it is compared with all of them.
            shared = groups[0] if len(set(groups)) == 1 else SHARED
            yield Listed(f"{key}.real", shared, 0, photograph)
            for number, group in enumerate(groups):
                yield Listed(f"{key}.{fake_name(number)}", group, 1, photograph)


def _images(pair: StoredPair | DamagedPair, count: int) -> list[Read]:
    if isinstance(pair, DamagedPair):
        return [DamagedError(f"damaged in the dataset: {pair.cause}")] * count
    return [pair.real, *pair.fakes]
