"""Which weights of a detector are trained; the others stay, and so do the statistics of their norms."""

import re

from torch import nn

from recon.base.errors import UserError
from train.model.backbones import classifier_of

_LAST = re.compile(r"last:(\d+)")
_BLOCKS = ("blocks", "stages", "layers")  # what timm calls the container of a model's repeated part
_FORMS = "all, head, or last:N (the last N blocks and the head)"


def freeze(model: nn.Module, trained: str) -> list[nn.Module]:
    """Leaves the gradient to the weights that are trained.

    Args:
        model: a detector of `train.model.build`.
        trained: ``all``; ``head``: its last layer; ``last:N``: the last N blocks and all behind them.

    Returns:
        The parts none of whose weights is trained, outermost first; they belong into eval mode in training.

    Raises:
        UserError: `trained` has another form, or the model has no N blocks.
    """
    if trained == "all":
        return []
    kept = _behind(model, trained)
    ours = {id(weight) for part in kept for weight in part.parameters()}
    for weight in model.parameters():
        weight.requires_grad_(id(weight) in ours)
    return _still(model)


def _behind(model: nn.Module, trained: str) -> list[nn.Module]:
    """The parts that are trained."""
    if trained == "head":
        return [model.get_submodule(classifier_of(model))]
    found = _LAST.fullmatch(trained)
    if not found or not int(found[1]):
        raise UserError(f"model.train={trained}, expected {_FORMS}")
    count = int(found[1])
    root = dict(model.named_children()).get("timm", model)
    parts = _parts(root)
    places = [place for place, (_, is_block) in enumerate(parts) if is_block]
    if count > len(places):
        raise UserError(f"model.train={trained}, but the model has {len(places)} blocks; take at most these")
    return [part for part, _ in parts[places[-count] :]]


def _parts(root: nn.Module) -> list[tuple[nn.Module, bool]]:
    """The parts of a network in their order, and whether each is a block."""
    children = dict(root.named_children())
    container = next((name for name in _BLOCKS if name in children), None)
    found: list[tuple[nn.Module, bool]] = []
    for name, child in children.items():
        if name == container:
            found += [(block, True) for block in child.children()]
        else:
            found.append((child, container is None and isinstance(child, nn.Sequential)))
    return found


def is_still(module: nn.Module) -> bool:
    """Whether a module has weights, and none of them is trained."""
    weights = list(module.parameters())
    return bool(weights) and not any(weight.requires_grad for weight in weights)


def _still(module: nn.Module) -> list[nn.Module]:
    if is_still(module):
        return [module]
    return [still for child in module.children() for still in _still(child)]
