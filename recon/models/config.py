"""The options that choose the autoencoder and how it runs."""

from dataclasses import dataclass
from typing import Literal

from recon.base.errors import UserError
from recon.base.options import MAX_THREADS, at_least_one, refuse_idle

TILING_PIXELS = 1 << 22
"""Default of `ReconstructionConfig.tiling_pixels`; also the largest batch of several images.

Activations at 4 megapixels in float32 take 1.6 GiB (tiny), 3.1 GiB (taesd) or 12 GiB (Stable Diffusion; half
of it in bfloat16), in addition to the memory of the kernels themselves.
"""

MIN_TILING_PIXELS = 1 << 18
"""512x512: in smaller tiles most pixels would belong to overlaps and be computed twice."""


@dataclass(frozen=True, kw_only=True)
class ReconstructionConfig:
    """Which autoencoder, and how it runs; all of it is recorded with the result."""

    autoencoder: str = "tiny"
    """A preset (python -m recon --list shows them; identity is the null control), a hub id (owner/model, owner/model/vae, owner/model@COMMIT), a directory written by save_pretrained, or a file of weights such as ae.safetensors. NAME=... records any of these as NAME."""  # noqa: E501
    subfolder: str | None = None
    """Folder of the autoencoder inside the model; a preset needs none."""
    revision: str | None = None
    """Commit, branch or tag of a hub model; a preset has its own by default, local files have none."""
    posterior: Literal["mode", "sample"] = "mode"
    """Decode the mode of the posterior, or a sample of it; each image has its own seed."""
    seed: int = 0
    """Seed of the posterior samples; combined with each image's key."""
    generations: int = 1
    """How often an image goes through the autoencoder, each time from the 8-bit image of the time before."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format in which the autoencoder computes."""
    device: str = "auto"
    """torch device; auto is cuda if there is a GPU, otherwise cpu."""
    batch_size: int = 8
    """Largest number of images reconstructed together; fewer if they have more than 4 megapixels together."""
    threads: int = 0
    """CPU threads; 0 uses all CPUs of the process. Recorded, because the results depend on it slightly."""
    channels_last: bool = False
    """Store images in memory with the channels last; faster on GPUs in half precision."""
    compile: bool = False
    """Run encoder and decoder through torch.compile. It needs a C++ compiler and takes minutes at the start; after that some values may differ by one level of 255, depending on the sizes seen before."""  # noqa: E501
    tiling_pixels: int = TILING_PIXELS
    """Largest padded image that is reconstructed in one piece, in pixels, at least 262144. A larger one is cut into tiles of at most this many pixels; tiles overlap by 256 pixels and are blended linearly across the middle 64."""  # noqa: E501

    def __post_init__(self) -> None:
        at_least_one(self, "batch_size", "generations")
        if self.tiling_pixels < MIN_TILING_PIXELS:
            raise UserError(f"tiling_pixels={self.tiling_pixels}, expected at least {MIN_TILING_PIXELS}")
        if not 0 <= self.threads <= MAX_THREADS:
            raise UserError(f"threads={self.threads}, expected 0 (all cores) to {MAX_THREADS}")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"seed={self.seed}, expected 0 <= seed < 2**63")
        # The options below would be recorded, and two equal datasets would look different.
        if self.posterior == "mode":
            refuse_idle(self, "seed", because="only posterior=sample uses it")
        if self.autoencoder == "identity":
            refuse_idle(self, "subfolder", "revision", because="autoencoder=identity has no files")
