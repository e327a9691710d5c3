"""The names of the images in the samples of a dataset, for readers that must know them beforehand."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pack.shard.manifest import FIELDS, Manifest
from pack.shard.names import fake_name
from pack.shard.schema import INDEX_SCHEMA, MAKER, MASK_FIELD, MORE_FAKES, RECORD_FIELDS
from recon.image.codec import LOADABLE

Feature = dict[str, Any]  # as Hugging Face's cards write one


@dataclass(frozen=True, kw_only=True)
class Fields:
    """The fields of a sample; of several names for one image, each sample has one."""

    real: tuple[str, ...]
    fake: tuple[str, ...]
    more: dict[str, tuple[str, ...]]
    """The same of ``fake2``, ``fake3``, ..., where each sample has several reconstructions."""
    mask: bool
    """Whether each sample has a mask."""
    has_record: bool
    """Whether ``json`` is as packing writes it; in tars that others wrote it may be anything."""
    about: tuple[str, ...] = ("json",)
    """The names of the record, if every sample has one."""
    other: tuple[str, ...] = ()
    """Of tars that others wrote, all further names; a sample may lack them."""

    @classmethod
    def of(cls, manifest: Manifest) -> "Fields":
        """The fields of a dataset."""
        if adopted := manifest.provenance.get("adopted"):
            # Datasets indexed by older versions know only which names were looked for.
            return cls._adopted(manifest.provenance.get(FIELDS) or adopted | {"other": {}}, manifest.pairs)
        real, fake, *more = (
            (manifest.fields[name],) if manifest.fields else tuple(f"{name}.{suffix}" for suffix in _SUFFIXES)
            for name in ("real", *map(fake_name, range(manifest.fakes)))
        )
        further = {fake_name(number): names for number, names in enumerate(more, 1)}
        return cls(real=real, fake=fake, more=further, mask=manifest.masks, has_record=True)

    @classmethod
    def _adopted(cls, found: dict[str, Any], pairs: int) -> "Fields":
        """The fields of tars that others wrote: those of their pairs, and in how many there is each other."""
        other: dict[str, int] = found["other"]
        records = {name: count for name, count in other.items() if name.lower() == "json"}
        return cls(
            real=tuple(found["real"]),
            fake=tuple(found["fake"]),
            more={},
            mask=False,
            has_record=False,
            about=tuple(records) if sum(records.values()) == pairs else (),
            other=tuple(other),
        )

    @property
    def columns(self) -> dict[str, tuple[str, ...]]:
        """The names of all images by what they are: ``real``, ``fake``, ``fake2``, ..., ``mask``."""
        mask = {"mask": (MASK_FIELD,)} if self.mask else {}
        return {"real": self.real, "fake": self.fake, **self.more, **mask}

    @property
    def features(self) -> list[Feature]:
        """The columns of the dataset for ``datasets``, which else takes them from the first five samples."""
        about = [*_RECORD, *([_MORE] if self.more else [])]
        record = [{"name": "json", "struct": about}] if self.has_record else []
        names = [name for column in self.columns.values() for name in column]
        images = [{"name": name, "dtype": "image"} for name in names]
        typed = [(name, _TYPES.get(name.lower().rpartition(".")[2])) for name in self.other]
        other = [{"name": name, "dtype": kind} for name, kind in typed if kind]
        places = [{"name": name, "dtype": "string"} for name in ("__key__", "__url__")]
        return [*images, *record, *other, *places]


_KINDS = {
    "image": ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"),
    "json": ("json", "jsn"),
    "string": ("txt", "text", "transcript"),
    "int64": ("cls", "cls2", "index", "inx", "id"),
}
_TYPES = {suffix: kind for kind, suffixes in _KINDS.items() for suffix in suffixes}
"""The feature of a field by the end of its name, as `datasets` 5.2 decodes it (packaged_modules/webdataset).
What it would read by other packages, or as bare bytes, is no column."""

_SUFFIXES = tuple(dict.fromkeys(LOADABLE.values()))


def _typed(names: Iterable[str]) -> list[Feature]:
    return [{"name": name, "dtype": str(INDEX_SCHEMA.field(name).type)} for name in names]


_RECORD = [{"name": "key", "dtype": "string"}, *_typed(RECORD_FIELDS)]
_MORE = {
    "name": MORE_FAKES,
    "list": [*({"name": name, "dtype": "string"} for name in ("field", "codec")), *_typed(MAKER)],
}
