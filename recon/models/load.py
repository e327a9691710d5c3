"""Loads an autoencoder by its name and records where it came from and how it runs.

    autoencoder = load(ReconstructionConfig(autoencoder="sd15"))
    fakes = reconstruct(autoencoder, reals, keys, batch_size=8)     # recon/reconstruct.py

Importing this module does not import torch; `load` does.
"""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from recon.base.cpus import available_cpus
from recon.base.errors import UserError
from recon.models.adapters import check_posterior, known_class
from recon.models.config import ReconstructionConfig
from recon.models.files.source import CONFIG, open_source
from recon.models.locate import Location, locate
from recon.models.presets import IDENTITY
from recon.models.types import Autoencoder, Identity, Provenance
from recon.place.ranks import local_rank

_LOG = logging.getLogger(__name__)


def load(config: ReconstructionConfig) -> Autoencoder:
    """Loads the autoencoder that `config` names, ready to run; sets torch's number of threads.

    Raises:
        UserError: the autoencoder can't be found, read, or run with these options.
    """
    if config.autoencoder == IDENTITY:
        here = Location(name=IDENTITY, folder=Path(), subfolder=None, revision=None)
        check_posterior(IDENTITY, IDENTITY, config.posterior)
        return Identity(_provenance(config, here, model_class=IDENTITY, downscale=1, device="cpu", sha256=""))
    location = locate(config)
    source = open_source(location.folder)
    model_class = known_class(source.settings.get("_class_name"), source.files[0].with_name(CONFIG))
    check_posterior(location.name, model_class, config.posterior)

    # Imported after these checks, so that a mistake is reported before torch's slow import.
    from recon.base.device import find_device, prepare_cpu
    from recon.models.network import Network, from_pretrained, measured_downscale

    prepare_cpu(_threads(config))
    place = find_device(config.device, local_rank())
    with source.as_folder() as files:
        model = from_pretrained(model_class, files, config.dtype).to(place)
    provenance = _provenance(
        config,
        location,
        model_class=model_class,
        downscale=measured_downscale(model, model_class),
        device=place.type,
        sha256=_sha256(source.files),
    )
    return Network(model, provenance)


def load_several(config: ReconstructionConfig) -> list[Autoencoder]:
    """Loads one or several autoencoders that `config` names as ``a,b,c``, in this order.

    Raises:
        UserError: one can't be loaded or is named twice, or an option is for a single autoencoder only.
    """
    names = [name.strip() for name in config.autoencoder.split(",")]
    if len(names) == 1:
        return [load(config)]
    for name in names:
        if not name or names.count(name) > 1:
            trouble = f"{name!r} twice" if name else "an empty name"
            raise UserError(
                f"autoencoder={config.autoencoder} has {trouble}; expected different names: a,b,c"
            )
    for option in ("subfolder", "revision"):
        if getattr(config, option):
            raise UserError(
                f"--{option} is for one autoencoder, but {config.autoencoder} names {len(names)}; "
                "leave it out"
            )
    return _different(names, [_load_part(config, name) for name in names])


def _load_part(config: ReconstructionConfig, name: str) -> Autoencoder:
    try:
        return load(replace(config, autoencoder=name))
    except UserError as error:
        raise UserError(f"autoencoder {name!r} of {config.autoencoder}: {error}") from error


def _different(names: Sequence[str], loaded: list[Autoencoder]) -> list[Autoencoder]:
    """Refuses two names that are recorded as the same one, because the dataset couldn't tell them apart."""
    seen: dict[str, str] = {}
    for name, autoencoder in zip(names, loaded, strict=True):
        recorded = autoencoder.provenance.autoencoder
        if other := seen.get(recorded):
            raise UserError(
                f"autoencoders {other!r} and {name!r} are both recorded as {recorded!r}; leave one out, or "
                f"give it a name: NAME={name}"
            )
        seen[recorded] = name
    weights = [(one.provenance.weights_sha256, one.provenance.model_class) for one in loaded]
    for number, name in enumerate(names):
        if weights[number] in weights[:number]:
            _LOG.warning(
                "autoencoders %r and %r have the same weights: their fakes are equal",
                names[weights.index(weights[number])],
                name,
            )
    return loaded


def _provenance(
    config: ReconstructionConfig,
    location: Location,
    *,
    model_class: str,
    downscale: int,
    device: str,
    sha256: str,
) -> Provenance:
    return Provenance(
        autoencoder=location.name,
        model_class=model_class,
        subfolder=location.subfolder,
        revision=location.revision,
        weights_sha256=sha256,
        dtype=config.dtype,
        device=device,
        posterior=config.posterior,
        seed=config.seed,
        threads=_threads(config),  # never 0, which would mean another number on another machine
        downscale=downscale,
        channels_last=config.channels_last,
        compiled=config.compile,
        tiling_pixels=config.tiling_pixels,
        generations=config.generations,
    )


def _threads(config: ReconstructionConfig) -> int:
    return config.threads or available_cpus()


def _sha256(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    return digest.hexdigest()
