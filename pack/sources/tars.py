"""Images in tars of a plain WebDataset: the members of each sample, and which of them is the image."""

import logging
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import NamedTuple

from pack.base.config import PackConfig
from pack.base.items import File, Item, store_of
from pack.shard.tar_members import Member
from pack.sources.place import folder_name, located, parent
from pack.sources.tar_headers import listed_members
from pack.sources.tar_names import find_tar_files
from recon.base.errors import UserError
from recon.base.progress import counted

_THREADS = 16  # tars scanned at once; most of them wait for storage
_KEY = re.compile(
    r"((?:.*/|)[^./]+)[.]([^/]*)"
)  # as webdataset.tariterators.base_plus_ext, but for hidden files
_META = re.compile(r"__[^/]*__($|/)")  # members that webdataset leaves out
_LOG = logging.getLogger(__name__)

Splits = dict[str | None, list[Item]]


class _Group(NamedTuple):
    """The members of a tar that have one key."""

    key: str
    fields: dict[str, Member]
    """By field, which is what follows the key's dot, in lower case."""


class _Scan(NamedTuple):
    """What a tar holds."""

    items: list[Item]
    lacking: list[str]
    """``TAR/KEY`` of the samples without an image."""
    fields: set[str]
    """The fields of those."""


def find_tars(config: PackConfig) -> Splits:
    """The images of plain WebDataset tars, one of a sample: of the fields in --image_field the first found.

    A path is ``TAR/MEMBER``, TAR being named from where the source's pattern begins. The group is the
    folder of the member, else that of its tar.

    Raises:
        UserError: no tar, a damaged one, a sample that comes twice, or no image at all.
    """
    fields = [one.strip().lower() for one in config.image_field.split(";")]
    tars = find_tar_files(located(config.source))
    with ThreadPoolExecutor(_THREADS) as pool:
        scans = list(pool.map(partial(_scan, wanted=fields), tars))
    items = list(chain.from_iterable(scan.items for scan in scans))
    lacking = list(chain.from_iterable(scan.lacking for scan in scans))
    if lacking:
        found = ", ".join(sorted(set().union(*(scan.fields for scan in scans)))) or "none"
        told = (
            f"{config.source}: {counted(len(lacking), 'sample')} without a field {config.image_field}, "
            f"the first is {lacking[0]}; fields found: {found}"
        )
        if not items:
            raise UserError(f"{told}; name the image's by --image_field")
        _LOG.warning("%s; left out", told)
    return {None: items}


def _scan(tar: File, wanted: Sequence[str]) -> _Scan:
    scan = _Scan([], [], set())
    otherwise = parent(tar.name, folder_name(tar.root))
    for sample in _samples(tar):
        image = next((sample.fields[one] for one in wanted if one in sample.fields), None)
        if image is None:
            scan.lacking.append(f"{tar.name}/{sample.key}")
            scan.fields.update(sample.fields)
            continue
        name = image.name.removeprefix("./")
        part = File(tar.root, tar.name, image.size, image.offset)
        scan.items.append(Item(path=f"{tar.name}/{name}", group=parent(name, otherwise), real=part))
    return scan


def _samples(tar: File) -> Iterator[_Group]:
    """The samples of a tar, as webdataset groups its members.

    Raises:
        UserError: see `listed_members`; or webdataset would see two samples of one key, or two
            members as one.
    """
    assert tar.size is not None, tar
    seen: set[str] = set()
    sample: _Group | None = None
    for member in listed_members(store_of(tar.root), tar.name, tar.size):
        match = _KEY.fullmatch(member.name)
        if not match or _META.match(member.name) or not (member.is_file or member.is_link):
            continue
        key, field = match[1], match[2].lower()
        if sample is None or key != sample.key:
            if sample:
                yield sample
            if key in seen:
                raise _twice(tar, member, f"sample {key} begins again", "put its members side by side")
            seen.add(key)
            sample = _Group(key, {})
        if field in sample.fields:
            raise _twice(tar, member, f"{member.name} comes again", "give each sample a key of its own")
        if member.is_file:
            sample.fields[field] = member
    if sample:
        yield sample


def _twice(tar: File, member: Member, what: str, cure: str) -> UserError:
    return UserError(f"{tar.url}: {what} at {member.begin}, expected each once; {cure}")
