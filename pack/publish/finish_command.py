"""Completes a dataset whose shards were packed by many processes: writes its manifest.

    python -m pack.finish s3://bucket/mine

The last process of python -m pack does this by itself. Use this command if that process was killed, or if
it ended before it could see the last shard of another process. It reads the output only. If shards are
missing, it names them and exits with status 2: run their ranks again, or all ranks.
"""

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from recon.base.cli import run
from recon.base.errors import UnreachableError, UserError
from recon.base.progress import counted

if TYPE_CHECKING:
    from pack.storage import Store

_SHOWN = 5  # names of missing shards
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FinishConfig:
    """Which dataset."""

    url: str = field(kw_only=False)
    """Directory or URL of a dataset, or the parent of its splits train/, val/ and test/."""


def main() -> None:
    """The command."""
    run(FinishConfig, _job, prog="python -m pack.finish", about=__doc__ or "")


def _job(config: FinishConfig) -> None:
    from pack.publish.finish import put_card_above
    from pack.shard.manifest import SPLITS

    failed: list[str] = []
    for store in begun(config.url.rstrip("/")):
        try:
            finish_store(store)
        except UnreachableError:
            raise
        except UserError as error:  # go on: the other splits may have all their shards
            failed.append(str(error))
    put_card_above(config.url, SPLITS)
    if failed:
        raise UserError("; ".join(failed))


def begun(url: str) -> list["Store"]:
    """The store of the dataset at a URL, or the stores of its splits.

    Raises:
        UserError: nothing was packed there.
    """
    from pack.publish.claim import is_begun
    from pack.shard.manifest import NAME, PLAN, SPLITS
    from pack.storage import open_store

    below = [open_store(f"{url}/{split}") for split in SPLITS]
    for stores in ([open_store(url)], below):
        if found := list(filter(is_begun, stores)):
            return found
    raise UserError(f"{url} holds neither {NAME} nor {PLAN}: nothing was packed there; is the URL right?")


def finish_store(store: "Store") -> None:
    """Completes a dataset.

    Raises:
        UserError: shards are missing or damaged, or none of the images became a pair.
    """
    from pack.publish.claim import read_claim
    from pack.publish.finish import check_files, finish
    from pack.shard.manifest import read_manifest

    claim = read_claim(store)
    if claim is None:
        manifest = read_manifest(store)
        check_files(store, manifest)
        _LOG.info("%s is complete already (%s), nothing to do", store.url, counted(manifest.pairs, "pair"))
        return
    if missing := finish(store, claim):
        shown = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
        raise UserError(
            f"{store.url} lacks {len(missing)} of {claim.shards} shards ({shown}); "
            "run python -m pack again for them, then python -m pack.finish"
        )
