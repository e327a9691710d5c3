"""What the names of autoencoders mean, apart from whether there is such a thing.

A name is one of

    sd15                          a preset
    models/FLUX.1-dev/vae         a directory, recorded as FLUX.1-dev
    models/vae/ae.safetensors     a file of weights, recorded as ae
    owner/model                   a model of the hub, also owner/model/vae, owner/model/vae@COMMIT
    NAME=...                      any of these, recorded as NAME
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from recon.base.errors import UserError
from recon.base.paths import exists, expanded, is_file
from recon.models.files.choice import STEM, SUFFIXES
from recon.models.presets import IDENTITY, PRESETS

GENERIC = ("vae", "vqvae", "movq")
"""Names that pipelines give to the folder of their autoencoder, whichever it is."""

_LABELLED = re.compile(r"(?P<label>\w[\w.+-]*)=(?P<place>.+)")
_PART = r"[\w-][\w.-]*"
_HUB = re.compile(rf"(?P<model>{_PART}/{_PART})(?P<inside>(/{_PART})*)(@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True, kw_only=True)
class HubName:
    """A model of the hub, and what of it is meant."""

    model: str
    """``owner/model``."""
    inside: str | None
    """Folder or file of the autoencoder inside the model."""
    revision: str | None
    """Commit, branch or tag; None if none is named."""


def labelled(text: str) -> tuple[str | None, str]:
    """Splits ``NAME=PLACE``; NAME is None where there is none.

    Raises:
        UserError: NAME is that of a preset or has other characters than names have, PLACE is empty, or the
            null control would get another name.
    """
    if not text:
        raise UserError(f"autoencoder is empty; {choices()}")
    found = _LABELLED.fullmatch(text)
    if "=" not in text or exists(expanded(text)):  # a path may hold "=" too
        return None, text
    if not found:
        raise UserError(
            f"autoencoder {text!r}: no such file, and as NAME=PLACE it needs a NAME of letters, digits and "
            "any of . _ + - and a PLACE, such as mine=models/vae"
        )
    label, place = found["label"], found["place"]
    if label in PRESETS:
        raise UserError(f"autoencoder {text!r}: {label} is a preset's name; choose another before the =")
    if place == IDENTITY:
        raise UserError(f"autoencoder {text!r}: {IDENTITY} has no other name; leave {label}= out")
    return label, place


def hub_name(text: str) -> HubName | None:
    """Reads a hub id, None if `text` can't be one."""
    found = _HUB.fullmatch(text)
    if not found or found["model"].endswith(SUFFIXES):  # a file in a folder
        return None
    return HubName(
        model=found["model"], inside=found["inside"].strip("/") or None, revision=found["revision"]
    )


def local_name(path: Path) -> str:
    """Returns the name under which a local autoencoder is recorded.

    The folder's own name, or that of the folder above where it is one of `GENERIC`: more of its path would
    make records depend on the machine. Links are not resolved: their names may be what tells models apart.

    Raises:
        UserError: it is the null control's name.
    """
    place = Path(os.path.abspath(path))
    if is_file(place):
        name = re.sub(r"_(encoder|decoder)$", "", place.stem)
        place = place.parent if name.startswith(STEM) else place.with_name(name)
    if place.name in GENERIC and place.parent.name:
        place = place.parent
    if place.name == IDENTITY:
        raise UserError(f"{path} would be recorded as {IDENTITY}, the null control; name it: NAME={path}")
    return place.name


def choices() -> str:
    """Returns what a name may be, for messages."""
    return (
        f"expected a preset ({', '.join(PRESETS)}), a directory written by save_pretrained, a file of "
        "weights, or a hub id like owner/model"
    )
