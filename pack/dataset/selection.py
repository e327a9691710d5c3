"""Which pairs of a dataset a filter (`pack.dataset.filter`) selects: one bit for each pair."""

import hashlib
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO
from typing import TYPE_CHECKING, Self
from zipfile import BadZipFile

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pack.dataset.fakes import OF_FAKE, by_fake
from pack.dataset.filter import Filter
from pack.shard.manifest import Manifest
from pack.shard.schema import MORE_FAKES
from recon.base.errors import UserError
from recon.base.progress import counted, progress

if TYPE_CHECKING:
    from pack.dataset.dataset import Dataset


@dataclass(frozen=True, kw_only=True, eq=False)
class Selection:
    """The pairs of a dataset that a filter selects, one bit for each pair of the dataset."""

    text: str
    """The filter, in its canonical spelling."""
    manifest_sha256: str
    """Of the dataset."""
    pairs: NDArray[np.int64]
    """(shards,) pairs of each shard, selected or not."""
    bits: NDArray[np.uint8]
    """One for each pair in stored order, packed big-endian. Every shard begins with a new byte, so that one
    shard's bits are unpacked without the rest."""
    fakes: NDArray[np.uint8] | None = None
    """(F, bytes) where pairs have F fakes and the filter asks something of them: the bits of each fake. A
    pair is selected if one of its fakes is."""

    @classmethod
    def of_all(cls, manifest: Manifest) -> Self:
        """All pairs of a dataset, as if by a filter without text."""
        pairs = _pairs(manifest)
        bits = np.concatenate([np.packbits(np.ones(count, np.bool_)) for count in pairs])
        return cls(text="", manifest_sha256=manifest.sha256, pairs=pairs, bits=bits)

    def part(self, numbers: NDArray[np.int64]) -> Self:
        """Some of the selected pairs; a number is a pair's place among them, from 0, in stored order."""
        kept = np.zeros(8 * len(self.bits), np.bool_)
        kept[np.flatnonzero(np.unpackbits(self.bits))[numbers]] = True
        return replace(self, bits=np.packbits(kept))

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        """(shards + 1,) the byte at which each shard begins."""
        return np.concatenate([[0], np.cumsum(-(-self.pairs // 8))])

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """(shards,) selected pairs of each shard."""
        ones = np.concatenate([[0], np.cumsum(np.bitwise_count(self.bits), dtype=np.int64)])
        return np.diff(ones[self._starts])

    @cached_property
    def sha256(self) -> str:
        """Hash of what was asked, of which dataset, and of the answer."""
        asked = f"{self.text}\n{self.manifest_sha256}\n".encode()
        fakes = b"" if self.fakes is None else self.fakes.tobytes()
        return hashlib.sha256(asked + self.bits.tobytes() + fakes).hexdigest()

    def rows(self, shard: int) -> NDArray[np.int64]:
        """The selected rows of a shard, ascending."""
        start, end = self._starts[shard : shard + 2]
        return np.flatnonzero(np.unpackbits(self.bits[start:end], count=int(self.pairs[shard])))

    def allowed(self, shard: int, rows: NDArray[np.int64], fakes: int) -> NDArray[np.bool_]:
        """(n, fakes): which of their fakes the filter leaves to some pairs of a shard."""
        if self.fakes is None:
            return np.ones((len(rows), fakes), np.bool_)
        start, end = self._starts[shard : shard + 2]
        bits_FN = np.unpackbits(self.fakes[:, start:end], axis=1, count=int(self.pairs[shard]))
        return bits_FN[:, rows].T.astype(np.bool_)

    def to_bytes(self) -> bytes:
        """The content of a file, for `from_bytes`."""
        out = BytesIO()
        text = [self.text, self.manifest_sha256, self.sha256]
        arrays = {"about": np.array(text), "bits": self.bits}
        if self.fakes is not None:
            arrays["fakes"] = self.fakes
        np.savez_compressed(out, **arrays)  # type: ignore[arg-type]
        return out.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, manifest: Manifest, text: str) -> Self:
        """Reads what `to_bytes` wrote.

        Args:
            data: the file's content.
            manifest: of the dataset that the selection must belong to.
            text: the filter that the selection must belong to.

        Raises:
            UserError: the file is damaged, or belongs to another dataset or filter.
        """
        canonical = Filter(text).canonical
        try:
            with np.load(BytesIO(data), allow_pickle=False) as file:
                stored_text, stored_manifest, sha256 = map(str, file["about"])
                bits, fakes = file["bits"], file.get("fakes")
        except (ValueError, KeyError, OSError, EOFError, BadZipFile, zlib.error) as error:
            raise UserError(f"the stored selection can't be read ({error}); delete it") from error
        if stored_manifest != manifest.sha256:
            raise UserError(
                f"the stored selection is of another dataset: expected manifest {manifest.sha256}, "
                f"found {stored_manifest}; delete it, or name the dataset it was made of"
            )
        if stored_text != canonical:
            raise UserError(
                f"the stored selection is of another filter: expected {canonical!r}, found {stored_text!r}; "
                "delete it, or give that filter"
            )
        pairs = _pairs(manifest)
        selection = cls(text=canonical, manifest_sha256=stored_manifest, pairs=pairs, bits=bits, fakes=fakes)
        if bits.shape != (selection._starts[-1],) or bits.dtype != np.uint8 or selection.sha256 != sha256:
            raise UserError("the stored selection is damaged (sha256); delete it")
        return selection


def select(dataset: "Dataset", text: str, threads: int = 16) -> Selection:
    """Evaluates a filter on all indexes of a dataset; no payload is read.

    Args:
        dataset: the dataset.
        text: the filter.
        threads: how many indexes are read at once.

    Raises:
        UserError: the filter is wrong or selects nothing, or an index is missing or damaged.
    """
    asked = Filter(text)
    manifest = dataset.manifest
    shards = range(len(manifest.shards))
    with ThreadPoolExecutor(threads, thread_name_prefix="filter") as pool:
        masks = pool.map(lambda shard: _packed_masks(dataset, shard, asked), shards)
        shown = progress(masks, total=len(shards), unit="indexes", what="filter")
        fakes_F = np.concatenate(list(shown), axis=1)
    bits = np.bitwise_or.reduce(fakes_F, axis=0)
    selection = Selection(
        text=asked.canonical,
        manifest_sha256=manifest.sha256,
        pairs=_pairs(manifest),
        bits=bits,
        fakes=fakes_F if len(fakes_F) > 1 else None,
    )
    if not bits.any():
        raise UserError(
            f"filter {text!r} selects none of {counted(manifest.pairs, 'pair')} of {dataset.store.url}; "
            "python -m pack.info shows what they are like"
        )
    return selection


def _pairs(manifest: Manifest) -> NDArray[np.int64]:
    return manifest.numbers("pairs").astype(np.int64)


def _packed_masks(dataset: "Dataset", shard: int, asked: Filter) -> NDArray[np.uint8]:
    """(F, bytes): the bits of one shard for each fake, or one row if the filter asks nothing of fakes."""
    entry = dataset.manifest.shards[shard]
    where = f"{dataset.store.url}/{entry.name}.parquet"
    of_fakes = dataset.manifest.fakes > 1 and asked.columns & OF_FAKE.keys()
    table = dataset.table(shard, [*sorted(asked.columns), *([MORE_FAKES] if of_fakes else [])] or ["key"])
    if table.num_rows != entry.pairs:
        raise UserError(
            f"{where}: expected {counted(entry.pairs, 'row')} as in the manifest, found {table.num_rows}; "
            "run python -m pack.verify"
        )
    try:
        masks = [_mask(one, asked) for one in by_fake(table)]
    except pa.ArrowException as error:
        raise UserError(f"filter {asked.text!r} can't be evaluated on {where}: {error}") from error
    return np.packbits(masks, axis=1)


def _mask(table: pa.Table, asked: Filter) -> NDArray[np.bool_]:
    # pyarrow gives the rows that are left. They are numbered, to tell which of the shard's rows these are.
    numbered = table.append_column("row number", pa.array(np.arange(table.num_rows)))
    mask = np.zeros(table.num_rows, np.bool_)
    mask[numbered.filter(asked.expression)["row number"].to_numpy()] = True
    return mask
