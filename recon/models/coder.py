"""Runs tensors through a model of diffusers as the model's row in `recon.models.adapters` says.

The code goes from the encoder to the decoder unchanged. A model's `scaling_factor` matters only to the
diffusion between the two. `forward` is not used: that of `AutoencoderTiny` rounds the code to 8 bits, which
no pipeline does. `enable_tiling` isn't either: it changes pixels, and in some classes fails or changes the
size; `recon.tiling` has tiles of our own.

Shapes: B batch, C channels, H height, W width; with a 1 for the frames where the model takes films.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from recon.models.adapters import ADAPTERS, Settings

_LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}
"""Memory formats with the channels last, by the number of a tensor's dimensions."""


class Coder:
    """Reconstructs images as tensors, with the calls that the pipelines of the model's class make."""

    def __init__(self, model: Any, model_class: str, *, channels_last: bool = False) -> None:
        """Takes a model of one of the `ADAPTERS` on its device."""
        self.model = model.eval().requires_grad_(False)
        self._adapter = ADAPTERS[model_class]
        self._settings: Settings = self.model.config
        self._alone = self._adapter.alone(self._settings)
        self._channels_last = channels_last
        self.only_side = self._adapter.only_side(self._settings)
        if channels_last:
            for weights in self.model.parameters():
                weights.data = self._laid_out(weights.data)

    def reconstruct(self, x_BCHW: Tensor, downscale: int, seeds: Sequence[int], *, sample: bool) -> Tensor:
        """Returns the reconstruction: float32, about [0, 1], of the size of its images.

        Args:
            x_BCHW: float32 RGB in [0, 1] on the model's device.
            downscale: pixels for each value of the code, along each side.
            seeds: one for each image.
            sample: whether to decode a sample of the posterior instead of its mode.
        """
        if not self._alone:
            return self._together(x_BCHW, downscale, seeds, sample)
        singly = zip(x_BCHW, seeds, strict=True)
        return torch.cat([self._together(x_CHW[None], downscale, [seed], sample) for x_CHW, seed in singly])

    def encode(self, x_BCHW: Tensor) -> Any:
        """Encodes RGB in [0, 1]: a distribution, or the code itself."""
        black = self._adapter.black
        x = (x_BCHW * (1 - black)).add_(black)
        if self._adapter.channels and self._settings.get(self._adapter.channels) == 4:
            x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)  # opaque
        # Cast last, as the pipelines do: scaled in bfloat16, many of the 256 levels would fall together.
        x = x.to(self.model.dtype)
        return self.model.encode(self._laid_out(x[:, :, None] if self._adapter.frames else x))[
            self._adapter.code
        ]

    def mode(self, encoded: Any) -> Tensor:
        """Returns the most likely code of what `encode` gave."""
        code: Tensor = encoded.mode() if self._adapter.code == "latent_dist" else encoded
        return code

    def decode(self, code: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Decodes to float32, about [0, 1], (B, C, H, W); without the alpha that some classes add to RGB."""
        y = self._decoded(code, generators)
        if self._adapter.frames:
            y = y[:, :, 0]
        if self._adapter.channels:
            y = y[:, :3]
        black = self._adapter.black
        return y.float().sub_(black).div_(1 - black)

    def _together(self, x_BCHW: Tensor, downscale: int, seeds: Sequence[int], sample: bool) -> Tensor:
        # On the CPU: the generators of CPU and GPU give different numbers for one seed.
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        height, width = x_BCHW.shape[-2:]
        encoded = self.encode(self._large_enough(x_BCHW, self._adapter.least * downscale))
        code = _sample(encoded, generators) if sample else self.mode(encoded)
        return self.decode(code, generators)[..., :height, :width]

    def _decoded(self, code: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        arguments = self._adapter.arguments(self._settings, code, generators)
        if not self._alone:
            y: Tensor = self.model.decode(code, **arguments).sample
            return y
        with _torchs_own_numbers(generators[0], code.device):
            y = self.model.decode(code, **arguments).sample
        return y

    def _large_enough(self, x_BCHW: Tensor, side: int) -> Tensor:
        """Repeats the last row and column until both sides have `side` pixels."""
        height, width = x_BCHW.shape[-2:]
        if height >= side and width >= side:
            return x_BCHW
        return pad(x_BCHW, (0, max(0, side - width), 0, max(0, side - height)), mode="replicate")

    def _laid_out(self, x: Tensor) -> Tensor:
        if not self._channels_last or x.dim() not in _LAYOUTS:
            return x
        return x.contiguous(memory_format=_LAYOUTS[x.dim()])


def _sample(posterior: Any, generators: Sequence[torch.Generator]) -> Tensor:
    """Draws from a posterior, each image with its own generator."""
    mean: Tensor = posterior.mean
    std: Tensor = posterior.std
    draws = [torch.randn(mean.shape[1:], generator=generator) for generator in generators]
    return mean + std * torch.stack(draws).to(mean.device, mean.dtype)


@contextmanager
def _torchs_own_numbers(generator: torch.Generator, device: torch.device) -> Iterator[None]:
    """Seeds torch's own generators for a while, for models that draw from them."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(int(torch.randint(2**63 - 1, (), generator=generator)))
        yield
