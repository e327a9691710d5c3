"""What an autoencoder is here, and what is recorded of one."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from recon.base.errors import UserError
from recon.models.config import TILING_PIXELS


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What made the reconstructions: recorded beside them, and equal or not the same data."""

    autoencoder: str
    """Hub id, preset that needs no hub, or a local directory's own name."""
    model_class: str
    """One of `CLASSES`, or ``identity``."""
    subfolder: str | None
    """Folder of the autoencoder inside the model."""
    revision: str | None
    """Commit of a hub model, resolved; None for local directories."""
    weights_sha256: str
    """SHA-256 of the weight file (of several: of all, sorted by name); empty for identity."""
    dtype: str
    """Arithmetic: float32, bfloat16 or float16."""
    device: str
    """Kind of device, ``cpu`` or ``cuda``: kernels differ."""
    posterior: Literal["mode", "sample"]
    """What of the posterior was decoded."""
    seed: int
    """Seed of the samples, mixed with each image's key."""
    threads: int
    """CPU threads, resolved: kernels depend on their number."""
    downscale: int
    """Image pixels per latent pixel along each side."""
    channels_last: bool = False
    """Layout of the activations: kernels differ."""
    compiled: bool = False
    """Whether torch.compile made the kernels."""
    tiling_pixels: int = TILING_PIXELS
    """Images of more padded pixels were made in tiles."""


class OutOfMemoryError(UserError):
    """A batch doesn't fit into memory; a smaller one may."""


class Autoencoder(Protocol):
    """What `recon.reconstruct.reconstruct` needs of an autoencoder."""

    provenance: Provenance

    @property
    def multiple(self) -> int:
        """Height and width of a batch must be multiples of this many pixels."""

    def reconstruct_batch(self, x_BCHW: NDArray[np.float32], seeds: Sequence[int]) -> NDArray[np.float32]:
        """Reconstructs float32 RGB in [0, 1]; the result has its shape and may overshoot [0, 1].

        Args:
            x_BCHW: batch, C = 3 channels, height and width multiples of `multiple`.
            seeds: one for each image (`image_seed`), for the posterior's sample.

        Raises:
            OutOfMemoryError: the batch doesn't fit; the text holds for a batch of one image.
            UserError: arithmetic that the device lacks.
        """


class Identity:
    """The null control: its reconstruction is the image, exactly."""

    def __init__(self, provenance: Provenance) -> None:
        """Takes what is recorded beside the images."""
        self.provenance = provenance

    @property
    def multiple(self) -> int:
        """Any size will do."""
        return self.provenance.downscale

    def reconstruct_batch(self, x_BCHW: NDArray[np.float32], seeds: Sequence[int]) -> NDArray[np.float32]:
        """Returns the batch."""
        assert len(x_BCHW) == len(seeds)
        return x_BCHW


def image_seed(seed: int, key: str) -> int:
    """The seed in 0..2**63-1 of one image's posterior sample, whatever batch it runs in."""
    text = f"{seed}\n{key}".encode(errors="surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1
