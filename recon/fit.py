"""Trains a small autoencoder on a folder of photographs; `recon/tiny` was made by it.

    python -m recon.fit --source photos --heldout others --out my-autoencoder --minutes 45

The result is an ordinary diffusers `AutoencoderKL` (downscale 8), so that it goes wherever a
directory of `save_pretrained` goes. It ends with the PSNR on photographs it never saw.
"""

import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.cli import run
from recon.codec import Pixels, decode, resize
from recon.config import at_least_one
from recon.errors import RejectedImageError, UserError
from recon.progress import Progress

if TYPE_CHECKING:
    import torch

CHANNELS = (16, 32, 64, 80)
"""Channels at full, half, quarter and eighth resolution: 1.3 million weights, 2.6 MB as float16."""
LATENT_CHANNELS = 16

_LOG = logging.getLogger(__name__)
_MAX_PIXELS = 100_000_000
_SCALES = (2, 4)  # photographs are shrunk by these, since at full size they hold no fine detail
_PSNR_SIDE = 256


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Trains a small autoencoder."""

    source: str
    """Folder of photographs to train on, the larger the better."""
    heldout: str
    """Folder of photographs on which the PSNR is measured, never trained on."""
    out: str
    """Directory of the model, in diffusers' format."""
    steps: int = 100_000
    """Optimiser steps."""
    minutes: float = 60.0
    """Time limit; the learning rate falls to zero by whichever comes first."""
    batch_size: int = 8
    """Crops per step."""
    crop: int = 64
    """Side of a crop, a multiple of 8."""
    lr: float = 2e-3
    """Peak learning rate."""
    kl_weight: float = 1e-6
    """Weight of the posterior's divergence from a normal distribution, per latent number."""
    threads: int = 0
    """CPU threads; 0 takes all cores."""
    seed: int = 0
    """Seed of weights, crops and posterior samples."""

    def __post_init__(self) -> None:
        at_least_one(self, "steps", "batch_size", "crop")
        if self.crop % 8:
            raise UserError(f"crop={self.crop}, expected a multiple of 8")


def main() -> None:
    """The command."""
    run(FitConfig, _job, prog="python -m recon.fit", about=__doc__ or "")


def _job(config: FitConfig) -> None:
    model, steps, seconds = fit(config)
    psnr = measure_psnr(model, load_photographs(config.heldout))
    save(model, config.out)
    sys.stdout.write(f"{config.out}: {steps} steps in {seconds / 60:.0f} min, ")
    sys.stdout.write(f"{np.mean(psnr):.2f} dB on {len(psnr)} photographs never seen\n")


def load_photographs(folder: str) -> list[Pixels]:
    """Decodes every image below a folder to (H, W, 3) uint8."""
    from recon.folder import find_images

    root = Path(folder).expanduser()
    return [_load(root / path) for path in find_images(root)]


def _load(path: Path) -> Pixels:
    try:
        pixels = decode(path.read_bytes(), max_pixels=_MAX_PIXELS, convert=True).pixels
    except RejectedImageError as error:
        raise UserError(f"{path}: {error}; remove it") from error
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


def fit(config: FitConfig) -> tuple[Any, int, float]:
    """Trains; returns the model, the steps made and the seconds they took."""
    import torch

    from recon.network import prepare_cpu

    prepare_cpu(config.threads or os.cpu_count() or 1)
    photographs = [small for photo in load_photographs(config.source) for small in _shrunk(photo, config.crop)]
    rng = np.random.default_rng(config.seed)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model = _build().to(memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(model.parameters(), lr=config.lr)
        start = time.monotonic()
        step, share = 0, 0.0
        with Progress(total=config.steps, unit="steps", what="fit") as progress:
            while share < 1.0:
                for group in optimizer.param_groups:
                    group["lr"] = config.lr * _schedule(share)
                error = _step(model, optimizer, _crops(photographs, config, rng), config.kl_weight)
                step += 1
                share = max(step / config.steps, (time.monotonic() - start) / (60 * config.minutes))
                progress.note(f"training PSNR {-10 * np.log10(error / 4):.2f} dB")
                progress.update()
    return model.eval(), step, time.monotonic() - start


def _build() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(CHANNELS),
        up_block_types=("UpDecoderBlock2D",) * len(CHANNELS),
        block_out_channels=CHANNELS,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=_PSNR_SIDE,
    )


