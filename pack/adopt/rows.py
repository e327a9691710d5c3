"""Groups the members of somebody else's tar into samples, as webdataset does, and makes index rows."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from isal.isal_zlib import crc32

from pack.adopt.config import IMAGES
from pack.adopt.tar_reader import TarReader
from pack.base.names import pair_id, printable
from pack.shard.hints import Hint
from pack.shard.names import is_hidden_of_others, key_and_field
from pack.shard.pair import hint_of, jpeg_columns, member_columns
from pack.shard.schema import MEMBERS, field_names
from pack.shard.tar_members import Member
from recon.base.errors import RejectedImageError, UserError
from recon.base.walk import HIDDEN, Leave, tell_nobody
from recon.image.codec import LOADABLE
from recon.image.header import Header, read_header

JSON = "json"

_ANY_FAKE = tuple(f"fake.{suffix}" for suffix in IMAGES.split(","))  # where --fake is not given
_FURTHER = re.compile(r"fake\d+\.")

_SHOWN = 6  # at most so many fields of a sample in a message


@dataclass(frozen=True, kw_only=True)
class Naming:
    """How the members of a pair are named, and the parts of its index row that no file tells."""

    dataset: str
    real: tuple[str, ...]
    """Fields of the real image; the first one found is used."""
    fake: tuple[str, ...]
    group: str | None
    group_field: str | None
    autoencoder: str
    max_pixels: int

    @property
    def wanted(self) -> frozenset[str]:
        """Fields whose payloads are needed."""
        return frozenset((*self.real, *self.fake, JSON))


@dataclass(frozen=True, kw_only=True)
class TarSample:
    """Members that follow each other in a tar and share one key."""

    key: str
    start: int
    """Offset in bytes of its first payload."""
    members: dict[str, Member] = field(default_factory=dict)
    """Members by field."""
    data: dict[str, bytes] = field(default_factory=dict)
    """Payloads of the wanted fields, by field."""

    def own_name(self, name: str) -> str:
        """A field as it stands in the tar, where it may have capitals."""
        found = key_and_field(self.members[name].name)
        assert found
        return printable(found[1])


def samples(tar: TarReader, wanted: frozenset[str], leave: Leave = tell_nobody) -> Iterator[TarSample]:
    """Groups the members of a tar as webdataset does.

    Args:
        tar: the tar, not read yet.
        wanted: fields whose payloads are kept.
        leave: is told the hidden names, which are left out.

    Raises:
        UserError: the tar is truncated or broken, or a sample has a member twice.
    """
    sample: TarSample | None = None
    for member in tar.members():
        split = key_and_field(member.name)
        if not member.is_file or split is None:
            if member.is_file and is_hidden_of_others(member.name):
                leave(HIDDEN, member.name)
            continue  # webdataset skips these too, and goes on with the same sample after them
        key, name = printable(split[0]), split[1].lower()
        # A change of the key ends a sample, as in webdataset. A key that comes back later is a new sample
        # for now; `Found.add_key` refuses it.
        if sample is None or sample.key != key:
            if sample is not None:
                yield sample
            sample = TarSample(key=key, start=member.offset)
        if name in sample.members:
            raise UserError(
                f"{tar.where}: key {key} has {printable(name)} twice, again at byte {member.offset}; "
                "keys must be unique, and webdataset ends a key at the first dot of a name"
            )
        sample.members[name] = member
        if name in wanted:
            sample.data[name] = tar.payload(member)
    if sample is not None:
        yield sample


class Made(NamedTuple):
    """What becomes of a sample that is a pair."""

    row: dict[str, Any]
    """Its index row, with the columns of `ADOPTED_SCHEMA` but those of the place of its hints."""
    hints: list[Hint]
    """Of its two images."""
    fields: list[str]
    """The fields of the real image, of the fake, and all others, as they stand in the tar."""


class OddImageError(RejectedImageError):
    """An image that packing may take, and the index not: a tar keeps its bytes, so nothing converts it."""


class NoFieldError(RejectedImageError):
    """A sample lacks one of the two images under the names that were given."""


def make_row(sample: TarSample, naming: Naming) -> Made:
    """Describes a sample.

    Raises:
        RejectedImageError: the sample is no pair.
    """
    real, fake = _field(sample, "real", naming.real), _field(sample, "fake", naming.fake)
    headers = [_header(sample, who, name, naming) for who, name in (("real", real), ("fake", fake))]
    (real_width, real_height), (width, height) = ((one.width, one.height) for one in headers)
    if (real_width, real_height) != (width, height):
        raise RejectedImageError(f"real is {real_width}x{real_height}, fake {width}x{height}")
    fields = field_names(headers[0].codec, headers[1].codec)
    row = _facts(headers[0]) | {
        "key": sample.key,
        "pair_id": pair_id(naming.dataset, sample.key),
        "path": sample.key,
        "group": _group(sample, naming),
        "fake_codec": headers[1].codec,
        "real_field": fields[0],
        "fake_field": fields[1],
        "codec_policy": "adopted",
        "autoencoder": naming.autoencoder,
    }
    for who, name in zip(MEMBERS, (real, fake, JSON), strict=True):
        row |= _place(sample, who, name, real)
    names = real, fake, *(name for name in sample.members if name not in (real, fake))
    return Made(row, [hint_of(sample.data[name]) for name in (real, fake)], [*map(sample.own_name, names)])


def _field(sample: TarSample, who: str, names: Sequence[str]) -> str:
    found = next((name for name in names if name in sample.data), None)
    if found is not None and who == "fake" and tuple(names) == _ANY_FAKE and (further := _further(sample)):
        raise UserError(
            f"key {sample.key} has {found} and {further}; the index of tars that others wrote has one fake a "
            f"sample: name the one to take, such as --fake {further}"
        )
    if found is None:
        # With a dot inside the key, webdataset takes the rest of the key for a part of the field.
        dotted = any(name.endswith(tuple(f".{one}" for one in names)) for name in sample.members)
        hint = " (a key ends at the first dot of a name)" if dotted else ""
        raise NoFieldError(f"no {who}, only {_fields(sample)}{hint}")
    return found


def _further(sample: TarSample) -> str | None:
    """A member named as packing names a second reconstruction."""
    return next((name for name in sample.members if _FURTHER.match(name)), None)


def _fields(sample: TarSample) -> str:
    names = [printable(name) for name in sample.members]
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _header(sample: TarSample, who: str, name: str, naming: Naming) -> Header:
    try:
        header = read_header(sample.data[name], max_pixels=naming.max_pixels)
    except RejectedImageError as error:
        raise RejectedImageError(f"{who}: {error}") from error
    if header.codec not in LOADABLE:
        raise OddImageError(f"{who} is {header.codec}, expected {', '.join(LOADABLE)}")
    if header.odd_mode in ("16-bit", "float"):
        raise OddImageError(f"{who} is a {header.odd_mode} image, expected 8-bit")
    return header


def _facts(real: Header) -> dict[str, Any]:
    return {
        "width": real.width,
        "height": real.height,
        "channels": real.channels,
        "real_codec": real.codec,
        "orientation": real.orientation,
        "converted": real.odd_mode,
        "jpeg_phase": 0 if real.codec == "jpeg" else None,  # the pixels are not decoded here
    } | jpeg_columns(real.jpeg)


def _group(sample: TarSample, naming: Naming) -> str:
    if naming.group_field is None:
        # "", "." and "..": the beginning of keys such as "./g/a", which tar writes for a whole folder.
        folders = [folder for folder in sample.key.split("/")[:-1] if folder not in ("", ".", "..")]
        return naming.group or (folders[0] if folders else naming.dataset)
    try:
        record = json.loads(sample.data.get(JSON, b"null"))
    except (ValueError, RecursionError) as error:
        raise RejectedImageError(f"json can't be read: {error}") from error
    value = record.get(naming.group_field) if isinstance(record, dict) else None
    if not isinstance(value, str | int | float):
        raise RejectedImageError(f"json has no text or number under {naming.group_field}")
    text = value if isinstance(value, str) else json.dumps(value)
    # JSON may hold half of a surrogate pair ("\ud800"), which Parquet's UTF-8 can't store.
    return text.encode("utf-8", "backslashreplace").decode()


def _place(sample: TarSample, who: str, name: str, real: str) -> dict[str, Any]:
    """The columns that tell where one member lies: offset, size, checksum and header."""
    member = sample.members.get(name)
    if member is None:
        # Only json may be missing. No bytes at the real image's offset: nothing outside the pair is read.
        offset, size, crc, header = sample.members[real].offset, 0, 0, None
    else:
        data = sample.data[name]
        offset, size, crc, header = member.offset, member.size, crc32(data), member.header
    return member_columns(who, {"offset": offset, "size": size, "crc32": crc, "header": header})
