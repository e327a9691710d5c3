"""Makes a dataset of existing tars of pairs, written with plain webdataset: adds indexes and a manifest.

    python -m pack.index data/theirs
    python -m pack.index s3://bucket/pairs --real jpg --fake recon.png --name theirs
    python -m pack.index "data/theirs/{000..099}.tar" --group coco --skip_incomplete true
    python -m pack.index data/older --entries

Every tar is read once and stays unchanged. The command writes NAME.parquet next to each NAME.tar, then
dataset.json; after that the directory is a dataset like those of python -m pack.

The index also tells where decoding of each JPEG can begin, and the colours of each image, so that training
decodes no more of it than it needs. Datasets without that are decoded whole, to the same pixels. --entries
adds it to theirs, reading every pair once. Afterwards the manifest is another one: end the training runs on
this dataset first, because a run to be resumed pins the old one. If --entries was stopped, give it again
before the dataset is read.
"""

import os
import signal
from types import FrameType
from typing import NoReturn

from pack.adopt.config import IndexConfig
from recon.base.cli import run
from recon.place.alone import refuse_ranks

_PROG = "python -m pack.index"


def main() -> None:
    """The command."""
    run(IndexConfig, _job, prog=_PROG, about=__doc__ or "")


def _job(config: IndexConfig) -> None:
    from pack.adopt.adopt import adopt

    refuse_ranks(os.environ, _PROG)
    before = signal.signal(signal.SIGTERM, _end)  # what was written is taken back, as after Ctrl-C
    try:
        adopt(config)
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
