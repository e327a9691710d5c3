"""Makes a dataset of tars that others wrote: reads each tar once, writes its index, and the manifest last.

A run that is refused or interrupted removes what it wrote. One that was killed leaves indexes; the next run
starts again from the beginning, writes the same bytes, and replaces no files but those.
"""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from dataclasses import fields as fields_of
from importlib.metadata import version
from typing import Any

from pack.adopt.config import IndexConfig
from pack.adopt.entries import add_entries
from pack.adopt.found import Found
from pack.adopt.rows import Made, Naming, TarSample, make_row, samples
from pack.adopt.tar_reader import TarReader
from pack.adopt.urls import find_tars
from pack.adopt.written import Written
from pack.base.braces import expand
from pack.base.names import printable
from pack.card.card import CARD
from pack.card.update import new_card
from pack.shard.hints import HintFile
from pack.shard.index import index_bytes, tar_sha256
from pack.shard.manifest import FIELDS, HINTED, LISTED, NAME, PLAN, Manifest, ShardEntry, read_manifest
from pack.shard.names import hints_name
from pack.shard.pair import member_columns
from pack.shard.rejected import REJECTED, rejected_bytes
from pack.shard.schema import ADOPTED_SCHEMA, hinted
from pack.storage import BusyError, Store, open_store
from recon.base.cpus import ahead, available_cpus
from recon.base.errors import RejectedImageError, UserError
from recon.base.options import refuse_idle
from recon.base.paths import folder_name
from recon.base.progress import Progress, counted
from recon.base.rejections import causes

_LIBRARIES = ("pillow", "pyarrow")  # their versions may change the bytes of an index
_ASKED_AT_ONCE = 16  # threads that ask the storage for sizes, which mostly wait for its answer
_AGAIN = "delete it to index the tars again"

_LOG = logging.getLogger(__name__)


def adopt(config: IndexConfig) -> None:
    """Indexes the tars of a directory and writes its manifest; or adds entry points to a dataset.

    Raises:
        UserError: a tar is broken, its samples are no pairs or can't be read by byte offset, or the
            directory already holds another dataset.
    """
    fields = _fields(config.real), _fields(config.fake)
    if both := set(fields[0]) & set(fields[1]):
        raise UserError(f"real and fake both name {', '.join(sorted(both))}; expected different fields")
    directory, names = find_tars(config.url)
    store = open_store(directory)
    if config.entries and store.exists(NAME):
        others = [one.name for one in fields_of(config) if one.name not in ("url", "entries")]
        refuse_idle(config, *others, because=f"{store.url} is indexed already")
        add_entries(store.url)
        return
    naming = Naming(
        dataset=printable(config.name or folder_name(directory)),
        real=fields[0],
        fake=fields[1],
        group=config.group,
        group_field=config.group_field,
        autoencoder=config.autoencoder,
        max_pixels=config.max_pixels,
    )
    _Adoption(config, naming, store, names).run()


