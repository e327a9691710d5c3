"""Training and evaluation of detectors of generated images on packed pairs.

`PairLoader` serves any trainer; ``torchrun ... -m train`` is ours.
"""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from train.draws.config import load_recipe
    from train.loader.loader import PairLoader
    from train.loader.transfer import Batch
    from train.model.build import build_model
    from train.model.config import ModelConfig
    from train.model.normalize import normalize

__all__ = ["Batch", "ModelConfig", "PairLoader", "build_model", "load_recipe", "normalize"]

_HOMES = {  # imported when asked for: torch takes seconds
    "Batch": "train.loader.transfer",
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
    """Names a module that hides our packages, before Python says that it lacks what ours has."""
    root = Path(__file__).resolve().parent.parent
    for name in ("recon", "pack"):
        found = find_spec(name)
        if found and found.origin and Path(found.origin).resolve().parent.parent != root:
            raise ImportError(
                f"{found.origin} hides our package {name!r}; rename it, or put {root} first in sys.path"
            )
