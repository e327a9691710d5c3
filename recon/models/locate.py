"""Finds the local directory with the config and the weights of an autoencoder, given its name.

A preset, a hub id and a directory all become a local directory. There is then only one way to load a
model, and the weights that are hashed are the weights that run.
"""

import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from recon.base.errors import UserError
from recon.base.paths import expanded, is_dir, is_file
from recon.models.config import ReconstructionConfig
from recon.models.presets import PRESETS

_EMBEDDED = {"tiny": Path(__file__).parents[1] / "tiny"}
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")


@dataclass(frozen=True, kw_only=True)
class Location:
    """Where an autoencoder's files are, and its name in records."""

    name: str
    """Hub id, preset, or a directory's own name: its parents would make records depend on the machine."""
    folder: Path
    """Directory with config.json and the weights; it includes the subfolder."""
    subfolder: str | None
    """Folder of the autoencoder inside the model."""
    revision: str | None
    """Commit of a hub model; None for local directories."""


def locate(config: ReconstructionConfig) -> Location:
    """Finds the autoencoder's directory; a hub model is downloaded into the hub's cache.

    Args:
        config: its `autoencoder` is a preset, a directory or a hub id, tried in this order.

    Raises:
        UserError: there is no such preset, directory or model, or the hub can't be reached.
    """
    name = config.autoencoder
    if name in _EMBEDDED:
        return _local(_EMBEDDED[name], name, config)
    if name in PRESETS:
        preset = PRESETS[name]
        return _hub(preset.id, config.subfolder or preset.subfolder, config.revision or preset.revision)
    path = expanded(name)
    if is_dir(path):
        return _local(path, path.resolve().name, config)
    # "photos/modle" looks like a hub id; if the folder "photos" exists, it is a misspelt directory.
    if not _HUB_ID.fullmatch(name) or is_dir(path.parent):
        raise UserError(f"autoencoder {name!r} is no directory and no hub id; {_choices()}")
    return _hub(name, config.subfolder, config.revision)


def weight_files(folder: Path) -> list[Path]:
    """Returns the sorted files from which diffusers' `from_pretrained` reads the weights.

    Raises:
        UserError: the directory holds no weights, or lacks files that its index names.
    """
    index = folder / f"{_WEIGHTS[0]}.index.json"
    if is_file(index):
        return _indexed(index)
    found = [folder / name for name in _WEIGHTS if is_file(folder / name)]
    if not found:
        raise UserError(f"no weights in {folder}, expected {' or '.join(_WEIGHTS)}")
    return found[:1]  # if both formats are there, safetensors: it can't run code, as a pickle can


def _indexed(index: Path) -> list[Path]:
    """Returns the weight files that an index names."""
    try:
        names = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
        files = [index.with_name(name) for name in sorted(names)]
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise UserError(
            f"{index} is no index of weights ({type(error).__name__}: {error}); expected JSON whose "
            "weight_map names the file of each weight; fetch the model again"
        ) from error
    if missing := [path.name for path in files if not is_file(path)]:
        raise UserError(
            f"{index.parent} lacks {', '.join(missing)} of the {len(files)} files that {index.name} names; "
            "fetch the model again"
        )
    if not files:
        raise UserError(f"{index} names no file of weights; fetch the model again")
    return files


def _choices() -> str:
    return (
        f"expected a preset ({', '.join(PRESETS)}), a directory written by save_pretrained, "
        "or a hub id like owner/model"
    )


def _local(path: Path, name: str, config: ReconstructionConfig) -> Location:
    if config.revision:
        raise UserError(f"--revision is for hub models, but autoencoder {name!r} is local; leave it out")
    folder = path / (config.subfolder or "")
    if not is_file(folder / "config.json"):
        inside = ", ".join(sorted(found.parent.name for found in path.glob("*/config.json")))
        hint = f"pass --subfolder, one of: {inside}" if inside else _choices()
        raise UserError(f"no config.json in {folder}; {hint}")
    return Location(name=name, folder=folder, subfolder=config.subfolder, revision=None)


def _hub(model: str, subfolder: str | None, revision: str | None) -> Location:
    # Imported before `quiet`, because the import sets the library's log level.
    from huggingface_hub import hf_hub_download

    try:
        with quiet("huggingface_hub"):
            folder, commit = _download(hf_hub_download, model, subfolder, revision)
    except Exception as error:  # versions of huggingface_hub use different HTTP libraries and exceptions
        raise UserError(_hub_message(error, model, subfolder, revision)) from error
    return Location(name=model, folder=folder, subfolder=subfolder, revision=commit)


def _download(
    fetch: Callable[..., str], model: str, subfolder: str | None, revision: str | None
) -> tuple[Path, str]:
    """Fetches config and weights of one commit; the hub's cache names a directory by the commit."""
    from huggingface_hub.errors import EntryNotFoundError

    folder = Path(fetch(model, "config.json", subfolder=subfolder, revision=revision)).parent
    # The cache is SNAPSHOTS/COMMIT/SUBFOLDER/config.json, so COMMIT is as far up as SUBFOLDER is deep.
    commit = [folder, *folder.parents][len(Path(subfolder or "").parts)].name
    safetensors, pickled = _WEIGHTS
    # By commit: a branch may move between two downloads, and config and weights must belong together.
    try:
        fetch(model, safetensors, subfolder=subfolder, revision=commit)
    except EntryNotFoundError:
        fetch(model, pickled, subfolder=subfolder, revision=commit)
    return folder, commit


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


def _hub_message(error: Exception, model: str, subfolder: str | None, revision: str | None) -> str:
    from huggingface_hub import errors

    where = f"{model}{f', subfolder {subfolder}' if subfolder else ''}, revision {revision or 'main'}"
    # Subclasses first: the first class that fits decides.
    causes: list[tuple[type[Exception], str]] = [
        (errors.GatedRepoError, "the model is gated: accept its licence on the hub, then run hf auth login"),
        (errors.RepositoryNotFoundError, f"the hub has no such model; {_choices()}"),
        (errors.RevisionNotFoundError, "the model has no such revision; give a commit by --revision"),
        (
            errors.LocalEntryNotFoundError,
            f"the hub can't be reached and its cache lacks the model; {_choices()}",
        ),
        (
            errors.EntryNotFoundError,
            "no config.json with weights there; give the autoencoder's folder by --subfolder (vae, vqvae)",
        ),
    ]
    for kind, advice in causes:
        if isinstance(error, kind):
            return f"can't load autoencoder {where}: {advice}"
    cause = str(error).strip().splitlines()[:1] or [type(error).__name__]
    return f"can't load autoencoder {where}: {cause[0]}; {_choices()}"
