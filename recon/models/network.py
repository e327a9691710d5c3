"""Runs a batch through an autoencoder of diffusers: encode, then decode.

The latents are passed from encoder to decoder unchanged. A model's `scaling_factor` matters only to the
diffusion between the two. `AutoencoderTiny.forward` is not used: it rounds the latents to 8 bits, which
diffusers' pipelines don't (they call encode and decode). Only `recon.models.load.load` imports this
module, when it runs, because torch and diffusers take seconds to import.

Shapes: B batch, C channels, H height, W width.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recon.base.device import is_out_of_memory
from recon.base.errors import UserError
from recon.models.locate import quiet
from recon.models.types import OutOfMemoryError, Provenance


class Network:
    """A loaded model of one of the `recon.models.load.CLASSES`; implements `Autoencoder`."""

    def __init__(self, model: torch.nn.Module, provenance: Provenance) -> None:
        """Takes a model on its device, and the provenance, which says how the model runs.

        Raises:
            UserError: the provenance says "compiled", but torch.compile doesn't work on this machine.
        """
        self.provenance = provenance
        self._model: Any = model.eval().requires_grad_(False)
        self._layout = torch.channels_last if provenance.channels_last else torch.contiguous_format
        self._model.to(memory_format=self._layout)
        if provenance.compiled:
            self._compile()

    @property
    def multiple(self) -> int:
        """Image pixels per latent pixel along each side."""
        return self.provenance.downscale

    def reconstruct_batch(self, x_BCHW: NDArray[np.float32], seeds: Sequence[int]) -> NDArray[np.float32]:
        """See `recon.models.types.Autoencoder.reconstruct_batch`."""
        with torch.inference_mode(), _repeatable_kernels(), _clear_errors(x_BCHW.shape):
            x = torch.from_numpy(x_BCHW).to(self._model.device, self._model.dtype) * 2 - 1  # [-1, 1]
            x = x.contiguous(memory_format=self._layout)
            decoded: Tensor = self._model.decode(self._latents(x, seeds)).sample  # about [-1, 1]
            return ((decoded.float() + 1) / 2).cpu().numpy()

    def _compile(self) -> None:
        """Compiles for any shape and runs one batch, so that every process starts with the same kernels."""
        # Batch, channels, height and width differ: torch.compile would assume that equal sizes stay equal.
        height, width = 8 * self.multiple, 16 * self.multiple
        try:
            for part in ("encoder", "decoder"):
                setattr(self._model, part, torch.compile(getattr(self._model, part), dynamic=True))
            self.reconstruct_batch(np.zeros((2, 3, height, width), np.float32), [0, 0])
        except UserError:
            raise
        except Exception as error:  # from torch, Triton or the compiler: they have no common class
            cause = (str(error).strip() or repr(error)).splitlines()[0]
            raise UserError(
                f"--compile doesn't work here: {cause}; install a C++ compiler (g++), or leave --compile out"
            ) from error

    def _latents(self, x_BCHW: Tensor, seeds: Sequence[int]) -> Tensor:
        encoded = self._model.encode(x_BCHW)
        if self.provenance.model_class != "AutoencoderKL":
            latents: Tensor = encoded.latents
            return latents
        mean: Tensor = encoded.latent_dist.mean
        if self.provenance.posterior == "mode":
            return mean
        std: Tensor = encoded.latent_dist.std
        return mean + std * _noise(mean, seeds)


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
            model, report = getattr(diffusers, model_class).from_pretrained(
                folder,
                torch_dtype=getattr(torch, dtype),
                local_files_only=True,
                low_cpu_mem_usage=False,  # True needs the package accelerate, and helps only larger models
                use_safetensors=files[0].suffix == ".safetensors",
                output_loading_info=True,
            )
    except Exception as error:  # SafetensorError, UnpicklingError, ValueError...: all mean a broken model
        cause = (str(error).strip() or repr(error)).splitlines()[0]
        raise UserError(f"{folder} holds no whole {model_class}: {cause}") from error
    # diffusers only warns of missing weights and leaves them random.
    if missing := report["missing_keys"]:
        raise UserError(f"{files[0]} lacks {len(missing)} weights of its {model_class}, e.g. {missing[0]}")
    assert isinstance(model, torch.nn.Module)
    return model


def _noise(like: Tensor, seeds: Sequence[int]) -> Tensor:
    """Draws standard normal noise in the shape of `like`; each image has its own seed."""
    # Drawn on the CPU: the generators of CPU and GPU give different numbers for one seed.
    draws = [torch.randn(like.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(draws).to(like.device, like.dtype)


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
