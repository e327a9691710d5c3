"""Names the images of every sample before the first is read: ``real.jpg``, ``fake.png``, ``fake2.png``.

Readers of plain WebDataset take their columns from the first samples, or ask for members by one name. So one
name stands for each half of all pairs, as in the tars of img2dataset: the true suffix if only one codec is
possible, else ``jpg``. Readers tell the codec by the bytes; the index holds it.
"""

from collections.abc import Iterable
from posixpath import splitext

from pack.base.config import PackConfig
from pack.base.items import Item
from pack.shard.names import fake_name
from recon.image.codec import LOADABLE, SUFFIXES

_CODECS = dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"), "jpeg") | {".png": "png", ".webp": "webp"}
_ENCODED_ANEW = set(SUFFIXES) - set(_CODECS)  # no codecs of a shard, so always compressed again
_SEVERAL = "jpg"


def field_names(items: Iterable[Item], config: PackConfig) -> dict[str, str] | None:
    """The names of ``real``, ``fake``, ``fake2``, ... in every sample; None if each is named by its codec.

    They follow from the options and the suffixes of the listed files alone, so all ranks agree. A file whose
    content is not what its suffix says is stored under the same name.

    Args:
        items: of all splits of a source, so that a run's datasets have the same names.
        config: the options of packing.
    """
    if config.fields == "by_codec":
        return None
    suffixes = {(_suffix(item.path), _suffix(item.fake.name) if item.fake else None) for item in items}
    reals = set[str]().union(*(_real(real, config) for real, _ in suffixes))
    fakes = set[str]().union(*(_fake(real, fake, config) for real, fake in suffixes))
    assert isinstance(config.fakes_per_real, int), "its number is known by now"
    suffix, names = _name(fakes), map(fake_name, range(config.fakes_per_real))
    return {"real": f"real.{_name(reals)}"} | {name: f"{name}.{suffix}" for name in names}


def _suffix(name: str) -> str:
    return splitext(name)[1].lower()


def _name(codecs: set[str]) -> str:
    return LOADABLE[codecs.pop()] if len(codecs) == 1 else _SEVERAL


def _real(suffix: str, config: PackConfig) -> set[str]:
    """The codecs that the stored real image of a file with this suffix may have."""
    return {config.new_codec} if config.tile or config.codec == "both" else _kept(suffix, config)


def _kept(suffix: str, config: PackConfig) -> set[str]:
    """The codecs of an image that keeps its bytes if a shard may hold them, and else is compressed anew."""
    if suffix in _ENCODED_ANEW:
        return {config.new_codec}
    if suffix in _CODECS:
        return {_CODECS[suffix]} | ({config.new_codec} if config.convert else set())
    return {*LOADABLE, config.new_codec}


def _fake(real: str, fake: str | None, config: PackConfig) -> set[str]:
    """The codecs that the reconstruction may have, made or given; the suffixes are those of the files."""
    new = {config.new_codec}
    if config.tile or config.codec == "both":
        return new
    if config.codec == "match":
        return _kept(real, config)
    if fake is None:
        return new
    if config.codec == "keep":
        return _kept(fake, config)
    # A given JPEG or PNG that is coded as its real image keeps its bytes.
    return new | _kept(real, config) & _kept(fake, config) & {"jpeg", "png"}
