"""An autoencoder in one file, or in an encoder's and a decoder's, as other programs keep it.

    ae.safetensors                      FLUX's, and any autoencoder of the latent diffusion family
    sd_xl_base_1.0.safetensors          a whole model: the autoencoder is taken out
    taesd_encoder.pth taesd_decoder.pth

diffusers' `from_single_file` is not used. Without a config it asks the hub, and takes FLUX's file for that of
Stable Diffusion 1.5; and it leaves weights that a file lacks at random values, without a word. Here the
config follows from the shapes of the tensors, and the file must have exactly the weights that it describes.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recon.base.errors import UserError
from recon.models.files import kl, tiny
from recon.models.files.damage import Shapes
from recon.models.files.tensors import TensorFile

_PERHAPS = "it may be damaged, or of another build than diffusers has"

Read = Callable[[], dict[str, Any]]
"""Reads the tensors under diffusers' names."""


def open_single(path: Path) -> tuple[dict[str, Any], list[Path], Read]:
    """Finds the autoencoder in a file.

    Returns:
        Its config, the files that hold it (sorted by name), and what reads its tensors.

    Raises:
        UserError: a file is damaged, or holds no autoencoder of a known kind.
    """
    if pair := tiny.pair_of(path):
        return _open_pair(pair)
    file = TensorFile(path)
    if tiny.is_tiny(file.shapes):
        return _found(path, [path], file.shapes, "AutoencoderTiny", lambda: file.read(file.shapes))
    prefix = kl.prefix_of(file.shapes)
    if prefix is None:
        raise UserError(
            f"{path} holds no autoencoder that is known: expected encoder.conv_in.weight, alone or behind "
            f"{' or '.join(kl.PREFIXES[1:])}, found {', '.join(sorted(file.shapes)[:3]) or 'nothing'}; "
            "give a directory written by save_pretrained"
        )
    names = kl.renamed(file.shapes, prefix)
    shapes = {new: _as_kept(new, file.shapes[old]) for old, new in names.items()}

    def read() -> dict[str, Any]:
        import torch

        tensors = {names[old]: tensor for old, tensor in file.read(names).items()}
        kept = {name: tensor.reshape(shapes[name]) for name, tensor in tensors.items()}
        if "bn.running_mean" in kept and "bn.num_batches_tracked" not in kept:
            kept["bn.num_batches_tracked"] = torch.tensor(0)  # a count of the training, which some files lack
        return kept

    return _found(path, [path], shapes, kl.class_of(shapes), read)


def _as_kept(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the shape in which diffusers keeps a weight."""
    return shape[:2] if kl.is_linear(name) and set(shape[2:]) == {1} else shape


def _open_pair(files: list[Path]) -> tuple[dict[str, Any], list[Path], Read]:
    halves = dict(zip(tiny.HALVES, map(TensorFile, files), strict=True))
    names = {half: tiny.layer_names(file.shapes, half) for half, file in halves.items()}
    shapes = {names[half][old]: shape for half, file in halves.items() for old, shape in file.shapes.items()}

    def read() -> dict[str, Any]:
        return {
            names[half][old]: tensor
            for half, file in halves.items()
            for old, tensor in file.read(file.shapes).items()
        }

    return _found(files[0], sorted(files), shapes, "AutoencoderTiny", read)


def _found(
    path: Path, files: list[Path], shapes: Shapes, model_class: str, read: Read
) -> tuple[dict[str, Any], list[Path], Read]:
    base = json.loads(Path(__file__).with_name(f"{model_class}.json").read_text("utf-8"))
    derive = tiny.settings if model_class == "AutoencoderTiny" else kl.settings
    try:
        settings = derive(shapes, base)
    except KeyError as error:
        raise UserError(f"{path} lacks {error.args[0]} of an {model_class}; {_PERHAPS}") from error
    except (IndexError, ValueError) as error:  # a tensor of fewer dimensions
        raise UserError(f"{path} has wrongly shaped weights of an {model_class}; {_PERHAPS}") from error

    def read_checked() -> dict[str, Any]:
        _check_complete(path, settings, shapes)
        return read()

    return settings, files, read_checked


def _check_complete(path: Path, settings: dict[str, Any], shapes: Shapes) -> None:
    """Refuses a file that lacks a weight of its model, or has one that the model would leave out."""
    import diffusers
    import torch

    try:
        with torch.device("meta"):  # shapes alone, no memory
            model = getattr(diffusers, settings["_class_name"]).from_config(settings)
    except Exception as error:  # diffusers and torch have many kinds for settings that make no model
        cause = (str(error).strip() or repr(error)).splitlines()[0]
        raise UserError(f"{path} can't be an {settings['_class_name']}: {cause}; {_PERHAPS}") from error
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    lacks = [name for name in expected if name not in shapes and not name.endswith("num_batches_tracked")]
    surplus = [name for name in shapes if name not in expected]
    others = [name for name, shape in shapes.items() if name in expected and expected[name] != shape]
    for what, names in (("lacks", lacks), ("has unknown", surplus), ("has wrongly shaped", others)):
        if names:
            kind = settings["_class_name"]
            raise UserError(f"{path} {what} weights of an {kind}: {len(names)}, e.g. {names[0]}; {_PERHAPS}")
