"""Random images and their sizes, and short configurations, for the tests of reconstruction."""

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from recon.image.codec import Pixels
from recon.models.config import ReconstructionConfig

sizes = st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from((1, 3)))


def config(autoencoder: Path | str, **options: Any) -> ReconstructionConfig:
    return ReconstructionConfig(autoencoder=str(autoencoder), **{"device": "cpu", "threads": 1} | options)


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