class _Adoption:
    """Makes one directory a dataset."""

    def __init__(self, config: IndexConfig, naming: Naming, store: Store, names: Sequence[str]) -> None:
        self.config, self.naming, self.store, self.names = config, naming, store, names

    def run(self) -> None:
        """Writes indexes and manifest; if there is a manifest, only compares it with the tars."""
        present = set(self.store.names())
        with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
            found = pool.map(lambda name: self.store.size(f"{name}.tar"), self.names)
            sizes = dict(zip(self.names, found, strict=True))
        if NAME in present:
            self._compare(read_manifest(self.store), sizes)
            _LOG.info("%s is indexed already, nothing to do", self.store.url)
            return
        if PLAN in present:
            raise UserError(
                f"{self.store.url} holds an unfinished dataset of python -m pack; "
                "complete it by running python -m pack again"
            )
        self.written = Written(self.store, present)
        self.written.refuse_foreign(self.names)
        try:
            self._finish(self._read_all(sizes), present)
        except BusyError:  # another process is at these tars; its files are not to go
            raise
        except BaseException:  # an interrupt too
            self.written.undo()
            raise

    def _read_all(self, sizes: dict[str, int]) -> Found:
        """Reads all tars and publishes the index of each tar that has pairs."""
        found = Found(where=self.store.url)
        with Progress(total=_whole_mb(sum(sizes.values())), unit="MB", what="index") as shown:
            meter = _Meter(shown)
            for name, size in sizes.items():
                self._read(name, size, found, meter)
        return found

    def _read(self, name: str, size: int, found: Found, meter: "_Meter") -> None:
        tar = TarReader(self.store, f"{name}.tar", size, meter.read)
        rows: list[dict[str, Any]] = []
        hints = HintFile()
        threads = available_cpus()
        with ThreadPoolExecutor(threads) as pool:
            for key, made in ahead(pool, self._row, self._samples(tar, name, found), threads):
                if isinstance(made, RejectedImageError):
                    found.reject(key, name, made)
                else:
                    rows.append(made.row | member_columns("hints", hints.add(made.hints)))
                    found.add_fields(made.fields)
                    meter.pair()
        if rows:
            # `samples` has read the tar to its end, so `tar.sha256` covers all of it.
            facts: dict[str, Any] = {"name": name, "pairs": len(rows), "bytes": size, "sha256": tar.sha256}
            index = index_bytes(rows, facts | {"adopted": True}, hinted(ADOPTED_SCHEMA))
            self.written.put(hints_name(name), hints.to_bytes())
            self.written.put(f"{name}.parquet", index)
            found.entries.append(ShardEntry(**facts, index_sha256=hashlib.sha256(index).hexdigest()))
            return
        found.empty.append(name)
        # If no sample of the first tars is a pair, --real and --fake are probably wrong. Tell it now, not
        # after hours of reading.
        if found.rejected and not found.entries and not self.config.skip_incomplete:
            names = found.advice_on_names(self.config.real, self.config.fake)
            raise UserError(f"{found.complaint()}; {names if found.lacks_fields else found.advice()}")

    def _samples(self, tar: TarReader, name: str, found: Found) -> Iterator[TarSample]:
        for sample in samples(tar, self.naming.wanted, found.left_out.add):
            found.add_key(sample.key, name, sample.start)
            yield sample

    def _row(self, sample: TarSample) -> tuple[str, Made | RejectedImageError]:
        """The key of a sample with what becomes of it, or with the reason why it is no pair."""
        try:
            return sample.key, make_row(sample, self.naming)
        except RejectedImageError as error:
            return sample.key, error

    def _finish(self, found: Found, present: set[str]) -> None:
        """Publishes the list of the samples that are left out and the card, then the manifest."""
        if found.rejected and not self.config.skip_incomplete:
            raise UserError(f"{found.complaint()}; {found.advice()}")
        if not found.entries:
            what = found.complaint() if found.rejected else f"{self.store.url}: no tar has a sample"
            raise UserError(f"{what}; there is nothing to index")
        if found.rejected:
            self.written.put(REJECTED, rejected_bytes(found.rejected))
        manifest = Manifest(
            name=self.naming.dataset,
            split=self.config.split,
            shards=tuple(found.entries),
            rejected=len(found.rejected),
            provenance=self._provenance() | self._found(found),
            tabled=len(found.entries) > LISTED,
        )
        if text := new_card(self.store, manifest, present):
            self.written.put(CARD, text)
        self.written.settle()
        # Last, and only if there is none: from here on readers take the directory as a dataset.
        for name, data in manifest.files():
            self.written.put(name, data, create=name == NAME)
        self._report(manifest, found)

    def _provenance(self) -> dict[str, Any]:
        """Everything, apart from the tars, that decides the bytes of the indexes."""
        options = {name: value for name, value in asdict(self.naming).items() if name != "dataset"}
        options |= {name: list(options[name]) for name in ("real", "fake")}
        return {
            "adopted": options | {"skip_incomplete": self.config.skip_incomplete},
            "autoencoder": {"autoencoder": self.config.autoencoder},
            "libraries": {name: version(name) for name in _LIBRARIES},
        }

    def _found(self, found: Found) -> dict[str, Any]:
        """What the tars hold."""
        fields = found.fields(self.naming.real, self.naming.fake)
        return {"tars_without_pairs": found.empty, FIELDS: fields, HINTED: "beside"}

    def _report(self, manifest: Manifest, found: Found) -> None:
        size = f"{counted(len(manifest.shards), 'tar')}, {manifest.bytes / 1e6:.1f} MB"
        _LOG.info("%s in %s -> %s/%s", counted(manifest.pairs, "pair"), size, self.store.url, NAME)
        if text := str(found.left_out):
            _LOG.warning("%s: left out %s", self.store.url, text)
        if found.empty:
            _LOG.warning("left out %s without a pair: %s", counted(len(found.empty), "tar"), found.empty[0])
        if found.rejected:
            what, where = counted(len(found.rejected), "sample"), f"{self.store.url}/{REJECTED}"
            _LOG.warning("%s left out, listed in %s: %s", what, where, causes(found.rejected))

    def _compare(self, manifest: Manifest, sizes: dict[str, int]) -> None:
        """Raises an error if the manifest differs from the one that this run would write."""
        where, found = f"{self.store.url}/{NAME}", manifest.provenance
        if "adopted" not in found:
            raise UserError(f"{self.store.url} is a dataset of python -m pack, which has indexes already")
        found = found | {"name": manifest.name, "split": manifest.split}
        expected = self._provenance() | {"name": self.naming.dataset, "split": self.config.split}
        for name, value in expected.items():
            if found[name] != value:
                differ = _differing(name, value, found[name])
                raise UserError(f"{where} is another: {differ}; {_AGAIN}")
        # Tars without pairs have no shard entry but were read all the same, so they count as known.
        listed = {entry.name for entry in manifest.shards} | set(found["tars_without_pairs"])
        if other := listed ^ sizes.keys():
            which = "among the given tars" if min(other) in sizes else "in the manifest"
            raise UserError(f"{where} is another: {min(other)}.tar is {which} only; {_AGAIN}")
        with Progress(total=len(manifest.shards), unit="tars", what="compare") as shown:
            for entry in manifest.shards:
                self._compare_shard(entry, sizes[entry.name])
                shown.update()

    def _compare_shard(self, entry: ShardEntry, size: int) -> None:
        if size != entry.bytes or tar_sha256(self.store, entry.name) != entry.sha256:
            raise UserError(
                f"{self.store.url}/{entry.name}.tar was changed since {NAME} was written; {_AGAIN}"
            )
        index = self.store.read(f"{entry.name}.parquet")
        if hashlib.sha256(index).hexdigest() != entry.index_sha256:
            raise UserError(
                f"{self.store.url}/{entry.name}.parquet was changed since {NAME} was written; {_AGAIN}"
            )


