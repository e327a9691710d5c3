"""In: a packed dataset of pairs. Out: a trained detector of generated images, and its evaluation.

`PairLoader` can feed any trainer; ``torchrun ... -m train`` is the trainer of this package.
"""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from train.detector.detector import Detector
    from train.draws.config import load_recipe
    from train.loader.loader import PairLoader
    from train.loader.transfer import Batch
    from train.model.build import build_model
    from train.model.config import ModelConfig
    from train.model.normalize import normalize

__all__ = ["Batch", "Detector", "ModelConfig", "PairLoader", "build_model", "load_recipe", "normalize"]

_HOMES = {  # the module of each name; imported on first use, because torch takes seconds
    "Batch": "train.loader.transfer",
    "Detector": "train.detector.detector",
    "ModelConfig": "train.model.config",
    "PairLoader": "train.loader.loader",
    "build_model": "train.model.build",
    "load_recipe": "train.draws.config",
    "normalize": "train.model.normalize",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        _refuse_namesakes()
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'train' has no attribute {name!r}; it offers {', '.join(__all__)}")


def _refuse_namesakes() -> None:
    """Refuses another module called `recon` or `pack` that Python would import instead of our package."""
    # Otherwise the user would see an ImportError that names neither the other file nor the reason.
    root = Path(__file__).resolve().parent.parent
    for name in ("recon", "pack"):
        found = find_spec(name)
        if found and found.origin and Path(found.origin).resolve().parent.parent != root:
            raise ImportError(
                f"{found.origin} hides our package {name!r}; rename it, or put {root} first in sys.path"
            )
