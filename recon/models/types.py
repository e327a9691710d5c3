"""The interface of an autoencoder, and what is recorded about one."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from recon.base.errors import UserError
from recon.models.config import TILING_PIXELS


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What made the reconstructions, recorded with them; data are the same only if all fields are equal."""

    autoencoder: str
    """Hub id, preset that needs no hub, or the name of a local autoencoder (`recon.models.names`)."""
    model_class: str
    """One of `recon.models.adapters.ADAPTERS`, or ``identity``."""
    subfolder: str | None
    """Folder of the autoencoder inside the model."""
    revision: str | None
    """Commit of a hub model, resolved; None for local directories."""
    weights_sha256: str
    """SHA-256 of the weight file (of several files joined, sorted by name); empty for identity."""
    dtype: str
    """Number format of the computation: float32, bfloat16 or float16."""
    device: str
    """Kind of device, ``cpu`` or ``cuda``; their kernels give slightly different pixels."""
    posterior: Literal["mode", "sample"]
    """Whether the posterior's mode or a sample of it was decoded."""
    seed: int
    """Seed of the posterior samples; combined with each image's key."""
    threads: int
    """Number of CPU threads, never 0; it changes the pixels slightly."""
    downscale: int
    """Image pixels per latent pixel along each side, as measured when the model was loaded."""
    channels_last: bool = False
    """Memory layout of the activations; it changes the pixels slightly."""
    compiled: bool = False
    """Whether torch.compile made the kernels."""
    tiling_pixels: int = TILING_PIXELS
    """Images of more padded pixels were reconstructed in tiles."""
    generations: int = 1
    """How often each image went through the autoencoder."""

    def recorded(self) -> dict[str, Any]:
        """The fields by name. Older records have no `generations`, so it is there only if it is above 1."""
        return {name: value for name, value in asdict(self).items() if (name, value) != ("generations", 1)}


class OutOfMemoryError(UserError):
    """A batch doesn't fit into memory; a smaller batch may fit."""


class Autoencoder(Protocol):
    """The interface that `recon.reconstruct.reconstruct` needs."""

    provenance: Provenance

    @property
    def multiple(self) -> int:
        """Height and width of a batch must be multiples of this many pixels."""

    @property
    def only_side(self) -> int | None:
        """Height and width in pixels of the only images that it takes; None: it takes any size."""

    def reconstruct_batch(self, x_BCHW: NDArray[np.float32], seeds: Sequence[int]) -> NDArray[np.float32]:
        """Reconstructs float32 RGB in [0, 1]; the result has the same shape and may exceed [0, 1].

        Args:
            x_BCHW: a batch with C = 3; height and width are multiples of `multiple`.
            seeds: one for each image (`image_seed`), for the posterior sample.

        Raises:
            OutOfMemoryError: the batch doesn't fit into memory; its text is written for a single image.
            UserError: the device can't compute in this number format.
        """


class Identity:
    """The null control: its reconstruction is the image, exactly."""

    def __init__(self, provenance: Provenance) -> None:
        """Takes what is recorded with the images."""
        self.provenance = provenance

    @property
    def multiple(self) -> int:
        """1: any size is possible."""
        return self.provenance.downscale

    @property
    def only_side(self) -> None:
        """It takes any size."""
        return None

    def reconstruct_batch(self, x_BCHW: NDArray[np.float32], seeds: Sequence[int]) -> NDArray[np.float32]:
        """Returns the batch unchanged."""
        assert len(x_BCHW) == len(seeds)
        return x_BCHW


def image_seed(seed: int, key: str) -> int:
    """Returns the seed in 0..2**63-1 of one image's posterior sample; it doesn't depend on the batch."""
    # A key may come from a file name that isn't UTF-8, hence surrogateescape.
    text = f"{seed}\n{key}".encode(errors="surrogateescape")
    # The shift leaves 63 bits, which fit into a signed 64-bit integer.
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1
