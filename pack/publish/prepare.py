"""What packing and its dry run decide before the first pair: the output, the autoencoders, the threads."""

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from typing import Any

from pack.base.config import PackConfig
from pack.pipeline.maker import PairMaker
from pack.publish.claim import claimed_threads, is_begun
from pack.shard.manifest import SPLITS
from pack.storage import open_store
from recon.base.errors import UserError
from recon.models.types import Autoencoder


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
    if config.autoencoder_mode == "each" and not config.has_several:
        raise UserError(f"autoencoder_mode=each needs several (a,b,c), but autoencoder={config.autoencoder}")
    if config.has_reconstructions:  # no autoencoder to load, but every row of the index names one
        provenances: list[dict[str, Any]] = [{"autoencoder": "given"}]
        return config, PairMaker(config, [], provenances), provenances
    from recon.models.load import load_several

    fakes = _fakes(config)  # before the autoencoders are loaded, so that a mistake shows at once
    autoencoders = load_several(config)
    if not config.has_several:  # for each posterior sample one of its own
        autoencoders = [_with_seed(autoencoders[0], config.seed + number) for number in range(fakes)]
    provenances = [one.provenance.recorded() for one in autoencoders]
    # 0 threads (all CPUs) becomes the real number, so that the claim and other ranks can repeat it.
    config = replace(config, threads=autoencoders[0].provenance.threads, fakes_per_real=fakes)
    return config, PairMaker(config, autoencoders, provenances), provenances


def _fakes(config: PackConfig) -> int:
    """The number of reconstructions in a sample; refuses more than can be made."""
    wanted, count = config.fakes_per_real, len(config.autoencoder.split(","))
    if count > 1 and wanted != "all" and wanted > count:
        raise UserError(
            f"fakes_per_real={wanted}, but --autoencoder names {count}; name more, or pass at most {count}"
        )
    if count == 1 and wanted != 1 and (wanted == "all" or config.posterior == "mode"):
        raise UserError(
            f"fakes_per_real={wanted}, but one autoencoder ({config.autoencoder}) makes one reconstruction; "
            "name several (a,b,c), or give a number of samples with --posterior sample"
        )
    return count if wanted == "all" else wanted


def _with_seed(autoencoder: Autoencoder, seed: int) -> Autoencoder:
    """The same autoencoder, its weights in memory once, with another seed for its posterior samples."""
    other = copy(autoencoder)
    other.provenance = replace(autoencoder.provenance, seed=seed)
    return other
