"""Reconstructs the images of a folder and writes them to another folder under the same relative names.

    python -m recon --source photos --out reconstructions --autoencoder sd15

``a/b.jpg`` becomes ``a/b.png``, and ``train/sd/0_real/b.jpg`` becomes ``train/sd/1_fake/b.png``.
Existing reconstructions are kept: a killed run continues where it stopped.
"""

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from recon.base import cli
from recon.base.errors import RejectedImageError, UserError
from recon.base.paths import exists, is_dir, make_folder, one_name
from recon.base.progress import Progress
from recon.base.rejections import won_by_converting
from recon.image.codec import SUFFIXES, Picture, decode, encode
from recon.listing import FAKE, REAL, images_below
from recon.models.config import ReconstructionConfig
from recon.models.listing import table
from recon.models.load import load
from recon.models.types import Autoencoder
from recon.place.alone import refuse_ranks
from recon.reconstruct import reconstruct_each

RECORD = "reconstruction.json"
"""File that records how the folder's reconstructions were made; a run with other options is refused."""

REJECTED = "rejected.jsonl"
"""One line {"path", "cause"} for each source that was not reconstructed."""

_PROG = "python -m recon"
_WEBP_SIDE = 16383  # limit of the format, which has 14 bits for a side
_LONGEST_NAME = 255  # bytes, the limit of nearly all file systems
_BATCHES_AHEAD = 4  # batches decoded together, so that images of one size can share a batch
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FolderConfig(ReconstructionConfig):
    """The options of ``python -m recon``."""

    source: str
    """Folder of images, searched recursively; its 1_fake folders are left out."""
    out: str
    """Folder for the reconstructions; may be the source if all of its images are in 0_real folders."""
    format: Literal["png", "webp"] = "png"
    """Lossless codec of the reconstructions."""
    convert: bool = False
    """Convert CMYK, 16-bit, palette and alpha (over white) images to 8-bit RGB instead of rejecting them."""
    max_pixels: int = 100_000_000
    """Images of more pixels are rejected before they are decoded."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One image to reconstruct: its path below the source and the file to write."""

    name: str
    """Relative posix path; also the key that seeds the posterior sample."""
    target: Path
    """File of the reconstruction."""


