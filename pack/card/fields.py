"""The names of the images in the samples of a dataset, for readers that must know them beforehand."""

from dataclasses import dataclass
from typing import Any

from pack.shard.manifest import Manifest
from pack.shard.schema import INDEX_SCHEMA, RECORD_FIELDS
from recon.image.codec import LOADABLE

Feature = dict[str, Any]  # as Hugging Face's cards write one


@dataclass(frozen=True, kw_only=True)
class Fields:
    """The fields of a sample; of several names for one image, each sample has one."""

    real: tuple[str, ...]
    fake: tuple[str, ...]
    has_record: bool
    """Whether ``json`` is as packing writes it; in tars that others wrote it may be anything."""

    @classmethod
    def of(cls, manifest: Manifest) -> "Fields":
        """The fields of a dataset."""
        adopted = manifest.provenance.get("adopted")
        if adopted:
            return cls(real=tuple(adopted["real"]), fake=tuple(adopted["fake"]), has_record=False)
        if manifest.fields:
            return cls(real=(manifest.fields["real"],), fake=(manifest.fields["fake"],), has_record=True)
        real, fake = (tuple(f"{name}.{suffix}" for suffix in _SUFFIXES) for name in ("real", "fake"))
        return cls(real=real, fake=fake, has_record=True)

    @property
    def features(self) -> list[Feature]:
        """The columns of the dataset for ``datasets``, which else takes them from the first five samples."""
        record = [{"name": "json", "struct": _RECORD}] if self.has_record else []
        images = [{"name": name, "dtype": "image"} for name in (*self.real, *self.fake)]
        return [*images, *record, *({"name": name, "dtype": "string"} for name in ("__key__", "__url__"))]


_SUFFIXES = tuple(dict.fromkeys(LOADABLE.values()))
_RECORD = [
    {"name": "key", "dtype": "string"},
    *({"name": name, "dtype": str(INDEX_SCHEMA.field(name).type)} for name in RECORD_FIELDS),
]
