"""Reads and writes the tensors of weight files."""

import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from recon.base.errors import UserError
from recon.models.files.damage import Shapes, check_whole, read_shapes


class TensorFile:
    """A file of weights, of which only the wanted tensors are read."""

    def __init__(self, path: Path) -> None:
        """Reads the names and shapes.

        Raises:
            UserError: the file is damaged, or holds more than tensors.
        """
        self.path = path
        if path.suffix == ".safetensors":
            self._loaded: dict[str, Any] | None = None
            self.shapes: Shapes = read_shapes(path)
        else:
            self._loaded = _unpickled(path)
            self.shapes = {name: tuple(tensor.shape) for name, tensor in self._loaded.items()}

    def read(self, names: Iterable[str]) -> dict[str, Any]:
        """Returns tensors by name."""
        if self._loaded is not None:
            return {name: self._loaded[name] for name in names}
        from safetensors import safe_open

        with safe_open(self.path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in names}


def _unpickled(path: Path) -> dict[str, Any]:
    """Loads a pickle of tensors; nothing in it is run."""
    import torch

    check_whole(path)
    try:
        # Only a zip file can be mapped; a whole model of several GB is then not read for its autoencoder.
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to mean
        cause = next((line for line in str(error).splitlines() if "nsupported" in line), "")
        raise UserError(
            f"{path} is damaged, or holds more than tensors{f' ({cause.strip()})' if cause else ''}, "
            "which could run code; fetch it again, or take the safetensors file of the same model"
        ) from error
    while isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]  # Lightning keeps the weights beside the state of the training
    if not isinstance(found, Mapping):
        raise UserError(f"{path} holds a {type(found).__name__}, expected tensors by name")
    return {str(name): tensor for name, tensor in found.items() if isinstance(tensor, torch.Tensor)}


def write(tensors: Mapping[str, Any], path: Path) -> None:
    """Writes a safetensors file as `save_pretrained` would.

    Raises:
        OSError: the file can't be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, {"format": "pt"})
    except SafetensorError as error:  # hides the system's error, such as a full disk
        raise OSError(str(error)) from error
