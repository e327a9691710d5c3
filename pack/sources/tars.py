"""Finds the images in the tars of a plain WebDataset: groups members into samples and picks the image."""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import NamedTuple

from pack.base.config import PackConfig
from pack.base.items import File, Item, store_of
from pack.shard.names import is_hidden_of_others, key_and_field
from pack.shard.tar_members import Member
from pack.sources.place import located, parent
from pack.sources.tar_headers import listed_members
from pack.sources.tar_names import find_tar_files
from recon.base.errors import UserError
from recon.base.paths import folder_name
from recon.base.progress import counted
from recon.base.walk import HIDDEN, Leave, LeftOut, sum_of, tell_nobody
from recon.listing import tell

_THREADS = 16  # tars scanned at once; most of them wait for storage
_LOG = logging.getLogger(__name__)

Splits = dict[str | None, list[Item]]


class Sample(NamedTuple):
    """The members of a tar that share a key: one sample."""

    key: str
    fields: dict[str, Member]
    """By field: the part of the name after the key's dot, in lower case."""


class _Scan(NamedTuple):
    """The content of a tar."""

    items: list[Item]
    lacking: list[str]
    """``TAR/KEY`` of the samples without an image."""
    fields: set[str]
    """All fields of the samples without an image."""
    left_out: LeftOut


def find_tars(config: PackConfig) -> Splits:
    """Finds one image per sample in plain WebDataset tars: the first field of --image_field that exists.

    A path is ``TAR/MEMBER``; TAR is relative to the folder in which the source's pattern begins. The group
    is the folder of the member, else the folder of its tar.

    Raises:
        UserError: there is no tar, a tar is damaged, a sample comes twice, or no sample has an image.
    """
    fields = [one.strip().lower() for one in config.image_field.split(";")]
    tars = find_tar_files(located(config.source))
    with ThreadPoolExecutor(_THREADS) as pool:
        scans = list(pool.map(partial(_scan, wanted=fields), tars))
    items = list(chain.from_iterable(scan.items for scan in scans))
    lacking = list(chain.from_iterable(scan.lacking for scan in scans))
    tell(config.source, sum_of(scan.left_out for scan in scans))
    if lacking:
        found = ", ".join(sorted(set().union(*(scan.fields for scan in scans)))) or "none"
        told = (
            f"{config.source}: {counted(len(lacking), 'sample')} without a field {config.image_field}, "
            f"the first is {lacking[0]}; fields found: {found}"
        )
        if not items:
            raise UserError(f"{told}; name the field of the image with --image_field")
        _LOG.warning("%s; these samples are left out", told)
    return {None: items}


def _scan(tar: File, wanted: Sequence[str]) -> _Scan:
    scan = _Scan([], [], set(), LeftOut())
    otherwise = parent(tar.name, folder_name(tar.root))
    for sample in samples_of(tar, scan.left_out.add):
        image = next((sample.fields[one] for one in wanted if one in sample.fields), None)
        if image is None:
            scan.lacking.append(f"{tar.name}/{sample.key}")
            scan.fields.update(sample.fields)
            continue
        name = image.name.removeprefix("./")
        part = File(tar.root, tar.name, image.size, image.offset)
        scan.items.append(Item(path=f"{tar.name}/{name}", group=parent(name, otherwise), real=part))
    return scan


def samples_of(tar: File, leave: Leave = tell_nobody) -> Iterator[Sample]:
    """Yields the samples of a tar, grouped as webdataset groups members.

    Args:
        tar: its size is known.
        leave: is told the hidden names, such as those that macOS adds, which are left out.

    Raises:
        UserError: see `listed_members`; or a key or a member comes twice, which webdataset would read as
            two samples of one key, or as one member.
    """
    assert tar.size is not None, tar
    seen: set[str] = set()
    sample: Sample | None = None
    for member in listed_members(store_of(tar.root), tar.name, tar.size):
        split = key_and_field(member.name)
        if split is None or not (member.is_file or member.is_link):
            if member.is_file and is_hidden_of_others(member.name):
                leave(HIDDEN, f"{tar.name}/{member.name}")
            continue
        key, field = split[0], split[1].lower()
        if sample is None or key != sample.key:
            if sample:
                yield sample
            if key in seen:  # webdataset ends a sample when the key changes
                raise _twice(tar, member, f"sample {key} begins again", "put its members side by side")
            seen.add(key)
            sample = Sample(key, {})
        if field in sample.fields:
            raise _twice(tar, member, f"{member.name} comes again", "give each sample a key of its own")
        if member.is_file:  # a link belongs to its sample, but has no bytes of its own
            sample.fields[field] = member
    if sample:
        yield sample


def _twice(tar: File, member: Member, what: str, cure: str) -> UserError:
    return UserError(f"{tar.url}: {what} at byte {member.begin}, expected each once; {cure}")
