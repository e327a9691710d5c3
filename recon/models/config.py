"""The options that say by which autoencoder, and how, images are reconstructed."""

from dataclasses import dataclass
from typing import Literal

from recon.base.errors import UserError
from recon.base.options import MAX_THREADS, at_least_one, refuse_idle

TILING_PIXELS = 1 << 22
"""Default of `ReconstructionConfig.tiling_pixels`, and no more than batches of several images have.

Activations at 4 megapixels in float32: tiny 1.6 GiB, taesd 3.1, Stable Diffusion's 12 (bfloat16: half),
beside what the kernels need for themselves.
"""

MIN_TILING_PIXELS = 1 << 18
"""In tiles below 512x512, most pixels would be those of overlaps."""


@dataclass(frozen=True, kw_only=True)
class ReconstructionConfig:
    """Which autoencoder, and how it runs; everything here is recorded beside the result."""

    autoencoder: str = "tiny"
    """A preset (tiny, ldm-f8, sd15, sd21, sdxl, sd3, flux1; identity is the null control), a hub id, or a directory written by save_pretrained."""  # noqa: E501
    subfolder: str | None = None
    """Folder of the autoencoder inside the model; presets know theirs."""
    revision: str | None = None
    """Commit of a hub model; presets pin their own, local directories have none."""
    posterior: Literal["mode", "sample"] = "mode"
    """Decode the posterior's mode, or a sample of it with a seed of its own per image."""
    seed: int = 0
    """Seed of the posterior samples, mixed with each image's key."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Arithmetic of the autoencoder."""
    device: str = "auto"
    """torch device; auto takes cuda where there is one, else cpu."""
    batch_size: int = 8
    """Images of one size reconstructed together, at most; large ones go 4 megapixels at a time."""
    threads: int = 0
    """CPU threads of the autoencoder; 0 takes all it may run on. Recorded, since kernels depend on it."""
    channels_last: bool = False
    """Lay images out in memory with the channels last: faster on GPUs in half precision."""
    compile: bool = False
    """Run encoder and decoder through torch.compile, which needs a C++ compiler and minutes to begin with, and then changes a level of 255 here and there with the sizes seen before."""  # noqa: E501
    tiling_pixels: int = TILING_PIXELS
    """Images that, padded, have more pixels are reconstructed in tiles of at most this many, 262144 or more. Tiles overlap by 256 pixels, and pass into each other linearly across the middle 64."""  # noqa: E501

    def __post_init__(self) -> None:
        at_least_one(self, "batch_size")
        if self.tiling_pixels < MIN_TILING_PIXELS:
            raise UserError(f"tiling_pixels={self.tiling_pixels}, expected at least {MIN_TILING_PIXELS}")
        if not 0 <= self.threads <= MAX_THREADS:
            raise UserError(f"threads={self.threads}, expected 0 (all cores) to {MAX_THREADS}")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"seed={self.seed}, expected 0 <= seed < 2**63")
        if self.posterior == "mode":
            refuse_idle(self, "seed", because="only posterior=sample draws")
        if self.autoencoder == "identity":
            refuse_idle(self, "subfolder", "revision", because="autoencoder=identity has no files")
