"""Whether the detector of an evaluation is one of a run."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recon.base.errors import UserError
from recon.base.paths import one_name, printable


def mismatch_of(run: str, facts: Mapping[str, Any]) -> str | None:
    """What to know if the scored detector is none of the run's checkpoints; None if it is one.

    Args:
        run: directory or URL of the run.
        facts: metrics.json of the evaluation.
    """
    scored = str(facts["checkpoint"])
    if _absolute(run) in _absolute(scored).parents or _holds(run, facts.get("checkpoint_sha256")):
        return None
    return printable(f"The scored detector is not of this run: {scored} does not lie in {run}")


def _absolute(place: str) -> Path:
    """A place in a form that can be compared: on disk without links, of a URL its text."""
    return Path("/", one_name(place.removeprefix("file://")))


def _holds(run: str, sha256: str | None) -> bool:
    """Whether a run on disk has a checkpoint with this checksum: the run may have been moved or copied."""
    if sha256 is None or "://" in run.removeprefix("file://"):
        return False
    try:
        return any(_sha256(path) == sha256 for path in sorted(_absolute(run).glob("*.pt")))
    except OSError as error:
        raise UserError(f"{error.filename} can't be read: {error.strerror}; check --run") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