@dataclass(kw_only=True)
class _Tally:
    """Counts what was done with the images."""

    made: int = 0
    present: int = 0
    rejected: list[dict[str, str]] = field(default_factory=list)

    def line(self, out: Path) -> str:
        """Returns the last line that the command logs."""
        where = f" (causes in {out / REJECTED}){won_by_converting(self.rejected)}" if self.rejected else ""
        return (
            f"{out}: {self.made} reconstructed, {self.present} already there, "
            f"{len(self.rejected)} rejected{where}"
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command with `argv`, by default the arguments of the process."""
    shows = {"list": (table, "Print the presets, and which of them are in the hub's cache.")}
    cli.run(FolderConfig, reconstruct_folder, argv, prog=_PROG, about=__doc__ or "", shows=shows)


def find_images(root: Path) -> list[str]:
    """The sorted relative posix paths of the image files below `root`; see `recon.listing.images_below`."""
    return [name for name, _ in images_below(root)]


def reconstruct_folder(config: FolderConfig) -> int:
    """Makes the reconstructions that the output folder lacks.

    Returns:
        1 if every image was rejected, otherwise 0.

    Raises:
        UserError: a folder or an option is wrong, or the output can't be written.
    """
    refuse_ranks(os.environ, _PROG)
    jobs = _plan(config)
    autoencoder = load(config)  # before the folder is claimed: the record needs the hash of the weights
    out = Path(config.out)
    _claim(out, _record(config, autoencoder), jobs)
    tally = _Tally()
    size = config.batch_size * _BATCHES_AHEAD
    with Progress(total=len(jobs), unit="images", what="reconstruct") as progress:
        for start in range(0, len(jobs), size):
            _run_chunk(config, autoencoder, jobs[start : start + size], tally, progress)
    _write_rejected(out / REJECTED, tally.rejected)
    _LOG.info(tally.line(out))
    return int(len(tally.rejected) == len(jobs))


def _plan(config: FolderConfig) -> list[Job]:
    """Returns every source image with its target file, after checks of the paths."""
    source, out = Path(config.source), Path(config.out)
    if not is_dir(source):
        raise UserError(f"--source {source} is no folder, expected a folder of images")
    names = [name for name in find_images(source) if FAKE not in PurePosixPath(name).parts[:-1]]
    if not names:
        raise UserError(f"no images in {source}, expected files that end in {', '.join(SUFFIXES)}")
    _check_apart(source, out, names)
    jobs: dict[Path, Job] = {}
    for name in names:
        target = out / _mirrored(name, config.format)
        if target in jobs:
            both = f"{jobs[target].name} and {name} in {source}"
            raise UserError(f"{both} would both become {target}; rename one")
        jobs[target] = Job(name=name, target=target)
    return list(jobs.values())


def _check_apart(source: Path, out: Path, names: Sequence[str]) -> None:
    real, fake = (Path(one_name(str(folder))) for folder in (source, out))
    if real == fake:
        stray = next((name for name in names if REAL not in PurePosixPath(name).parts[:-1]), None)
        if stray:
            raise UserError(f"--out is --source, but {stray} is not in a {REAL} folder; give another --out")
    elif fake.is_relative_to(real) or real.is_relative_to(fake):
        raise UserError(f"one of --out {out} and --source {source} contains the other; give a separate --out")


def _mirrored(name: str, codec: str) -> str:
    path = PurePosixPath(name)
    folders = [FAKE if part == REAL else part for part in path.parts[:-1]]
    return str(PurePosixPath(*folders, f"{path.name[: -len(path.suffix)]}.{codec}"))


def _record(config: FolderConfig, autoencoder: Autoencoder) -> str:
    about = {"codec": config.format, "convert": config.convert}
    return json.dumps({**autoencoder.provenance.recorded(), **about}, indent=2) + "\n"


def _claim(out: Path, record: str, jobs: Sequence[Job]) -> None:
    """Writes the record of a new output folder, or compares with the record of an existing one."""
    path = out / RECORD
    if not exists(path):
        # Nothing says which autoencoder made these files; ours must not be mixed with them.
        if stranger := next((job.target for job in jobs if exists(job.target)), None):
            raise UserError(f"{stranger} exists, but {out} has no {RECORD}; give another --out")
        _write(path, record.encode())
        return
    try:
        found, expected = dict(json.loads(path.read_text("utf-8"))), json.loads(record)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} can't be read: {error}; give another --out") from error
    if found != expected:
        names = [name for name in {**found, **expected} if found.get(name) != expected.get(name)]
        other = [f"{name} {found.get(name)!r}, now {expected.get(name)!r}" for name in names]
        raise UserError(f"{out} was made with other options: {'; '.join(other)}; give another --out")


def _run_chunk(
    config: FolderConfig,
    autoencoder: Autoencoder,
    jobs: Sequence[Job],
    tally: _Tally,
    progress: Progress,
) -> None:
    """Makes the reconstructions that a chunk lacks.

    If only some are missing, the whole chunk still runs again. Its batches are then those of an
    undisturbed run; other batches could run other kernels and give other pixels.
    """
    pictures: dict[Job, Picture] = {}
    if not all(exists(job.target) for job in jobs):  # a finished chunk is not even decoded
        pictures = _read_all(config, jobs, tally)
    missing = {job for job in pictures if not exists(job.target)}
    tally.made += len(missing)
    tally.present += sum(exists(job.target) for job in jobs)
    if tally.rejected:
        progress.note(f"{len(tally.rejected)} rejected")
    progress.update(len(jobs) - len(missing))
    if missing:
        readable, pixels = list(pictures), [picture.pixels for picture in pictures.values()]
        names = [job.name for job in readable]
        for index, fake in reconstruct_each(autoencoder, pixels, names, config.batch_size):
            job = readable[index]
            if job in missing:
                _write(job.target, encode(fake, pictures[job], config.format))
                progress.update()


def _read_all(config: FolderConfig, jobs: Sequence[Job], tally: _Tally) -> dict[Job, Picture]:
    pictures: dict[Job, Picture] = {}
    for job in jobs:
        try:
            pictures[job] = _read(config, job)
        except RejectedImageError as error:
            tally.rejected.append({"path": job.name, "cause": str(error)})
    return pictures


def _read(config: FolderConfig, job: Job) -> Picture:
    if len(os.fsencode(job.target.name)) > _LONGEST_NAME:
        raise RejectedImageError(f"its name is too long with {job.target.suffix}; shorten it")
    try:
        data = (Path(config.source) / job.name).read_bytes()
    except OSError as error:
        raise RejectedImageError(f"can't be read: {error.strerror}") from error
    picture = decode(data, max_pixels=config.max_pixels, convert=config.convert)
    if config.format == "webp" and max(picture.size) > _WEBP_SIDE:
        raise RejectedImageError(f"a side exceeds WebP's {_WEBP_SIDE} pixels; use --format png")
    return picture


def _write_rejected(path: Path, rejected: Sequence[dict[str, str]]) -> None:
    if rejected:
        _write(path, "".join(f"{json.dumps(line)}\n" for line in rejected).encode())
    else:
        path.unlink(missing_ok=True)  # of an earlier run


def _write(path: Path, data: bytes) -> None:
    """Writes the whole file or nothing; a file that already holds `data` is left alone."""
    # Hidden, so that no search finds a partial file; named by process, so that two runs don't share one.
    part = path.with_name(f".{os.getpid()}.part")
    try:
        make_folder(path.parent)
        if exists(path) and path.read_bytes() == data:
            return
        try:
            with part.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())  # before the rename: else a power cut could leave an empty file
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"can't write {path}: {error.strerror}; free space or give another --out") from error
