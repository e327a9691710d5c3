"""Which weights of a detector are trained; the others stay, and so do the statistics of their norms."""

from typing import Any

from torch import nn

from recon.base.errors import UserError
from train.model.backbones import classifier_of
from train.model.lora import factors

_BLOCKS = ("blocks", "stages", "layers")  # what timm calls the container of a model's repeated part


def freeze(model: nn.Module, trained: str) -> list[nn.Module]:
    """Leaves the gradient to the weights that are trained.

    Args:
        model: a detector of `train.model.build`.
        trained: ``all``; ``head``: its last layer; ``last:N``: the last N blocks and all behind them;
            ``lora``: the last layer, and what `train.model.lora.add_lora` has added.

    Returns:
        The parts none of whose weights is trained, outermost first; they belong into eval mode in training.
        With LoRA these include the parts that it changes.

    Raises:
        UserError: `trained` has another form, or the model has no N blocks.
    """
    if trained == "all":
        return []
    kept = _behind(model, trained)
    ours = {id(weight) for part in kept for weight in part.parameters()}
    for weight in model.parameters():
        weight.requires_grad_(id(weight) in ours)
    still = _still(model)
    if trained == "lora":
        for weight in factors(model):
            weight.requires_grad_(True)
    return still


def _behind(model: nn.Module, trained: str) -> list[nn.Module]:
    """The parts that are trained."""
    if trained in ("head", "lora"):
        return [model.get_submodule(classifier_of(model))]
    count = int(trained.removeprefix("last:"))
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


def depths(model: nn.Module) -> dict[str, int]:
    """The layer of each weight, counted from the input; the head's is the last.

    A layer is what timm calls one (``group_matcher``: the blocks of a transformer, what is before the first,
    and the head), or a stage of our own networks.

    Raises:
        UserError: timm has not said so of a model.
    """
    timm: Any = dict(model.named_children()).get("timm")
    if timm is not None:
        return _depths_of_timm(timm)
    found: dict[str, int] = {}
    depth, inside = 0, False
    for name, part in model.named_children():
        weights = [f"{name}.{weight}" for weight, _ in part.named_parameters()]
        if weights:
            is_stage = isinstance(part, nn.Sequential)
            depth += is_stage or inside  # what follows the last stage is one layer more
            inside = is_stage
        found |= dict.fromkeys(weights, depth)
    return found


def _depths_of_timm(timm: Any) -> dict[str, int]:
    from timm.models import group_parameters

    if not hasattr(timm, "group_matcher"):
        raise UserError(f"optim.layer_decay: timm does not say which layers {type(timm).__name__} has")
    matcher = timm.group_matcher(coarse=False)
    found: dict[str, int] = group_parameters(timm, matcher, reverse=True)
    return {f"timm.{name}": depth for name, depth in found.items()}


def clear_head(model: nn.Module) -> None:
    """Sets the last layer to 0, where Stay-Positive begins it (`freeze_backbone` in its authors' code)."""
    for weight in model.get_submodule(classifier_of(model)).parameters():
        nn.init.zeros_(weight)


def is_still(module: nn.Module) -> bool:
    """Whether a module has weights, and none of them is trained."""
    weights = list(module.parameters())
    return bool(weights) and not any(weight.requires_grad for weight in weights)


def _still(module: nn.Module) -> list[nn.Module]:
    if is_still(module):
        return [module]
    return [still for child in module.children() for still in _still(child)]
