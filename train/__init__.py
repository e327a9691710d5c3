"""Training and evaluation of detectors of generated images on packed pairs.

`PairLoader` serves any trainer; ``torchrun ... -m train`` is ours.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from train.loader import PairLoader
    from train.transfer import Batch

__all__ = ["Batch", "PairLoader"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from train import loader

        return getattr(loader, name)
    raise AttributeError(f"module 'train' has no attribute {name!r}; it offers {', '.join(__all__)}")
