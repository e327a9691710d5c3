"""Reads every byte of a dataset again and compares it with the indexes and the manifest.

    python -m pack.verify data/mine

Exit status 0 if everything agrees; otherwise 1, and one line for each difference. In datasets of python -m
pack the headers of each pair's images are compared too: size, orientation, ICC profile, and JPEGs' coding.
Hints (entry points and colours), if there are such, are computed anew from each image.
"""

import hashlib
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from isal.isal_zlib import crc32

from pack.shard.tar_header import HEADER, fault_of_header
from recon.base.cli import run
from recon.base.errors import UserError
from recon.base.progress import counted, progress

if TYPE_CHECKING:
    import pyarrow as pa

    from pack.dataset.dataset import Dataset
    from pack.dataset.index import ShardIndex

Names = tuple[str | None, ...]

_REQUEST = 8 << 20  # bytes of one read; a larger pair is still read at once
_THREADS = 4  # shards read at the same time


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """Which dataset to verify."""

    url: str = field(kw_only=False)
    """Directory or URL of a dataset."""


def main() -> None:
    """The command."""
    run(VerifyConfig, _job, prog="python -m pack.verify", about=__doc__ or "")


def _job(config: VerifyConfig) -> int:
    from pack.dataset.dataset import open_dataset

    dataset = open_dataset(config.url)
    found = 0
    for difference in verify(dataset):
        found += 1
        sys.stdout.write(difference + "\n")
    manifest = dataset.manifest
    verdict = counted(found, "difference") if found else "every byte agrees"
    shards = counted(len(manifest.shards), "shard")
    sys.stdout.write(f"{counted(manifest.pairs, 'pair')} in {shards}: {verdict}\n")
    return 1 if found else 0


def verify(dataset: "Dataset") -> Iterator[str]:
    """Yields a line for each difference between the dataset's bytes and its indexes and manifest.

    Several shards are read at the same time; the lines come in the order of the shards.
    """
    shards = range(len(dataset.manifest.shards))
    seen: set[str] = set()
    pool = ThreadPoolExecutor(_THREADS)
    try:
        verified = pool.map(partial(_verify_shard, dataset), shards)
        for shard, (keys, found) in zip(
            shards, progress(verified, total=len(shards), unit="shards", what="verify"), strict=True
        ):
            for key in keys:
                if key in seen:
                    yield f"{dataset.manifest.shards[shard].name}: key {key} is in the dataset twice"
                seen.add(key)
            yield from found
    finally:
        pool.shutdown(cancel_futures=True)  # the caller may stop before the last line
    yield from _verify_manifest(dataset)
    yield from _strangers(dataset)


def _verify_manifest(dataset: "Dataset") -> Iterator[str]:
    """The manifest's own hash is of its values: white space can change without it."""
    from pack.shard.manifest import NAME

    if dataset.store.read(NAME) != dataset.manifest.to_json().encode():
        yield f"{NAME}: the values are right, but not the bytes (white space, or the order of names)"


def _verify_shard(dataset: "Dataset", shard: int) -> tuple[list[str], list[str]]:
    """The keys of a shard, and a line for each difference in it."""
    from pack.inspect.schema import wrong_columns, wrong_fields

    entry = dataset.manifest.shards[shard]
    try:
        table = dataset.table(shard)
        if found := [f"{entry.name}.parquet: {one}" for one in wrong_columns(table.schema, dataset.manifest)]:
            return [], found
        index = dataset.index(shard)
    except UserError as error:
        return [], [str(error)]
    names = _header_names(table, index)
    found = [f"{entry.name}.parquet: {one}" for one in wrong_fields(table, dataset.manifest)]
    if len(index.keys) != entry.pairs:
        found.append(f"{entry.name}.parquet: {len(index.keys)} rows, the manifest says {entry.pairs}")
    return index.keys, found + list(_verify_tar(dataset, index, names, table))


