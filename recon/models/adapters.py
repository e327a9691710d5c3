"""How each autoencoder class of diffusers turns an image into its code and back: one row a class.

`recon.models.coder` reads the table. A new class of diffusers needs a row here and a tiny instance in
``tests/adapter_instances.py``. What a row says was read from the class in diffusers 0.42.1 and from the
pipelines that decode with it; the releases are from the wheels of 0.35.0 to 0.42.1.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from recon.base.errors import UserError

Settings = Mapping[str, Any]
"""What config.json says about a model, with the class's defaults."""


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """How one class encodes and decodes; the defaults are those of `AutoencoderKL`."""

    since: str = "0.35"
    """First release of diffusers that has the class."""
    needs: str | None = None
    """Another package that the class imports."""
    code: Literal["latent_dist", "latents", "latent"] = "latent_dist"
    """Name of what `encode` returns: a distribution, whose mode is the code, or the code itself."""
    posterior: bool = True
    """Whether the distribution has a mean and a standard deviation, so that it can be sampled."""
    black: Literal[-1, 0] = -1
    """The value of black; that of white is 1."""
    frames: bool = False
    """Whether the class takes films: then an image is a film of one frame, (B, C, 1, H, W)."""
    channels: str | None = None
    """The setting that counts an image's channels; where it is 4, they are RGB and alpha."""
    alone: Callable[[Settings], bool] = lambda _: False
    """Whether images must run one by one, each with torch's own random numbers to itself."""
    arguments: Callable[[Settings, Any, Sequence[Any]], dict[str, Any]] = lambda *_: {}
    """Further arguments of `decode`; it takes the settings, the code, and a generator for each image."""
    least: int = 1
    """Fewest values of the code along each side that the decoder can work on."""
    only_side: Callable[[Settings], int | None] = lambda _: None
    """Height and width in pixels of the only images that the model reconstructs; None: of any size."""
    unused: tuple[str, ...] = ()
    """Beginnings of names of weights that `encode` and `decode` don't use: may be missing or surplus."""


def _injects_noise(settings: Settings) -> bool:
    """LTX's decoder adds noise from torch's own generator, the same noise to all images of a batch."""
    where = settings["decoder_inject_noise"]
    return any(where) if isinstance(where, Sequence) else bool(where)


def _at_time_zero(settings: Settings, code: Any, _: Sequence[Any]) -> dict[str, Any]:
    """As LTX's pipelines do by default (``decode_timestep=0.0``): at time 0 they add no noise to the code."""
    return {"temb": code.new_zeros(len(code)) if settings["timestep_conditioning"] else None}


def _own_noise(_: Settings, __: Any, generators: Sequence[Any]) -> dict[str, Any]:
    """The consistency decoder begins with noise; without generators it would differ from run to run."""
    return {"generator": list(generators)}


def _quantized(settings: Settings, *_: Any) -> dict[str, Any]:
    """Kandinsky's MoVQ, the one with spatial norms, decodes what the encoder gave; all others quantise it."""
    return {"force_not_quantize": settings["norm_type"] == "spatial"}


def _rae_side(settings: Settings) -> int:
    """The decoder draws as many patches as the encoder has tokens: one size, whatever goes in."""
    tokens: int = settings["encoder_input_size"] // settings["encoder_patch_size"]
    return tokens * int(settings["patch_size"])


_FILM = Adapter(frames=True)

ADAPTERS: dict[str, Adapter] = {
    "AutoencoderKL": Adapter(unused=("bn.",)),  # FLUX.2's weights as this class have its `bn` besides
    "AutoencoderTiny": Adapter(code="latents", posterior=False),
    "VQModel": Adapter(code="latents", posterior=False, arguments=_quantized),
    "AsymmetricAutoencoderKL": Adapter(),
    "ConsistencyDecoderVAE": Adapter(arguments=_own_noise),
    # It mixes the frames of a film: an image must be a film of its own.
    "AutoencoderKLTemporalDecoder": Adapter(arguments=lambda *_: {"num_frames": 1}),
    "AutoencoderDC": Adapter(code="latent", posterior=False),
    "AutoencoderRAE": Adapter(
        since="0.37", needs="transformers", code="latent", posterior=False, black=0, only_side=_rae_side
    ),
    "AutoencoderKLFlux2": Adapter(since="0.36", unused=("bn.",)),  # `bn` scales the code for the transformer
    "AutoencoderKLHunyuanImage": Adapter(since="0.36"),
    "AutoencoderKLHunyuanImageRefiner": Adapter(since="0.36", frames=True),
    "AutoencoderKLHunyuanVideo": _FILM,
    "AutoencoderKLHunyuanVideo15": Adapter(since="0.36", frames=True, alone=lambda _: True),
    "AutoencoderKLKVAE": Adapter(since="0.38"),
    # Its distribution says that the standard deviation is 1, whatever the image: there is nothing to sample.
    "AutoencoderKLKVAEVideo": Adapter(since="0.38", frames=True, posterior=False),
    "AutoencoderKLQwenImage": Adapter(frames=True, channels="input_channels"),
    "AutoencoderKLQwenImage21": Adapter(since="0.41", frames=True, channels="in_channels"),
    "AutoencoderKLWan": _FILM,
    "AutoencoderKLCogVideoX": _FILM,
    "AutoencoderKLCosmos": Adapter(frames=True, posterior=False),
    "AutoencoderKLLTXVideo": Adapter(frames=True, alone=_injects_noise, arguments=_at_time_zero),
    # Its decoder pads by reflection, for which one value along a side is too few.
    "AutoencoderKLLTX2Video": Adapter(
        since="0.37", frames=True, least=2, alone=_injects_noise, arguments=_at_time_zero
    ),
    "AutoencoderKLMagvit": _FILM,
    "AutoencoderKLMochi": _FILM,
    "Kandinsky6SRVAE": Adapter(since="0.42", frames=True),
}

REFUSED = dict.fromkeys(
    ("AutoencoderKLAllegro", "AutoencoderKLMiniMaxH3", "AutoencoderVidTok"),
    "which can't reconstruct a single frame",
)
"""Classes that encode only films of several frames, and what is said of them."""


def known_class(found: object, config: Path) -> str:
    """Returns the class in a model's config.json, if it can be run.

    `from_pretrained` never compares it with the class that it is called on: it would fill another class with
    the weights that happen to have the right names, and leave the others random.

    Args:
        found: the value of ``_class_name``.
        config: the file that it is from.

    Raises:
        UserError: no row of `ADAPTERS` is of this class.
    """
    if isinstance(found, str) and found in ADAPTERS:
        return found
    if isinstance(found, str) and found in REFUSED:
        raise UserError(f"{config} is of class {found}, {REFUSED[found]}; choose another --autoencoder")
    raise UserError(f"{config} is of class {found}, expected one of {', '.join(ADAPTERS)}; check --subfolder")


def check_posterior(name: str, model_class: str, posterior: str) -> None:
    """Refuses to sample where there is no posterior.

    Raises:
        UserError: `posterior` is ``sample``, and the class has none.
    """
    adapter = ADAPTERS.get(model_class)
    if posterior == "sample" and not (adapter and adapter.posterior):
        raise UserError(f"{name} ({model_class}) has no posterior; use --posterior mode")
