"""Fetches an autoencoder from the hub into the hub's cache: its config, and the weights that are loaded."""

from collections.abc import Callable
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, errors, hf_hub_download

from recon.base.errors import UserError
from recon.base.paths import names_in
from recon.models.files.choice import SUFFIXES, Choice, chosen, without_weights
from recon.models.files.damage import part_names
from recon.models.files.source import CONFIG
from recon.models.files.tiny import pair_names
from recon.models.names import HubName, choices


def fetched(wanted: HubName) -> tuple[Path, str]:
    """Returns the local folder (or file) of a hub model's autoencoder, and the commit.

    A branch is resolved to its commit once: it may move between two downloads, and config and weights must
    belong together. What is in the cache is used without the network.

    Raises:
        UserError: there is no such model or file, or the hub can't be reached.
    """
    try:
        return _fetched(wanted)
    except UserError:
        raise
    except Exception as error:  # versions of huggingface_hub use different HTTP libraries and exceptions
        raise UserError(_message(error, wanted)) from error


def _fetched(wanted: HubName) -> tuple[Path, str]:
    inside = PurePosixPath(wanted.inside or "")
    if inside.suffix in SUFFIXES:
        file = Path(hf_hub_download(wanted.model, str(inside), revision=wanted.revision))
        commit = _commit(file, inside)
        for name in pair_names(inside.name) or ():
            hf_hub_download(wanted.model, str(inside.with_name(name)), revision=commit)
        return file, commit
    config = inside / CONFIG
    folder = Path(hf_hub_download(wanted.model, str(config), revision=wanted.revision)).parent
    commit = _commit(folder / CONFIG, config)

    def fetch(name: str) -> Path:
        return Path(hf_hub_download(wanted.model, str(inside / name), revision=commit))

    choice = _choice(wanted, folder, commit)
    first = fetch(choice.name)
    if choice.is_index:
        for name in part_names(first):
            fetch(name)
    return folder, commit


def _commit(path: Path, inside: PurePosixPath) -> str:
    """Returns the commit of a file: the cache is SNAPSHOTS/COMMIT/SUBFOLDER/config.json."""
    return path.parents[len(inside.parts) - 1].name


def _choice(wanted: HubName, folder: Path, commit: str) -> Choice:
    """Returns which weights to fetch; what the cache has is enough if it has the best."""
    names, unreachable = names_in(folder), ""
    cached = chosen(names)
    if cached and cached.is_safe and cached.variant is None:
        return cached
    try:
        names = _names(wanted.model, commit, wanted.inside)
    except Exception as error:  # as in `fetched`; the cache may do
        unreachable = f"; the hub can't be asked for more: {_cause(error)}"
    choice = chosen(names)
    if choice is None:
        raise UserError(without_weights(_where(wanted), names) + unreachable)
    return choice


def _names(model: str, commit: str, inside: str | None) -> list[str]:
    """Returns the names of the files in a folder of a model."""
    start = f"{inside}/" if inside else ""
    names = HfApi().list_repo_files(model, revision=commit)
    return [
        name.removeprefix(start) for name in names if name.startswith(start) and "/" not in name[len(start) :]
    ]


def _where(wanted: HubName) -> str:
    inside = f", subfolder {wanted.inside}" if wanted.inside else ""
    return f"{wanted.model}{inside}, revision {wanted.revision or 'main'}"


def _message(error: Exception, wanted: HubName) -> str:
    # Subclasses first: the first class that fits decides.
    causes: list[tuple[type[Exception], Callable[[], str]]] = [
        (
            errors.GatedRepoError,
            lambda: "the model is gated: accept its licence on the hub, then run hf auth login",
        ),
        (errors.RepositoryNotFoundError, lambda: f"the hub has no such model; {choices()}"),
        (
            errors.RevisionNotFoundError,
            lambda: "the model has no such revision; give a commit by --revision",
        ),
        (
            errors.LocalEntryNotFoundError,
            lambda: f"the hub can't be reached and its cache lacks the model; {choices()}",
        ),
        (errors.EntryNotFoundError, lambda: _not_there(wanted)),
    ]
    for kind, advice in causes:
        if isinstance(error, kind):
            return f"can't load autoencoder {_where(wanted)}: {advice()}"
    return f"can't load autoencoder {_where(wanted)}: {_cause(error)}; {choices()}"


def _cause(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _not_there(wanted: HubName) -> str:
    """Returns what to name instead of a folder that has no config.json."""
    try:
        names = HfApi().list_repo_files(wanted.model, revision=wanted.revision)
    except Exception:  # the listing is only for the message
        names = []
    paths = [PurePosixPath(name) for name in names]
    folders = sorted({str(path.parent) for path in paths if path.name == CONFIG and len(path.parts) == 2})
    files = sorted(str(path) for path in paths if path.suffix in SUFFIXES and len(path.parts) == 1)
    ending = f"@{wanted.revision}" if wanted.revision else ""
    found = [f"{wanted.model}/{name}{ending}" for name in [*folders, *files][:12]]
    listed = f", one of {', '.join(found)}" if found else ", or by --subfolder (vae, vqvae)"
    return f"no {CONFIG} there; give the autoencoder's folder in the name{listed}"
