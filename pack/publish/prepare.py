"""What packing and its dry run decide before the first pair: the output, the autoencoders, the threads."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from pack.base.config import PackConfig
from pack.pipeline.maker import PairMaker
from pack.publish.claim import claimed_threads, is_begun
from pack.shard.manifest import SPLITS
from pack.storage import open_store
from recon.base.errors import UserError


def output_of(config: PackConfig, split: str | None) -> str:
    """Directory or URL of the dataset of a split."""
    return f"{config.out.rstrip('/')}/{split}" if split else config.out


def refuse_other_splits(config: PackConfig, splits: Sequence[str | None]) -> None:
    """Refuses to put a dataset with splits and one without into the same output.

    A test split could then hold photographs that the dataset without splits trains on.

    Raises:
        UserError: the output holds splits and this dataset has none, or the other way round.
    """
    others = SPLITS if None in splits else (None,)
    for other in others:
        if is_begun(open_store(output_of(config, other))):
            raise UserError(
                f"{config.out} holds a dataset {f'with a split {other}' if other else 'without splits'}, and "
                f"this one is {'without' if other else 'with'} splits; choose another --out or delete it"
            )


def with_claimed_threads(config: PackConfig, splits: Sequence[str | None]) -> PackConfig:
    """Fills in the number of threads with which the output was begun, if the options leave it open.

    The reconstructions' bytes depend on this number, and the ranks may have different numbers of CPUs.
    """
    if config.threads:
        return config
    there = (claimed_threads(open_store(output_of(config, split))) for split in splits)
    return replace(config, threads=next(filter(None, there), 0))


def build_maker(config: PackConfig) -> tuple[PackConfig, PairMaker, list[dict[str, Any]]]:
    """The config with the number of threads really used, the pair maker, and its autoencoders' provenances.

    Raises:
        UserError: an autoencoder can't be loaded.
    """
    if config.autoencoder_mode == "each" and "," not in config.autoencoder:
        raise UserError(f"autoencoder_mode=each needs several (a,b,c), but autoencoder={config.autoencoder}")
    if config.has_reconstructions:  # no autoencoder to load, but every row of the index names one
        provenances: list[dict[str, Any]] = [{"autoencoder": "given"}]
        return config, PairMaker(config, [], provenances), provenances
    from recon.models.load import load_several

    autoencoders = load_several(config)
    provenances = [asdict(one.provenance) for one in autoencoders]
    # 0 threads (all CPUs) becomes the real number, so that the claim and other ranks can repeat it.
    config = replace(config, threads=autoencoders[0].provenance.threads)
    return config, PairMaker(config, autoencoders, provenances), provenances
