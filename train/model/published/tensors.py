"""Reads the tensors of a file of weights. Nothing that the file may hold besides them is run."""

import pickle
import re
import zipfile
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from recon.base.errors import UserError
from train.model.checkpoint import FAMILY, check_bytes, checked_format

SAFETENSORS = ".safetensors"
_INNER = ("model", "state_dict", "net", "model_state_dict")
"""Where projects keep the state dict, if the file holds more: the reference and Corvi ``model``, timm and
Lightning ``state_dict``, others ``net``."""
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")


def read_tensors(data: bytes, where: str) -> dict[str, Any]:
    """The tensors of a file by name; of one of our checkpoints all that it holds, with its ``format``.

    Args:
        data: the bytes of a safetensors file, or of one that torch.save wrote.
        where: its path or URL, which tells the kind by its suffix.

    Raises:
        UserError: the file is damaged, or holds no state dict, or more than tensors and plain values.
    """
    content = _safetensors(data, where) if where.endswith(SAFETENSORS) else _pickled(data, where)
    if isinstance(content, Mapping) and str(content.get("format")).startswith(FAMILY):
        return checked_format(content, where)
    for name in _INNER:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if not isinstance(content, Mapping) or not content:
        raise UserError(
            f"{where} holds a {type(content).__name__}, expected tensors by name; save a state dict"
        )
    strange = [str(name) for name, value in content.items() if not isinstance(value, torch.Tensor)]
    if strange:
        raise UserError(
            f"{where} holds no state dict: {len(strange)} of {len(content)} values are no tensors, such as "
            f"{', '.join(strange[:3])}; expected tensors by name, or a dict with them as {', '.join(_INNER)}"
        )
    return {str(name): value for name, value in content.items()}


def _safetensors(data: bytes, where: str) -> Mapping[str, Any]:
    try:
        return load(data)
    except SafetensorError as error:
        raise UserError(f"{where} is damaged: {error}; fetch or export it again") from error


def _pickled(data: bytes, where: str) -> Any:
    try:
        if zipfile.is_zipfile(BytesIO(data)):  # before 2020 torch.save wrote no zip files
            check_bytes(data, where)
        return torch.load(BytesIO(data), map_location="cpu", weights_only=True)
    except UserError:
        raise
    except pickle.UnpicklingError as error:
        if found := _GLOBAL.search(str(error)):
            raise UserError(
                f"{where} holds more than tensors ({found[1]}), which could run code; where you trust it, "
                "save its state dict alone with torch.save, and take that"
            ) from error
        raise _damaged(where) from error
    except Exception as error:  # the unpickler raises many types of errors for damaged bytes
        raise _damaged(where) from error


def _damaged(where: str) -> UserError:
    return UserError(f"{where} is no whole file of weights: expected what torch.save or safetensors wrote")
