"""Another project's tensors with the names and the single output of a detector of ours."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from recon.base.errors import UserError
from train.model.backbones import classifier_of

_PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "net.", "vit.")
"""Names of the modules around a network: of DDP, torch.compile, and Community Forensics (``vit.``)."""

_REAL = {"real", "natural", "nature", "human", "authentic", "photo", "not fake"}
_FAKE = {"fake", "ai", "generated", "synthetic", "artificial", "deepfake", "ai-generated", "ai generated"}


def without_prefixes(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Removes what stands before all names."""
    found = dict(state)
    for _ in _PREFIXES:  # several may stand before each other, in any order
        for prefix in _PREFIXES:
            if all(name.startswith(prefix) for name in found):
                found = {name.removeprefix(prefix): value for name, value in found.items()}
    return found


def one_output(state: Mapping[str, Tensor], model: nn.Module, head: str, where: str) -> dict[str, Tensor]:
    """Makes the classifier one of a single logit, above 0 for a fake.

    The logit of two outputs is fake - real, as in ``main.py`` of grip-unina's detectors; as the classifier is
    linear, that is one output of the difference of its two rows.

    Args:
        state: the names of the model.
        model: of one logit.
        head: see `train.model.config.FileModel`.
        where: the file, for messages.

    Raises:
        UserError: the classifier has another number of outputs, or is not linear.
    """
    name = classifier_of(model)
    rows = {one: state[one] for one in (f"{name}.weight", f"{name}.bias") if one in state}
    outputs = {len(value) for value in rows.values() if value.ndim}
    expected = head.count("-") + 1
    if outputs and outputs != {expected}:
        raise UserError(
            f"{where}: the classifier {name} has {max(outputs)} outputs, but head={head} is of {expected}; a "
            "detector has one, or two as in --model.head real-fake"
        )
    if head == "fake":
        return dict(state)
    if head == "real":
        return dict(state) | {one: -value for one, value in rows.items()}
    fake = head.split("-").index("fake")
    return dict(state) | {
        one: value[fake : fake + 1] - value[1 - fake : 2 - fake] for one, value in rows.items()
    }


def head_of(outputs: Sequence[str], count: int, where: str) -> str:
    """What the outputs stand for by their names; without names fake, or real and fake.

    Raises:
        UserError: the names say neither real nor fake.
    """
    if not outputs:
        return "real-fake" if count == 2 else "fake"
    kinds = ["fake" if one.lower() in _FAKE else "real" if one.lower() in _REAL else "" for one in outputs]
    if sorted(kinds) in (["fake", "real"], ["fake"], ["real"]):
        return "-".join(kinds)
    raise UserError(
        f"{where}: outputs {', '.join(outputs)}, which are not one real and one fake; give --model.head"
    )


def rows_of(state: Mapping[str, Tensor], model: nn.Module) -> int:
    """Number of outputs of the classifier in a state dict; 1 if it has none, which loading will tell."""
    found = state.get(f"{classifier_of(model)}.weight")
    return len(found) if found is not None and found.ndim else 1
