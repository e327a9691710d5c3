"""Loads an autoencoder's weights, measures it, and runs batches of images through it.

Only `recon.models.load.load` imports this module, when it runs, because torch and diffusers take seconds to
import.

Shapes: B batch, C channels, H height, W width.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recon.base.device import is_out_of_memory
from recon.base.errors import UserError
from recon.models.adapters import ADAPTERS
from recon.models.coder import Coder
from recon.models.locate import quiet
from recon.models.types import OutOfMemoryError, Provenance

PROBE = 128
"""Height and width in pixels of the image that measures a model's factor.

All known factors are powers of two from 4 to 128, so every stage of an encoder divides this side without a
rest: it measures the factor as exactly as a larger one. A side of 256 would take four times as long.
"""


class Network:
    """A loaded model of one of the `recon.models.adapters.ADAPTERS`; implements `Autoencoder`."""

    def __init__(self, model: torch.nn.Module, provenance: Provenance) -> None:
        """Takes a model on its device, and the provenance, which says how the model runs.

        Raises:
            UserError: the provenance says "compiled", but torch.compile doesn't work on this machine.
        """
        self.provenance = provenance
        self._coder = Coder(model, provenance.model_class, channels_last=provenance.channels_last)
        self._model: Any = model
        if provenance.compiled:
            self._compile()

    @property
    def multiple(self) -> int:
        """Image pixels per latent pixel along each side."""
        return self.provenance.downscale

    @property
    def only_side(self) -> int | None:
        """See `recon.models.types.Autoencoder.only_side`."""
        return self._coder.only_side

    def reconstruct_batch(self, x_BCHW: NDArray[np.float32], seeds: Sequence[int]) -> NDArray[np.float32]:
        """See `recon.models.types.Autoencoder.reconstruct_batch`."""
        sample = self.provenance.posterior == "sample"
        with _running(x_BCHW.shape):
            x = torch.from_numpy(x_BCHW).to(self._model.device)
            return self._coder.reconstruct(x, self.multiple, seeds, sample=sample).cpu().numpy()

    def _compile(self) -> None:
        """Compiles for any shape and runs one batch, so that every process starts with the same kernels."""
        # Batch, channels, height and width differ: torch.compile would assume that equal sizes stay equal.
        height, width = (self.only_side or side * self.multiple for side in (8, 16))
        parts = ("encoder", "decoder", "decoder_unet")
        try:
            for part in (one for one in parts if hasattr(self._model, one)):
                setattr(self._model, part, torch.compile(getattr(self._model, part), dynamic=True))
            self.reconstruct_batch(np.zeros((2, 3, height, width), np.float32), [0, 0])
        except UserError:
            raise
        except Exception as error:  # from torch, Triton or the compiler: they have no common class
            raise UserError(
                f"--compile doesn't work here: {_first_line(error)}; install a C++ compiler (g++), "
                "or leave --compile out"
            ) from error


def measured_downscale(model: torch.nn.Module, model_class: str) -> int:
    """Encodes and decodes a black image, and returns its pixels for each value of the code, along each side.

    What the class says of it doesn't count: LTX-2's `spatial_compression_ratio` is 64, and its factor 32.

    Args:
        model: a model of `model_class` on its device.
        model_class: one of `ADAPTERS`.

    Raises:
        UserError: the model can't reconstruct RGB images.
    """
    coder = Coder(model, model_class)
    side = coder.only_side or PROBE
    try:
        with _running((1, 3, side, side)):
            x = torch.zeros(1, 3, side, side, device=coder.model.device)
            code = coder.mode(coder.encode(x))
            factor = _factor(code, side)
            # A corner shows whether the decoder gives RGB of the right size, and costs nearly nothing.
            part = code if coder.only_side else code[..., :2, :2]
            decoded = coder.decode(part, [torch.Generator().manual_seed(0)])
    except UserError:
        raise
    except Exception as error:  # torch and diffusers raise classes of every kind
        raise UserError(
            f"this {model_class} can't reconstruct an RGB image of {side}x{side} pixels: "
            f"{_first_line(error)}; check its config.json, or choose another --autoencoder"
        ) from error
    expected = (1, 3, *(factor * length for length in part.shape[-2:]))
    if tuple(decoded.shape) != expected:
        raise UserError(
            f"this {model_class} decodes to the shape {tuple(decoded.shape)}, expected {expected}: RGB of "
            "the image's own size; choose another --autoencoder"
        )
    return factor


def _factor(code: Tensor, side: int) -> int:
    height, width = code.shape[-2:]
    if height != width or not height or side % height:
        raise UserError(
            f"an image of {side}x{side} pixels has a code of shape {tuple(code.shape)}, expected a square "
            f"whose side divides {side}; choose another --autoencoder"
        )
    return side // height


def from_pretrained(model_class: str, files: Sequence[Path], dtype: str) -> torch.nn.Module:
    """Builds the model from its local directory, without the network.

    Args:
        model_class: name of a class of diffusers.
        files: the weight files, in the folder of the model's config.json.
        dtype: name of a torch dtype.

    Raises:
        UserError: config and weights don't make a complete model.
    """
    folder = files[0].parent
    try:
        with quiet("diffusers"):
            model, report = _class(model_class).from_pretrained(
                folder,
                torch_dtype=getattr(torch, dtype),
                local_files_only=True,
                low_cpu_mem_usage=False,  # True needs the package accelerate, and helps only larger models
                use_safetensors=files[0].suffix == ".safetensors",
                output_loading_info=True,
            )
    except UserError:
        raise
    except Exception as error:  # SafetensorError, UnpicklingError, ValueError...: all mean a broken model
        raise UserError(
            f"{folder} holds no whole {model_class}: {_first_line(error)}; expected a config.json and "
            "weights that save_pretrained wrote together"
        ) from error
    _check_weights(model_class, files[0], report)
    assert isinstance(model, torch.nn.Module)
    return model


def _class(model_class: str) -> Any:
    adapter = ADAPTERS[model_class]
    found = getattr(diffusers, model_class, None)
    if found is None:
        raise UserError(
            f"{model_class} came with diffusers {adapter.since}, but {diffusers.__version__} is installed; "
            f"pip install 'diffusers>={adapter.since}'"
        )
    if adapter.needs and not find_spec(adapter.needs):
        raise UserError(f"{model_class} needs the package {adapter.needs}; pip install {adapter.needs}")
    return found


def _check_weights(model_class: str, file: Path, report: Mapping[str, Sequence[str]]) -> None:
    """Refuses weights that diffusers left random, or left out: of both it only warns."""

    def used(names: Sequence[str]) -> list[str]:
        return sorted(name for name in names if not name.startswith(ADAPTERS[model_class].unused))

    if missing := used(report["missing_keys"]):
        raise UserError(f"{file} lacks {len(missing)} weights of its {model_class}, e.g. {missing[0]}")
    if surplus := used(report["unexpected_keys"]):
        raise UserError(
            f"{file} has {len(surplus)} weights that its {model_class} does not use, e.g. {surplus[0]}: "
            "config.json is that of another model, which would decode other pixels; fetch the model again"
        )


def _first_line(error: Exception) -> str:
    first, *rest = (str(error).strip() or repr(error)).splitlines()
    return f"{first} {rest[0].strip()}" if first.endswith(":") and rest else first


@contextmanager
def _running(shape: tuple[int, ...]) -> Iterator[None]:
    with torch.inference_mode(), _repeatable_kernels(), _clear_errors(shape):
        yield


@contextmanager
def _repeatable_kernels() -> Iterator[None]:
    """Switches off TF32 (10 bits of mantissa) and autotuning, so that a GPU repeats its pixels."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


@contextmanager
def _clear_errors(shape: tuple[int, ...]) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            count, _, height, width = shape
            raise OutOfMemoryError(
                f"{count} x {width}x{height} pixels don't fit into memory; lower --tiling_pixels "
                "(larger images are reconstructed in tiles) or --batch_size, or pass --dtype bfloat16"
            ) from error
        # torch has no class for an operation that a device lacks, e.g. float16 on some CPUs.
        if "not implemented for" in str(error):
            raise UserError(f"{error} on this device; pass --dtype float32") from error
        raise
