"""Makes a dataset of the older format pairstream/1 one of pairstream/2: new indexes and a new manifest.

    python -m pack.upgrade data/mine/train

The tars stay as they are: each image keeps its name in the tar, KEY.json its nulls. If all pairs have the
same names, the manifest says so. In the index, jpeg_phase is set where the real image is a JPEG file, and
stays null for the others, because no image is read.

Datasets of pairstream/1 can be read without this. Afterwards the manifest is another one: end the training
runs on this dataset first, because a run to be resumed pins the old one. A run of this command that was
stopped must be given again before the dataset can be read.
"""

import os
from dataclasses import dataclass, field

from recon.base.cli import run
from recon.place.alone import refuse_ranks

_PROG = "python -m pack.upgrade"


@dataclass(frozen=True, kw_only=True)
class UpgradeConfig:
    """Which dataset."""

    url: str = field(kw_only=False)
    """Directory or URL of a dataset."""


def main() -> None:
    """The command."""
    run(UpgradeConfig, _job, prog=_PROG, about=__doc__ or "")


def _job(config: UpgradeConfig) -> None:
    from pack.adopt.upgrade import upgrade

    refuse_ranks(os.environ, _PROG)
    upgrade(config.url)
