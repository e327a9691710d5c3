"""Reads a sample of pairs and measures both images of each pair, on several threads.

Memory: the files of `_ROWS` pairs, the pixels of one pair per thread, and 4 KB for each measured pair.
"""

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from pack.dataset.dataset import Dataset
from pack.dataset.pairs import DamagedPair, StoredPair
from pack.inspect.audit.measured.features import Features, Numbers, measure, scatter, window
from pack.inspect.audit.traces.pairs import UNRELATED, beats, pair_values
from pack.shard.names import fake_name
from recon.base.errors import RejectedImageError
from recon.image.codec import Picture, Pixels, decode, encode, is_lossless_webp

CLASSES = ("real", "fake")
FACTS = (
    "size",
    "channels",
    "codec",
    "jpeg_quality",
    "jpeg_tables",
    "jpeg_subsampling",
    "jpeg_kind",
    "orientation",
    "icc",
)
"""What a file says about an image in addition to its pixels."""

_SAID_BY_JPEG = ("jpeg_before", "jpeg_steps", "chroma_halved")  # two JPEG files are compared by their facts
_ROWS = 16  # pairs read together
MAX_PIXELS = 1 << 31
"""In effect no limit: packing has refused images that are too large."""


@dataclass(frozen=True, kw_only=True)
class MeasuredImage:
    """One image without its pixels."""

    facts: dict[str, str]
    """Values by the names of `FACTS`; the JPEG facts are absent if the image is no JPEG."""
    values: dict[str, float]
    """Numbers by the names of `FEATURES` and `UNRELATED`, ``bytes_per_pixel`` and ``recompressed`` (see
    `changed_share`)."""
    empty: NDArray[np.int8]
    """(254,) see `Features.empty`."""
    pixels: bytes
    """Hash of the decoded image: its shape and its pixels."""


@dataclass(frozen=True, kw_only=True)
class MeasuredPair:
    """Both images of a pair."""

    split: int
    """Number of its dataset."""
    key: str
    photograph: str
    """The source path; all tiles and reconstructions of one photograph share it."""
    real: MeasuredImage
    fake: MeasuredImage
    scatter: float
    """Standard deviation of fake - real over the pixels, see `features.scatter`."""
    beats: NDArray[np.complex128]
    """(BEATS,) see `traces.pairs.beats`."""


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """What was measured."""

    pairs: list[MeasuredPair] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """A line for each pair that lacks an image or has an image that can't be read."""
    levels: dict[str, Numbers] = field(default_factory=lambda: {name: np.zeros((3, 256)) for name in CLASSES})
    """(3, 256) by class: share of pixels at each level of each channel, summed over images."""
    phases: dict[str, Numbers] = field(default_factory=lambda: {name: np.zeros(8) for name in CLASSES})
    """(8,) by class: gradient by phase of the 8-grid, summed over the images that are large enough."""

    def add(self, found: "MeasuredPair | str", features: Sequence[Features]) -> None:
        """Adds one measured pair, or the line that says what is wrong with a pair."""
        if isinstance(found, str):
            self.broken.append(found)
            return
        self.pairs.append(found)
        for name, one in zip(CLASSES, features, strict=True):
            self.levels[name] += one.levels
            self.phases[name] += np.nan_to_num(one.phases)  # NaN if the image is too small: adds nothing

    def values(self, name: str, feature: str) -> Numbers:
        """(N,) values of a feature in the class `name`, NaN if unknown."""
        images = [pair.real if name == "real" else pair.fake for pair in self.pairs]
        return np.array([image.values[feature] for image in images], np.float64)

    def differences(self, feature: str) -> Numbers:
        """(N,) fake - real of a feature, NaN if unknown."""
        return self.values("fake", feature) - self.values("real", feature)

    def empty(self, name: str) -> NDArray[np.int8]:
        """(N, 254) `Features.empty` of the class `name`."""
        return np.stack([(pair.real if name == "real" else pair.fake).empty for pair in self.pairs])


Measured = tuple[MeasuredPair | str, list[Features]]


def measure_all(
    sample: Measurements, datasets: Sequence[Dataset], count: int, threads: int
) -> Iterator[None]:
    """Measures pairs spread evenly over all datasets; yields after each sample, to show progress.

    Each reconstruction of a sample makes a pair with the real image.

    Args:
        sample: the measurements are added to this.
        datasets: the splits.
        count: maximum number of samples, over all datasets together.
        threads: number of threads that decode and measure.

    Raises:
        UserError: storage fails, or a shard differs from the manifest.
    """
    waiting = deque[Future[list[Measured]]]()
    pairs = read_sample(datasets, count)
    with ThreadPoolExecutor(threads) as pool:
        try:
            while True:
                # At most two tasks a thread: enough to keep them busy, and few files wait in memory.
                waiting += [pool.submit(_measure, *one) for one in islice(pairs, 2 * threads - len(waiting))]
                if not waiting:
                    return
                for found in waiting.popleft().result():
                    sample.add(*found)
                yield
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def spread_evenly(pairs: int, count: int) -> NDArray[np.int64]:
    """Numbers of at most `count` of `pairs` pairs, in rising order."""
    # `unique`, because rounding may give a number twice.
    return np.unique(np.linspace(0, pairs - 1, min(count, pairs)).round().astype(np.int64))


