"""Which files of a model's folder hold the weights that are loaded: by name, so on the hub as well."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

STEM = "diffusion_pytorch_model"
"""Beginning of the names that `save_pretrained` gives to weights."""

SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
"""Suffixes of files that hold torch's tensors; all but the first are pickles."""

_NAME = re.compile(
    rf"{STEM}(\.(?P<variant>[\w-]+))?\.(?P<kind>safetensors|bin)|"
    # Until 2024 a variant stood before ".index".
    rf"{STEM}\.(?P<kinds>safetensors|bin)(\.(?P<older>[\w-]+))?\.index(\.(?P<newer>[\w-]+))?\.json"
)
_PART = re.compile(r".*-\d{5}-of-\d{5}\..*")
_FOREIGN = {
    ".onnx": "an ONNX export",
    ".msgpack": "Flax weights",
    ".gguf": "quantised weights",
    ".h5": "Keras",
}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The file of a folder that is loaded."""

    name: str
    """Name of the weights, or of the index of their parts."""
    variant: str | None
    """Such as ``fp16``; None for the plain weights."""
    is_index: bool
    """Whether `name` is a JSON file that names the parts."""
    is_safe: bool
    """Whether the weights are safetensors; a pickle could run code."""


def chosen(names: Iterable[str]) -> Choice | None:
    """Returns what to load: the plain weights, else those of the only variant, None if there is no such file.

    Safetensors come before pickles, and an index before a single file, as in diffusers' `from_pretrained`.
    """
    found = [choice for name in names if (choice := _choice(name))]
    plain = [choice for choice in found if choice.variant is None]
    if not plain and len({choice.variant for choice in found}) > 1:
        return None  # fp16 and non_ema, say, are different weights
    return min(plain or found, key=lambda one: (not one.is_safe, not one.is_index, one.name), default=None)


def _choice(name: str) -> Choice | None:
    found = _NAME.fullmatch(name)
    if not found or is_part(name):  # its index counts
        return None
    kind = found["kind"] or found["kinds"]
    variant = found["variant"] or found["older"] or found["newer"]
    return Choice(name=name, variant=variant, is_index=found["kind"] is None, is_safe=kind == "safetensors")


def is_part(name: str) -> bool:
    """Whether a file is one of several parts, such as ``...-00001-of-00002.safetensors``."""
    return _PART.fullmatch(name) is not None


def without_weights(where: str, names: Collection[str]) -> str:
    """Returns why nothing could be chosen, with the files that are there and what to do."""
    message = f"no weights in {where}, expected {STEM}.safetensors or {STEM}.bin"
    variants = sorted(name for name in names if _choice(name))
    if variants:
        return f"{message}; it has several variants: give one itself, such as .../{', .../'.join(variants)}"
    if single := single_files(names):
        return f"{message}; it has {', '.join(single)}: give that file itself"
    if parts := sorted(name for name in names if is_part(name)):
        return f"{message}; it has {', '.join(parts)} without their index; fetch the model again"
    foreign = [
        f"{name} ({_FOREIGN[suffix]})" for name in sorted(names) if (suffix := _suffix(name)) in _FOREIGN
    ]
    if foreign:
        return f"{message}; it has {', '.join(foreign)}, which can't be loaded; fetch the torch weights"
    return f"{message}; it has {', '.join(sorted(names)[:8]) or 'no file'}"


def single_files(names: Iterable[str]) -> list[str]:
    """Returns the names of files that may hold a whole autoencoder."""
    return sorted(name for name in names if _suffix(name) in SUFFIXES and not is_part(name))


def _suffix(name: str) -> str:
    return name[name.rfind(".") :] if "." in name else ""
