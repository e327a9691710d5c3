"""Trains a small autoencoder on a folder of photographs; this command made `recon/tiny`.

    python -m recon.fit --source photos --heldout others --out my-autoencoder --minutes 45

The result is an ordinary diffusers `AutoencoderKL` (downscale 8). It can be used like any directory
written by `save_pretrained`. At the end the command prints the PSNR on photographs it didn't train on.
"""

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.base.cli import run
from recon.base.cpus import available_cpus
from recon.base.errors import UserError, message_of
from recon.base.options import at_least_one, refuse_special
from recon.base.paths import expanded, is_file, make_folder, partial_name
from recon.base.progress import Progress
from recon.fit.data import CENTRE_SIDE, centre, load_photographs, random_crops, shrink
from recon.fit.init import start_linear
from recon.image.codec import Pixels
from recon.models.locate import quiet, refuse_unprintable

if TYPE_CHECKING:
    import torch

CHANNELS = (16, 32, 64, 80)
"""Channels at full, half, quarter and eighth resolution: 1.3 million weights, 2.6 MB as float16."""
LATENT_CHANNELS = 16


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Trains a small autoencoder."""

    source: str
    """Folder of photographs to train on; large photographs are better."""
    heldout: str
    """Folder of photographs that are not trained on, to measure the PSNR."""
    out: str
    """Directory to write the model to, in diffusers' format."""
    start: str | None = None
    """Directory of a model from an earlier run, to continue training."""
    scales: tuple[int, ...] = (2, 4, 8)
    """Factors by which photographs are shrunk, because at full size they have little fine detail."""
    minutes: float = 60.0
    """Time limit; the learning rate falls to zero by then."""
    steps: int | None = None
    """Largest number of optimizer steps; the time limit may end training earlier."""
    batch_size: int = 8
    """Crops per step."""
    crop: int = 64
    """Side of a crop in pixels, a multiple of 8."""
    lr: float = 1e-3
    """Peak learning rate."""
    kl_weight: float = 1e-6
    """Weight of the KL divergence (summed over an image's latents) from a standard normal distribution."""
    device: str = "auto"
    """torch device; auto is cuda if there is a GPU, otherwise cpu."""
    threads: int = 0
    """CPU threads; 0 uses all cores."""
    seed: int = 0
    """Seed of weights, crops and posterior samples."""

    def __post_init__(self) -> None:
        at_least_one(self, "steps", "batch_size", "crop")
        if self.start and not is_file(expanded(self.start) / "config.json"):
            refuse_special(self.start, f"start={self.start}")
            raise UserError(f"start={self.start} holds no config.json, expected a model's directory")
        if not self.scales or min(self.scales) < 1:
            raise UserError(f"scales={self.scales}, expected factors of 1 or more")
        if self.crop % 8:
            raise UserError(f"crop={self.crop}, expected a multiple of 8")
        if self.minutes <= 0 or self.lr <= 0:
            raise UserError(f"minutes={self.minutes:g} and lr={self.lr:g}, expected more than 0")
        if is_file(expanded(self.out)):
            raise UserError(f"out={self.out} is a file, expected a directory or a new name")


def main() -> None:
    """Runs the command ``python -m recon.fit``."""
    run(FitConfig, _job, prog="python -m recon.fit", about=__doc__ or "")


def _job(config: FitConfig) -> None:
    # Before the training: a folder that can't be read must not be found out an hour later.
    heldout = [centre(photo) for photo in load_photographs(config.heldout)]
    photographs = shrink(load_photographs(config.source), config.crop, config.scales)
    claim(config.out)
    model, steps, seconds = fit(config, photographs)
    save(model, config.out)
    psnr = measure_psnr(model, heldout)
    sys.stdout.write(f"{config.out}: {steps} steps in {seconds / 60:.1f} min, ")
    sys.stdout.write(f"{np.mean(psnr):.2f} dB on {len(psnr)} photographs not trained on\n")


def fit(config: FitConfig, photographs: list[Pixels]) -> tuple[Any, int, float]:
    """Trains on photographs of (H, W, 3) uint8, none smaller than a crop.

    Returns:
        The model (float32, eval mode), the number of steps and the seconds that they took.
    """
    import torch

    from recon.base.device import find_device, prepare_cpu

    prepare_cpu(config.threads or available_cpus())
    rng = np.random.default_rng(config.seed)
    with torch.random.fork_rng():  # leaves the random numbers of the caller's process alone
        torch.manual_seed(config.seed)
        model = _load(config.start) if config.start else _build(photographs, rng)
        model = model.to(find_device(config.device), memory_format=torch.channels_last)
        steps, seconds = _train(model, photographs, config, rng)
    return model.cpu().eval(), steps, seconds


def measure_psnr(model: Any, centres: list[Pixels]) -> list[float]:
    """Returns the PSNR in dB of each image's reconstruction (posterior's mode, rounded to 8 bits).

    Args:
        model: a diffusers `AutoencoderKL` in float32.
        centres: (H, W, 3) uint8; H and W are multiples of 8.
    """
    return [_psnr(model, pixels) for pixels in centres]


