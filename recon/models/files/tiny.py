"""The weights of TAESD and its family: two files of numbered layers to the names of `AutoencoderTiny`.

The layers and their order: https://github.com/madebyollin/taesd/blob/main/taesd.py. diffusers' decoder has no
layer for the clamping at its start, hence the numbers that are one less
(https://github.com/huggingface/diffusers/blob/main/scripts/convert_tiny_autoencoder_to_diffusers.py).
"""

import re
from collections.abc import Collection
from itertools import pairwise
from pathlib import Path
from typing import Any

from recon.base.errors import UserError
from recon.base.paths import is_file
from recon.models.files.damage import Shapes

HALVES = ("encoder", "decoder")


def pair_names(name: str) -> list[str] | None:
    """Returns the names of encoder and decoder if `name` is that of one of them."""
    stem, dot, suffix = name.rpartition(".")
    for half in HALVES:
        if stem.endswith(f"_{half}"):
            return [f"{stem.removesuffix(half)}{each}{dot}{suffix}" for each in HALVES]
    return None


def pair_of(path: Path) -> list[Path] | None:
    """Returns encoder and decoder if a file is one of them, by its name.

    Raises:
        UserError: the other one is not there.
    """
    names = pair_names(path.name)
    if names is None:
        return None
    both = [path.with_name(name) for name in names]
    if missing := [one.name for one in both if not is_file(one)]:
        raise UserError(f"{path} is half an autoencoder: {missing[0]} is not beside it")
    return both


def layer_names(names: Collection[str], half: str) -> dict[str, str]:
    """Returns diffusers' name of each weight of a half, by its name in the file."""
    numbered = {name: re.fullmatch(r"(\d+)\.(.+)", name) for name in names}
    shift = 1 if half == "decoder" else 0
    return {
        name: f"{half}.layers.{int(found[1]) - shift}.{found[2]}" if found else f"{half}.{name}"
        for name, found in numbered.items()
    }


def is_tiny(names: Collection[str]) -> bool:
    """Whether the weights are those of an `AutoencoderTiny` under diffusers' names."""
    return "encoder.layers.0.weight" in names


def settings(shapes: Shapes, base: dict[str, Any]) -> dict[str, Any]:
    """Returns the config of a tiny autoencoder, by the shapes of its weights under diffusers' names.

    Args:
        shapes: shape of each weight.
        base: the settings that no shape tells.

    Raises:
        KeyError: a half has no layers.
    """
    encoder, decoder = _convolutions(shapes, "encoder"), _convolutions(shapes, "decoder")
    return {
        **base,
        "in_channels": encoder[0][1][1],
        "latent_channels": encoder[-1][1][0],
        "encoder_block_out_channels": [shape[0] for _, shape in encoder[:-1]],
        "num_encoder_blocks": _between(shapes, "encoder", encoder),
        "out_channels": decoder[-1][1][0],
        "decoder_block_out_channels": [shape[1] for _, shape in decoder[1:]],
        "num_decoder_blocks": _between(shapes, "decoder", decoder),
    }


def _convolutions(shapes: Shapes, half: str) -> list[tuple[int, tuple[int, ...]]]:
    """Returns number and shape of the convolutions that stand between the blocks."""
    found = [(re.fullmatch(rf"{half}\.layers\.(\d+)\.weight", name), shape) for name, shape in shapes.items()]
    numbered = sorted((int(name[1]), shape) for name, shape in found if name)
    if len(numbered) < 2:
        raise KeyError(f"{half}.layers")
    return numbered


def _between(shapes: Shapes, half: str, convolutions: list[tuple[int, tuple[int, ...]]]) -> list[int]:
    """Returns how many blocks stand between each two successive convolutions."""
    blocks = {
        int(found[1])
        for name in shapes
        if (found := re.match(rf"{half}\.layers\.(\d+)\.conv\.0\.weight", name))
    }
    numbers = [number for number, _ in convolutions]
    counts = [sum(first < block < last for block in blocks) for first, last in pairwise(numbers)]
    if not all(counts):
        raise KeyError(f"a block between two convolutions of the {half}")
    return counts
