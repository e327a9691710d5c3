"""Finds the local folder or file with the weights of an autoencoder, given its name.

A preset, a hub id, a directory and a file all become something local. There is then only one way to load a
model, and the weights that are hashed are the weights that run.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from recon.base.errors import UserError
from recon.base.paths import expanded, is_dir, is_file, names_in, printable
from recon.models.config import ReconstructionConfig
from recon.models.files.choice import single_files
from recon.models.files.source import CONFIG
from recon.models.files.tiny import pair_of
from recon.models.names import HubName, choices, hub_name, labelled, local_name
from recon.models.presets import PRESETS

_EMBEDDED = {"tiny": Path(__file__).parents[1] / "tiny"}


@dataclass(frozen=True, kw_only=True)
class Location:
    """Where an autoencoder's files are, and its name in records."""

    name: str
    """Hub id, preset, the name that the user gave, or one that `recon.models.names.local_name` gives."""
    folder: Path
    """Directory with config.json and the weights, including the subfolder; or a single file of weights."""
    subfolder: str | None
    """Folder of the autoencoder inside the model."""
    revision: str | None
    """Commit of a hub model; None for local files."""


def locate(config: ReconstructionConfig) -> Location:
    """Finds the autoencoder's files; a hub model is downloaded into the hub's cache.

    Args:
        config: its `autoencoder` is a preset, a local path or a hub id, tried in this order.

    Raises:
        UserError: there is no such preset, path or model, or the hub can't be reached.
    """
    label, place = labelled(config.autoencoder)
    found = _located(place, label, config)
    return replace(found, name=label) if label else found


def _located(place: str, label: str | None, config: ReconstructionConfig) -> Location:
    if place in _EMBEDDED:
        return _local(_EMBEDDED[place], place, config)
    if place in PRESETS:
        preset = PRESETS[place]
        inside, revision = config.subfolder or preset.subfolder, config.revision or preset.revision
        return _on_hub(HubName(model=preset.id, inside=inside, revision=revision))
    path = expanded(place)
    if is_dir(path) or is_file(path):
        refuse_unprintable(path)
        return _local(path, label or local_name(path), config)
    named = hub_name(place)
    # A folder of the owner's name hides nothing, one of the model's name does: it is the model that is meant.
    if named is None or is_dir(expanded(named.model)):
        raise UserError(
            f"autoencoder {place!r} is no directory, no file and no hub id; {choices()}{_near(path)}"
        )
    try:
        return _on_hub(_with_options(named, config))
    except UserError as error:
        raise UserError(f"{error}{_near(path)}") from error


def refuse_unprintable(path: Path) -> None:
    """UserError if a path is not UTF-8: the libraries that read weights can't open such a file."""
    if printable(str(path)) != str(path):
        raise UserError(
            f"{printable(str(path))} is not UTF-8, so its weights can't be read; rename it, or give a link "
            "to it that has another name (ln -s)"
        )


def _with_options(named: HubName, config: ReconstructionConfig) -> HubName:
    """Adds what the options say; a name and an option must not say the same thing twice."""
    for option, inside in (("subfolder", named.inside), ("revision", named.revision)):
        if inside and getattr(config, option):
            raise UserError(
                f"autoencoder {config.autoencoder!r} names the {option} {inside}, and --{option} "
                f"{getattr(config, option)}; leave one out"
            )
    return replace(named, inside=named.inside or config.subfolder, revision=named.revision or config.revision)


def _on_hub(wanted: HubName) -> Location:
    # Imported before `quiet`, because the import of the hub's library sets its log level.
    from recon.models.hub import fetched

    with quiet("huggingface_hub"):
        folder, commit = fetched(wanted)
    return Location(name=wanted.model, folder=folder, subfolder=wanted.inside, revision=commit)


def _near(path: Path) -> str:
    """Returns what the folder of a path that is not there holds, for somebody who misspelt its end."""
    above = next((folder for folder in path.parents if is_dir(folder)), None)
    if above is None or above in (Path(), Path("/")):
        return ""
    names = [name for name in names_in(above) if not name.startswith(".")]
    listed = ", ".join(names[:8]) or "nothing"
    return f" (the local folder {above} has {listed}{', ...' if len(names) > 8 else ''})"


def _local(path: Path, name: str, config: ReconstructionConfig) -> Location:
    if config.revision:
        raise UserError(f"--revision is for hub models, but autoencoder {name!r} is local; leave it out")
    if is_file(path):
        if config.subfolder:
            raise UserError(f"--subfolder is for directories, but {path} is a file; leave it out")
        return Location(name=name, folder=path, subfolder=None, revision=None)
    folder = path / (config.subfolder or "")
    if not is_file(folder / CONFIG):
        folder = _without_config(path, folder)
    return Location(name=name, folder=folder, subfolder=config.subfolder, revision=None)


def _without_config(path: Path, folder: Path) -> Path:
    """Returns the weights of a folder that has no config.json but a pair of files."""
    names = names_in(folder) if is_dir(folder) else []
    pairs = [name for name in single_files(names) if Path(name).stem.endswith("_encoder")]
    whole = [folder / name for name in pairs if pair_of(folder / name)]
    if whole and len({one.stem for one in whole}) == 1:
        return max(whole, key=lambda one: one.suffix == ".safetensors")
    inside = ", ".join(one for one in _subfolders(path) if is_file(path / one / CONFIG))
    files = ", ".join(single_files(names))
    if inside:
        hint = f"pass --subfolder, one of: {inside}"
    else:
        hint = f"give one of its files itself: {files}" if files else choices()
    raise UserError(f"no config.json in {folder}; {hint}")


def _subfolders(path: Path) -> list[str]:
    return [name for name in names_in(path) if is_dir(path / name)] if is_dir(path) else []


@contextmanager
def quiet(library: str) -> Iterator[None]:
    """Silences a library's warnings about retries and unused settings; our error reports a failure once."""
    logger = logging.getLogger(library)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
