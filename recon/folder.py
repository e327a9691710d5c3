"""Reconstructs a folder of images into another, under the same relative names.

    python -m recon --source photos --out reconstructions --autoencoder sd15

``a/b.jpg`` becomes ``a/b.png``, and ``train/sd/0_real/b.jpg`` becomes ``train/sd/1_fake/b.png``.
What exists is not made again: a killed run goes on where it stopped.
"""

import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from recon.base import cli
from recon.base.errors import RejectedImageError, UserError
from recon.base.paths import exists, is_dir
from recon.base.progress import Progress
from recon.image.codec import SUFFIXES, Picture, decode, encode
from recon.models.config import ReconstructionConfig
from recon.models.load import load
from recon.models.types import Autoencoder
from recon.reconstruct import reconstruct_each

REAL, FAKE = "0_real", "1_fake"
"""Folder names of the two halves in the published trees of detector datasets."""

RECORD = "reconstruction.json"
"""What the folder's reconstructions were made by; another provenance is refused."""

REJECTED = "rejected.jsonl"
"""One line {"path", "cause"} for each source that was not reconstructed."""

_WEBP_SIDE = 16383  # of the format: 14 bits
_LONGEST_NAME = 255  # bytes, of nearly all file systems
_BATCHES_AHEAD = 4  # a chunk is decoded as a whole, so that its images batch by size
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FolderConfig(ReconstructionConfig):
    """The options of ``python -m recon``."""

    source: str
    """Folder of images, searched recursively; 1_fake folders in it are left out."""
    out: str
    """Folder for the reconstructions; the source itself, if all of its images lie in 0_real folders."""
    format: Literal["png", "webp"] = "png"
    """Lossless codec of the reconstructions."""
    convert: bool = False
    """Make 8-bit RGB of CMYK, 16-bit, palette and alpha (over white) images instead of rejecting them."""
    max_pixels: int = 100_000_000
    """Larger images are rejected before they are decoded."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One image to reconstruct: its path below the source and its file to write."""

    name: str
    """Relative posix path; the key of the posterior sample."""
    target: Path
    """The reconstruction's file."""


@dataclass(kw_only=True)
class _Tally:
    """What became of the images."""

    made: int = 0
    present: int = 0
    rejected: list[dict[str, str]] = field(default_factory=list)

    def line(self, out: Path) -> str:
        """The closing line of the command."""
        where = f" (causes in {out / REJECTED})" if self.rejected else ""
        return (
            f"{out}: {self.made} reconstructed, {self.present} already there, "
            f"{len(self.rejected)} rejected{where}"
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command with these arguments, by default those of the process."""
    cli.run(FolderConfig, reconstruct_folder, argv, prog="python -m recon", about=__doc__ or "")


def find_images(root: Path) -> list[str]:
    """Relative posix paths of the image files below `root`, sorted.

    Files count by their suffix (`recon.image.codec.SUFFIXES`). Links to files are followed, links
    to folders are not; names that start with a dot are left out.

    Raises:
        UserError: a folder can't be listed.
    """
    found = []
    for folder, folders, files in os.walk(root, onerror=_unlistable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                found.append((Path(folder) / name).relative_to(root).as_posix())
    return sorted(found)


def reconstruct_folder(config: FolderConfig) -> int:
    """Reconstructs what is missing in the output folder.

    Returns:
        0, and 1 where every image was rejected.

    Raises:
        UserError: wrong folders or options, or the output can't be written.
    """
    jobs = _plan(config)
    autoencoder = load(config)
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
    """Every source image with its target, the paths checked."""
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
    real, fake = source.resolve(), out.resolve()
    if real == fake:
        stray = next((name for name in names if REAL not in PurePosixPath(name).parts[:-1]), None)
        if stray:
            raise UserError(
                f"--out is --source, but {stray} lies in no {REAL} folder to mirror; give another --out"
            )
    elif fake.is_relative_to(real) or real.is_relative_to(fake):
        raise UserError(f"--out {out} and --source {source} lie inside each other; give a separate --out")


def _mirrored(name: str, codec: str) -> str:
    path = PurePosixPath(name)
    folders = [FAKE if part == REAL else part for part in path.parts[:-1]]
    return str(PurePosixPath(*folders, f"{path.name[: -len(path.suffix)]}.{codec}"))


def _record(config: FolderConfig, autoencoder: Autoencoder) -> str:
    about = {"codec": config.format, "convert": config.convert}
    return json.dumps({**asdict(autoencoder.provenance), **about}, indent=2) + "\n"


def _claim(out: Path, record: str, jobs: Sequence[Job]) -> None:
    """Writes the record of a new output folder, or checks that of an existing one."""
    path = out / RECORD
    if not exists(path):
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
        raise UserError(f"{out} was made otherwise: {'; '.join(other)}; give another --out")


def _run_chunk(
    config: FolderConfig,
    autoencoder: Autoencoder,
    jobs: Sequence[Job],
    tally: _Tally,
    progress: Progress,
) -> None:
    """Makes what is missing of a chunk.

    The whole chunk runs again where a part is missing: batches stay those of an undisturbed
    run, and kernels depend on them.
    """
    pictures: dict[Job, Picture] = {}
    if not all(exists(job.target) for job in jobs):
        pictures = _read_all(config, jobs, tally)
    missing = {job for job in pictures if not exists(job.target)}
    tally.made += len(missing)
    tally.present += sum(exists(job.target) for job in jobs)
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
        raise RejectedImageError(f"{job.target.suffix} makes its name too long; shorten it")
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
        path.unlink(missing_ok=True)


def _write(path: Path, data: bytes) -> None:
    """Puts a whole file at `path`, or none; leaves one alone that holds `data` already."""
    part = path.with_name(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if exists(path) and path.read_bytes() == data:
            return
        try:
            with part.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"can't write {path}: {error.strerror}; free space or give another --out") from error


def _unlistable(error: OSError) -> Iterator[None]:
    raise UserError(f"can't list {error.filename}: {error.strerror}") from error