def _verify_tar(
    dataset: "Dataset", index: "ShardIndex", names: Sequence["Names"], table: "pa.Table"
) -> Iterator[str]:
    from pack.inspect.hints import VerifiedHints
    from pack.inspect.schema import records

    policies, hinted = table["codec_policy"].to_pylist(), VerifiedHints(dataset, index)
    name, sha256, position = f"{index.entry.name}.tar", hashlib.sha256(), 0

    def pass_over(end: int) -> None:
        """Reads bytes that belong to no pair, in pieces: foreign members of an adopted tar may be large."""
        nonlocal position
        while position < end:
            piece = dataset.store.read_range(name, position, min(_REQUEST, end - position))
            sha256.update(piece)
            position += len(piece)

    try:
        size = dataset.store.size(name)
        if size != index.entry.bytes:
            yield f"{name}: {size} bytes, the manifest says {index.entry.bytes}"
        # Read in order and without gaps, because the sha256 covers every byte of the tar.
        for rows in index.requests(_REQUEST):
            start, length = index.span(rows[0], len(rows))
            if start - position > _REQUEST:
                pass_over(start - HEADER)  # not up to `start`: the first payload's header is checked too
            data = dataset.store.read_range(name, position, start + length - position)
            sha256.update(data)
            for row, record in zip(rows, records(table, rows, dataset.manifest), strict=True):
                found = list(_verify_pair(index, row, names[row], record, data, position))
                hints = hinted.record(row, data, position)
                yield from found or _verify_images(index, row, policies[row], data, position, hints)
            position = start + length
        pass_over(size)
    except UserError as error:
        yield str(error)
        return
    yield from hinted.wrong
    if sha256.hexdigest() != index.entry.sha256:
        yield f"{name}: sha256 differs from the manifest"


def _header_names(table: "pa.Table", index: "ShardIndex") -> list["Names"]:
    """For each pair the member names that its tar headers must have, in the order of `ShardIndex.members`."""
    from pack.shard.schema import HEADERS

    if HEADERS[0] in table.column_names:  # the index of an adopted tar, which keeps its own names
        return list(zip(*(table[name].to_pylist() for name in HEADERS), strict=True))
    return [
        tuple(f"{key}.{name}" for name in names) for key, names in zip(index.keys, index.fields, strict=True)
    ]


def _verify_pair(
    index: "ShardIndex",
    row: int,
    names: "Names",
    record: dict[str, Any] | None,
    data: memoryview,
    position: int,
) -> Iterator[str]:
    """Checks a pair's member headers and payloads; `data` starts at byte `position` of the tar.

    `record` is what its json must hold; None if that may be anything.
    """
    from pack.inspect.schema import wrong_record

    for column, name in enumerate(names):
        if name is None:
            continue
        size = int(index.sizes[row, column])
        where = f"{index.entry.name}.tar: {name}"
        start = int(index.offsets[row, column]) - position
        if fault := fault_of_header(data[start - HEADER : start], name, size):
            yield f"{where}: {fault}"
        if crc32(data[start : start + size]) != index.crcs[row, column]:
            yield f"{where}: CRC-32 differs from the index"
        elif index.members[column] == "json" and record is not None:
            yield from (f"{where}: {one}" for one in wrong_record(bytes(data[start : start + size]), record))


def _verify_images(
    index: "ShardIndex", row: int, policy: str, data: memoryview, position: int, hints: memoryview | None
) -> Iterator[str]:
    """Compares a pair's images with each other and their hints; `data` is as for `_verify_pair`.

    `hints` is the pair's record; None if it has none, or it was found damaged.
    """
    from pack.inspect.schema import wrong_hints

    starts = index.offsets[row] - position
    ends = starts + index.sizes[row]
    columns = (0, *index.fake_columns)
    images = {index.members[one]: bytes(data[starts[one] : ends[one]]) for one in columns}
    where, key = index.entry.name, index.keys[row]
    yield from (f"{where}.tar: {key}{one}" for one in _unlike(images, policy))
    if hints is not None:
        yield from (f"{where}: {key}: {one}" for one in wrong_hints(hints, images))


def _unlike(images: dict[str, bytes], policy: str) -> Iterator[str]:
    """Compares the headers of a pair's images, if packing wrote them."""
    from pack.inspect.looks import NOT_OURS, unlike

    if policy not in NOT_OURS:
        for member, fake in list(images.items())[1:]:
            about = "" if member == "fake" else f" ({member})"
            yield from (f"{about}: {difference}" for difference in unlike(images["real"], fake))


def _strangers(dataset: "Dataset") -> Iterator[str]:
    """Yields a line for each shard file that the manifest does not list.

    The indexes that Energon and DALI lay beside a tar (shard-000000.tar.idx) are theirs.
    """
    if "adopted" in dataset.manifest.provenance:  # others chose the file names, so any name may be theirs
        return
    suffixes = ("tar", "parquet", *(["hints"] if dataset.manifest.hints_beside else []))
    known = {f"{shard.name}.{suffix}" for shard in dataset.manifest.shards for suffix in suffixes}
    for name in dataset.store.names():
        if name.startswith("shard-") and name not in known and not name.endswith(".idx"):
            yield f"{name}: not in the manifest"