def read_sample(
    datasets: Sequence[Dataset], count: int
) -> Iterator[tuple[int, str, StoredPair | DamagedPair]]:
    """Yields (split, source path, pair) for each pair of the sample."""
    numbers = spread_evenly(sum(dataset.manifest.pairs for dataset in datasets), count)
    first = 0
    for split, dataset in enumerate(datasets):
        for shard, entry in enumerate(dataset.manifest.shards):
            rows = numbers[(numbers >= first) & (numbers < first + entry.pairs)] - first
            first += entry.pairs
            if not len(rows):
                continue
            paths = dataset.table(shard, ["path"])["path"].to_pylist()
            for part in (rows[start : start + _ROWS] for start in range(0, len(rows), _ROWS)):
                for row, pair in zip(part, dataset.read_rows(shard, part), strict=True):
                    yield split, paths[row] or pair.key, pair


@dataclass(frozen=True)
class _Looked:
    """An image of a sample, measured by itself."""

    picture: Picture
    features: Features
    image: MeasuredImage


def _measure(split: int, path: str, pair: StoredPair | DamagedPair) -> list[Measured]:
    """The pairs of a sample, one for each reconstruction, or what is wrong with it."""
    where = f"{pair.url}: {pair.key}"
    if isinstance(pair, DamagedPair):
        return [(f"{where} is damaged ({pair.cause})", [])]
    files = [member(pair, "real"), *(pair.fakes or [b""])]
    try:
        names = ["real", *map(fake_name, range(len(files) - 1))]
        real, *fakes = (_looked_at(data, name, where) for data, name in zip(files, names, strict=True))
    except RejectedImageError as error:
        return [(str(error), [])]
    return [
        (_measured_pair(split, pair.key, path, real, fake), [real.features, fake.features]) for fake in fakes
    ]


def _looked_at(data: bytes, name: str, where: str) -> _Looked:
    """Decodes and measures an image."""
    if not data:
        raise RejectedImageError(f"{where} has no {name} image")
    try:
        picture = decode(data, max_pixels=MAX_PIXELS, convert=True)
    except RejectedImageError as error:
        raise RejectedImageError(f"{where}.{name} can't be decoded: {error}") from error
    features = measure(picture.pixels)
    return _Looked(picture, features, _image(picture, data, features))


def _measured_pair(split: int, key: str, path: str, real: _Looked, fake: _Looked) -> MeasuredPair:
    pixels = real.picture.pixels, fake.picture.pixels
    is_jpeg = real.picture.jpeg and fake.picture.jpeg
    said = dict.fromkeys(_SAID_BY_JPEG, np.nan) if is_jpeg else {}
    related = pair_values(*map(window, pixels))
    return MeasuredPair(
        split=split,
        key=key,
        photograph=path,
        real=replace(real.image, values=real.image.values | UNRELATED | said),
        fake=replace(fake.image, values=fake.image.values | related | said),
        scatter=scatter(*pixels),
        beats=beats(*pixels),
    )


def member(pair: StoredPair, name: str) -> bytes:
    """The file of one image of a pair; empty if the pair lacks it."""
    try:
        return pair.real if name == "real" else pair.fake
    except StopIteration:  # raised by the properties of `StoredPair`
        return b""


def _image(picture: Picture, data: bytes, features: Features) -> MeasuredImage:
    height, width = picture.size
    values = features.values | {
        "bytes_per_pixel": len(data) / (height * width),
        "recompressed": changed_share(picture),
    }
    facts, pixels = _facts(picture, data), _pixel_hash(picture)
    return MeasuredImage(facts=facts, values=values, empty=features.empty, pixels=pixels)


def changed_share(picture: Picture) -> float:
    """Share of the values that one more compression of a JPEG, with its own coding, changes: 0..1.

    Fewer change with every compression, so this tells how often an image was compressed in this way.

    Returns:
        NaN if the image is no JPEG, or one whose coding can't be repeated.
    """
    if picture.jpeg is None or picture.converted:
        return np.nan
    try:
        again = recoded(picture.pixels, picture)
    except RejectedImageError:
        return np.nan
    return float((again != picture.pixels).mean())


def recoded(pixels: Pixels, like: Picture) -> Pixels:
    """The pixels, (H, W, C) uint8, after a compression as JPEG with the coding of `like`.

    Raises:
        RejectedImageError: the coding can't be repeated.
    """
    return decode(encode(pixels, like, "jpeg"), max_pixels=MAX_PIXELS).pixels


def _pixel_hash(picture: Picture) -> bytes:
    """Hash of shape and pixels; equal for two files that code the same pixels in different ways."""
    # With the shape: an image of 2x8 pixels and one of 4x4 may have the same bytes.
    data = repr(picture.pixels.shape).encode() + np.ascontiguousarray(picture.pixels).tobytes()
    return hashlib.blake2b(data, digest_size=16).digest()


def _facts(picture: Picture, data: bytes) -> dict[str, str]:
    (height, width), jpeg = picture.size, picture.jpeg
    codec = picture.codec
    if codec == "webp":
        codec = "webp lossless" if is_lossless_webp(data) else "webp lossy"
    facts = {
        "size": f"{width}x{height}",
        "channels": picture.converted or str(picture.pixels.shape[2]),
        "codec": codec,
        "orientation": str(picture.orientation or "none"),
        "icc": hashlib.sha256(picture.icc).hexdigest()[:8] if picture.icc else "none",
    }
    if jpeg is not None:
        facts |= {
            "jpeg_quality": str(jpeg.quality),
            "jpeg_tables": jpeg.tables_hash[:8],
            "jpeg_subsampling": jpeg.subsampling,
            "jpeg_kind": f"{'progressive' if jpeg.progressive else 'baseline'} {jpeg.colour}",
        }
    return facts
