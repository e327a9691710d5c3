"""Checkpoints: written atomically, read without running code."""

import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from pack.storage import Store
from recon.errors import UserError

FORMAT = "pairstream-checkpoint/1"


def save_checkpoint(store: Store, name: str, content: dict[str, Any]) -> None:
    """Publishes `content` (tensors and plain values) as object `name`, whole or not at all."""
    data = BytesIO()  # torch would make a RuntimeError of a full disk
    torch.save({"format": FORMAT, **content}, data)
    with store.publish(name) as file:
        file.write(data.getbuffer())


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Reads a checkpoint onto the CPU.

    Returns:
        ``config`` (the run's options as plain values), ``model`` (state dict), ``optimizer``,
        ``plateau``, ``data`` (loader state), ``epoch``, ``step``, ``best``.

    Raises:
        UserError: there is none, or the file is no checkpoint of this version.
    """
    where = Path(path).expanduser()
    if not where.is_file():
        raise UserError(f"checkpoint {where} not found; expected a file such as RUN/best.pt")
    try:
        _check_bytes(where)
        content = torch.load(where, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except PermissionError as error:
        raise UserError(f"no permission to read {where}") from error
    except Exception as error:  # spoilt bytes raise nearly anything in zipfile and the unpickler
        raise UserError(f"{where} is not a whole checkpoint; train again or take another") from error
    found = content.get("format") if isinstance(content, dict) else type(content).__name__
    if found != FORMAT:
        raise UserError(f"{where}: format {found!r}, expected {FORMAT!r}; train with this version")
    return dict(content)


def _check_bytes(where: Path) -> None:
    """Compares every member with its CRC-32, which torch.load itself does not."""
    with zipfile.ZipFile(where) as file:
        damaged = file.testzip()
    if damaged:
        raise UserError(f"{where} is damaged at {damaged} (CRC-32 differs); train again or take another")