def _schedule(share: float) -> float:
    """Linear warm-up over the first hundredth, then a half cosine to zero; `share` is 0..1."""
    return float(min(1.0, share * 100 + 1e-2) * 0.5 * (1 + np.cos(np.pi * min(1.0, share))))


def _step(model: Any, optimizer: "torch.optim.Optimizer", x_BCHW: "torch.Tensor", kl_weight: float) -> float:
    """One step; returns the mean squared error on the scale -1..1."""
    import torch

    with torch.autocast("cpu", torch.bfloat16):
        posterior = model.encode(x_BCHW).latent_dist
        decoded = model.decode(posterior.sample()).sample
    error = (decoded.float() - x_BCHW).square().mean()
    (error + kl_weight * posterior.kl().float().mean()).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(error.detach())


def _shrunk(photo: Pixels, crop: int) -> Iterator[Pixels]:
    """The photograph at the scales that it is trained at; at full size if it is small."""
    height, width = photo.shape[:2]
    for scale in _SCALES if min(height, width) >= 4 * crop else (1,):
        yield resize(photo, height // scale, width // scale)


def _crops(photographs: list[Pixels], config: FitConfig, rng: np.random.Generator) -> "torch.Tensor":
    """(B, 3, crop, crop) float32 in -1..1, half of them mirrored."""
    import torch

    crops = [_crop(photographs[rng.integers(len(photographs))], config.crop, rng) for _ in range(config.batch_size)]
    x_BHWC = torch.from_numpy(np.stack(crops)).float() / 127.5 - 1
    return x_BHWC.movedim(-1, 1)


def _crop(photo: Pixels, side: int, rng: np.random.Generator) -> Pixels:
    height, width = photo.shape[:2]
    if min(height, width) < side:
        raise UserError(f"a photograph of {width}x{height} is smaller than crop={side}; remove it or lower --crop")
    top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
    part = photo[top : top + side, left : left + side]
    return part[:, ::-1] if rng.integers(2) else part


def measure_psnr(model: Any, photographs: list[Pixels]) -> list[float]:
    """PSNR in dB of each photograph's 8-bit reconstruction: shrunk to 256 pixels at its shorter
    side, the 256x256 centre, the posterior's mode.
    """
    return [_psnr(model, _centre(photo)) for photo in photographs]


def _centre(photo: Pixels) -> Pixels:
    height, width = photo.shape[:2]
    scale = _PSNR_SIDE / min(height, width)
    photo = resize(photo, max(_PSNR_SIDE, round(height * scale)), max(_PSNR_SIDE, round(width * scale)))
    top, left = (photo.shape[0] - _PSNR_SIDE) // 2, (photo.shape[1] - _PSNR_SIDE) // 2
    return photo[top : top + _PSNR_SIDE, left : left + _PSNR_SIDE]


def _psnr(model: Any, pixels: Pixels) -> float:
    import torch

    x_1CHW = torch.from_numpy(pixels.copy()).movedim(-1, 0)[None].float()
    with torch.no_grad():
        decoded = model.decode(model.encode(x_1CHW / 127.5 - 1).latent_dist.mode()).sample
    levels = ((decoded + 1) * 127.5).clamp(0, 255).round()
    return float(10 * torch.log10(255**2 / (levels - x_1CHW).square().mean()))


def save(model: Any, out: str) -> None:
    """Writes the model as float16 in place of what `out` held, whole or not at all."""
    import torch

    target = Path(out).expanduser()
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.to(torch.float16).save_pretrained(partial, safe_serialization=True)
    target.mkdir(parents=True, exist_ok=True)
    for file in sorted(partial.iterdir(), reverse=True):  # the weights come last
        os.replace(file, target / file.name)
    partial.rmdir()


if __name__ == "__main__":
    main()
