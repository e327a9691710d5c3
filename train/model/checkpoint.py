"""Checkpoints: written atomically to any storage, and read without running code that a file may contain."""

import logging
import re
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from pack.storage import Store, open_store
from recon.base.errors import UserError
from recon.base.paths import split_path

FAMILY = "pairstream-checkpoint/"
FORMAT = f"{FAMILY}1"
BEST = "best.pt"
"""The detector with the best validation, to evaluate or to fine-tune; a run can't continue from it."""

_DETECTOR = ("config", "model", "epoch", "step", "val")
_NAME = re.compile(r"step-(\d{8,})\.pt")
_LOG = logging.getLogger(__name__)


class DamagedCheckpointError(UserError):
    """A file is not a checkpoint, or not a whole one."""


def checkpoint_name(step: int) -> str:
    """The name of the checkpoint after `step` steps."""
    return f"step-{step:08d}.pt"


def checkpoint_names(store: Store) -> list[str]:
    """The names of a run's checkpoints, newest first, without best.pt."""
    # By number, not by name: from 10**8 steps on, names are longer.
    return sorted((name for name in store.names() if _NAME.fullmatch(name)), key=_step, reverse=True)


def _step(name: str) -> int:
    match = _NAME.fullmatch(name)
    assert match, name
    return int(match[1])


def remove_old(store: Store, *, keep: int, step: int) -> None:
    """Of the checkpoints up to a step, removes all but the newest `keep`.

    Checkpoints of later steps stay: they are damaged, so the run continued from an older one, but their
    owner may be able to repair them.
    """
    for name in [name for name in checkpoint_names(store) if _step(name) <= step][keep:]:
        try:
            store.remove(name)
        except (UserError, OSError) as error:  # no reason to end the run
            _LOG.warning("can't remove the old checkpoint %s/%s: %s", store.url, name, error)


def pack_checkpoint(content: dict[str, Any]) -> memoryview:
    """The bytes of a checkpoint."""
    # In memory first: if torch writes to a full disk itself, it raises a RuntimeError, not an OSError.
    data = BytesIO()
    torch.save({"format": FORMAT, **content}, data)
    return data.getbuffer()


def detector_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a checkpoint that evaluation and fine-tuning need; Adam's state is twice its size."""
    return {name: content[name] for name in _DETECTOR}


def check_run(content: Mapping[str, Any], where: str) -> None:
    """Checks that a run can continue from a checkpoint.

    Raises:
        UserError: the checkpoint holds only the detector.
    """
    if "optimizer" not in content:
        raise UserError(
            f"{where} is a detector alone, as {BEST} is, without the state of its run; restore a step-*.pt "
            "of that run, or give the file as --model.weights of a new one"
        )


def publish_checkpoint(store: Store, name: str, data: memoryview) -> None:
    """Publishes the bytes that `pack_checkpoint` made."""
    with store.publish(name) as file:
        file.write(data)


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Reads a checkpoint from a file or a URL onto the CPU; see `read_checkpoint`.

    Raises:
        UserError: there is no such file, or it is not a checkpoint of this version.
    """
    folder, name = split_path(str(path))
    return read_checkpoint(stored(open_store(folder), name, str(path)), str(path))


def stored(store: Store, name: str, path: str) -> bytes:
    """The bytes of a file of weights; UserError: `path`, as the user named it, is not there."""
    if not store.exists(name):
        raise UserError(f"checkpoint {path} not found; expected a file such as RUN/best.pt")
    return store.read(name)


def read_checkpoint(data: bytes, where: str) -> dict[str, Any]:
    """Checks every byte of a checkpoint and returns its content.

    Args:
        data: the bytes of the file.
        where: its path or URL, for error messages.

    Returns:
        ``config`` (the run's options as plain values), ``model`` (the state dict), and the other values that
        `train.loop.run` saves.

    Raises:
        DamagedCheckpointError: the bytes are not a whole checkpoint.
        UserError: the checkpoint is whole, but not of this version.
    """
    try:
        check_bytes(data, where)
        # weights_only: does not run code that the file may contain.
        content = torch.load(BytesIO(data), map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:  # zipfile and the unpickler raise many types of errors for damaged bytes
        raise DamagedCheckpointError(
            f"{where} is not a whole checkpoint; train again or take another"
        ) from error
    return checked_format(content, where)


def checked_format(content: object, where: str) -> dict[str, Any]:
    """The content of a checkpoint; UserError: it is of another version, or of another kind."""
    found = content.get("format") if isinstance(content, dict) else type(content).__name__
    if not isinstance(content, dict) or found != FORMAT:
        raise UserError(f"{where}: format {found!r}, expected {FORMAT!r}; train with this version")
    return dict(content)


def check_bytes(data: bytes, where: str) -> None:
    """Compares every member with its CRC-32; torch.load itself does not check it."""
    with zipfile.ZipFile(BytesIO(data)) as file:
        damaged = file.testzip()
    if damaged:
        raise DamagedCheckpointError(
            f"{where} is damaged at {damaged} (CRC-32 differs); train again or take another"
        )