def _differing(name: str, expected: Any, found: Any) -> str:
    """Names what differs between the value that a run would write and the one that is there."""
    if not isinstance(expected, dict) or not isinstance(found, dict):
        return f"expected {name} {expected}, found {found}"
    names = [one for one in {**found, **expected} if expected.get(one) != found.get(one)]
    return ", ".join(f"expected {one} {expected.get(one)}, found {found.get(one)}" for one in names)


class _Meter:
    """Shows progress: the MB read, rounded up, and the number of pairs."""

    def __init__(self, progress: Progress) -> None:
        self.progress, self.bytes, self.pairs = progress, 0, 0

    def pair(self) -> None:
        """Counts a pair."""
        self.pairs += 1
        self.progress.note(counted(self.pairs, "pair"))

    def read(self, size: int) -> None:
        """Counts bytes that were read."""
        # Differences of rounded totals: rounding each piece would add up to more than the total.
        before, self.bytes = self.bytes, self.bytes + size
        self.progress.update(_whole_mb(self.bytes) - _whole_mb(before))


def _whole_mb(size: int) -> int:
    return -(-size // 10**6)


def _fields(text: str) -> tuple[str, ...]:
    """The fields that an option names; earlier ones take precedence."""
    parts = [one.strip().lower() for part in text.split(";") for one in expand(part)]
    if not all(parts):
        raise UserError(f"{text!r}: expected names of fields such as real.jpg or recon.{{png,webp}}")
    return tuple(dict.fromkeys(parts))