def claim(out: str) -> None:
    """Makes the folder of the model, and the one beside it that `save` writes first.

    Raises:
        UserError: one of them can't be made.
    """
    target = expanded(out)
    with _writing(target):
        make_folder(target)
        shutil.rmtree(_partial(target), ignore_errors=True)
        make_folder(_partial(target))


def save(model: Any, out: str) -> None:
    """Rounds the model's weights to float16 and writes them to `out`, where they replace an older model.

    Files are written to another folder and then renamed, the weights last.

    Raises:
        UserError: they can't be written.
    """
    import torch

    target = expanded(out)
    partial = _partial(target)
    claim(out)
    with _writing(target):
        with quiet("diffusers"):
            model.to(torch.float16).save_pretrained(partial, safe_serialization=True)
        model.to(torch.float32)  # now with the rounded values, so that the PSNR is that of the saved model
        for name in ("config.json", "diffusion_pytorch_model.safetensors"):
            (partial / name).chmod(0o644)  # safetensors writes files that only their owner can read
            os.replace(partial / name, target / name)
        partial.rmdir()


def _partial(target: Path) -> Path:
    return target.with_name(partial_name(target.name))


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"can't write {target}: {error.strerror or error}; choose another --out") from error


def _load(folder: str) -> Any:
    import diffusers

    untyped: Any = diffusers.AutoencoderKL  # diffusers has no types
    refuse_unprintable(expanded(folder))
    try:
        return untyped.from_pretrained(expanded(folder), local_files_only=True, low_cpu_mem_usage=False)
    except (OSError, ValueError) as error:
        raise UserError(f"start={folder} can't be loaded: {message_of(error)}") from error


def _build(photographs: list[Pixels], rng: np.random.Generator) -> Any:
    import diffusers

    untyped: Any = diffusers.AutoencoderKL
    model = untyped(
        down_block_types=("DownEncoderBlock2D",) * len(CHANNELS),
        up_block_types=("UpDecoderBlock2D",) * len(CHANNELS),
        block_out_channels=CHANNELS,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=1,  # 8 groups of 2 channels would lose the brightness of the image
        mid_block_add_attention=False,
        sample_size=CENTRE_SIDE,
    )
    start_linear(model, photographs, rng)
    return model


def _train(
    model: Any, photographs: list[Pixels], config: FitConfig, rng: np.random.Generator
) -> tuple[int, float]:
    """Trains until the time or the steps are used up; returns the number of steps and the seconds."""
    import torch

    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr, fused=True)
    start = time.monotonic()
    step, seconds, share = 0, 0.0, 0.0
    with Progress(total=config.steps, unit="steps", what="fit") as progress:
        while share < 1.0:
            optimizer.param_groups[0]["lr"] = config.lr * _schedule(share)
            crops = random_crops(photographs, config.batch_size, config.crop, rng)
            error = _step(model, optimizer, _to_tensor(crops).to(model.device), config.kl_weight)
            step, seconds = step + 1, time.monotonic() - start
            # The share of the limit that is reached first; it drives the learning rate, too.
            share = max(step / (config.steps or float("inf")), seconds / (60 * config.minutes))
            minutes = f"{seconds / 60:.1f} of {config.minutes:g} min"
            # Values are in -1..1, so the peak is 2 and its square 4.
            progress.note(f"{minutes}, training PSNR {-10 * np.log10(error / 4):.2f} dB")
            progress.update()
    return step, seconds


def _schedule(share: float) -> float:
    """Returns the factor of the learning rate: linear warm-up for the first 1 %, then half a cosine to 0."""
    # 1e-2 is added because share is 0 at the first step, which would then change nothing.
    return float(min(1.0, share * 100 + 1e-2) * 0.5 * (1 + np.cos(np.pi * min(1.0, share))))


def _step(model: Any, optimizer: "torch.optim.Optimizer", x_BCHW: "torch.Tensor", kl_weight: float) -> float:
    """Makes one optimizer step; returns the mean squared error of values in -1..1."""
    import torch

    with torch.autocast(x_BCHW.device.type, torch.bfloat16):
        posterior = model.encode(x_BCHW).latent_dist
        decoded = model.decode(posterior.sample()).sample
    # In float32: bfloat16 has 8 bits of precision, too few for a mean over many small squares.
    error = (decoded.float() - x_BCHW).square().mean()
    (error + kl_weight * posterior.kl().float().mean()).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(error.detach())


def _psnr(model: Any, pixels: Pixels) -> float:
    import torch

    x_BCHW = _to_tensor(pixels[None])
    with torch.no_grad():
        decoded = model.decode(model.encode(x_BCHW).latent_dist.mode()).sample
    levels = ((decoded + 1) * 127.5).clamp(0, 255).round()
    error = (levels - (x_BCHW + 1) * 127.5).square().mean()
    return float(10 * torch.log10(255**2 / error))


def _to_tensor(pixels_BHWC: Pixels) -> "torch.Tensor":
    """Turns (B, H, W, 3) uint8 into (B, 3, H, W) float32 in -1..1, stored with the channels last."""
    import torch

    return torch.from_numpy(pixels_BHWC.copy()).movedim(-1, 1).float() / 127.5 - 1
