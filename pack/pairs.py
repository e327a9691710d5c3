"""From items to pairs: decode, cut, reconstruct, compress.

Every step is a function of the item and the options alone, so that a pair has the same
bytes whenever it is made. An image that can't become a pair becomes a `Rejection`.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Protocol

from pack.config import PackConfig
from pack.items import File, Item
from pack.names import make_key, printable
from recon.codec import LOADABLE, Picture, Pixels, decode, encode, is_lossless_webp
from recon.errors import RejectedImageError

CHUNK = 32
"""Items whose pixels are in memory together."""

_LOSSY = "reconstruction is a {}, which gives it away; make it losslessly or pack with --codec keep"


class Reconstruct(Protocol):
    """Images (H, W, C) uint8 and their keys in, reconstructions of equal shapes out."""

    def __call__(self, images: Sequence[Pixels], keys: Sequence[str]) -> list[Pixels]:
        """Reconstructs the images in their order."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The three members of a sample and what the index says of it."""

    key: str
    real: bytes
    real_codec: str
    fake: bytes
    fake_codec: str
    record: dict[str, Any]
    """The columns of the index row, but for offsets, sizes and checksums."""


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """An item that did not become a pair."""

    path: str
    tile: tuple[int, int] | None
    cause: str


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    """A decoded item, on its way to a pair."""

    item: Item
    picture: Picture
    data: bytes | None
    """The source file's bytes, where they are stored untouched."""
    fake: Picture | None = None
    fake_data: bytes = b""

    @property
    def key(self) -> str:
        return make_key(self.item.path, self.item.tile)


class PairMaker:
    """Makes the pairs of a run of items, in their order.

    Args:
        config: the options of packing.
        reconstruct: the autoencoder; None where every item brings its reconstruction.
        provenance: autoencoder id, revision, weights and arithmetic, for the records.
    """

    def __init__(
        self, config: PackConfig, reconstruct: Reconstruct | None, provenance: dict[str, Any]
    ) -> None:
        self.config = config
        self.reconstruct = reconstruct
        self.provenance = provenance

    def make(self, items: Sequence[Item]) -> Iterator[Pair | Rejection]:
        """Yields one pair or rejection an item, in order; holds `CHUNK` items at a time."""
        with ThreadPoolExecutor(self.config.threads or None) as pool:
            for start in range(0, len(items), CHUNK):
                yield from self._make_chunk(items[start : start + CHUNK], pool)

    def _make_chunk(self, items: Sequence[Item], pool: ThreadPoolExecutor) -> Iterator[Pair | Rejection]:
        photographs = [list(group) for _, group in groupby(items, key=lambda item: item.path)]
        opened = [one for many in pool.map(self._prepare_photograph, photographs) for one in many]
        good = [one for one in opened if isinstance(one, _Prepared)]
        if self.reconstruct is not None:
            fakes = self.reconstruct([one.picture.pixels for one in good], [one.key for one in good])
            pairs = pool.map(self._finish, good, fakes)
        else:
            pairs = pool.map(self._finish_given, good)
        for one in opened:
            yield one if isinstance(one, Rejection) else next(pairs)

    def _prepare_photograph(self, items: list[Item]) -> list[_Prepared | Rejection]:
        """Reads one file once and prepares its tiles, or the whole."""
        try:
            data = items[0].real.read()
            picture = decode(data, max_pixels=self.config.max_pixels, convert=self.config.convert)
        except RejectedImageError as error:
            return [_rejection(item, error) for item in items]
        return [self._prepare(item, data, picture) for item in items]

    def _prepare(self, item: Item, data: bytes, picture: Picture) -> _Prepared | Rejection:
        try:
            self._check_size(item, picture)
            if item.tile is not None:
                return _Prepared(item=item, picture=self._cut(picture, item.tile), data=None)
            untouched = picture.codec in LOADABLE and picture.converted is None
            one = _Prepared(item=item, picture=picture, data=data if untouched else None)
            return one if item.fake is None else self._with_fake(one, item.fake)
        except RejectedImageError as error:
            return _rejection(item, error)

    def _check_size(self, item: Item, picture: Picture) -> None:
        height, width = picture.size
        if self.config.tile and item.tile is None:
            raise RejectedImageError(f"{width}x{height} is smaller than tile={self.config.tile}")
        if min(height, width) < self.config.min_side:
            raise RejectedImageError(f"{width}x{height} is below min_side={self.config.min_side}")

    def _cut(self, picture: Picture, corner: tuple[int, int]) -> Picture:
        assert self.config.tile is not None
        (y, x), side = corner, self.config.tile
        return replace(picture, pixels=picture.pixels[y : y + side, x : x + side], codec="png", jpeg=None)

    def _with_fake(self, one: _Prepared, file: File) -> _Prepared:
        data = file.read()
        try:
            fake = decode(data, max_pixels=self.config.max_pixels, convert=self.config.convert)
        except RejectedImageError as error:
            raise RejectedImageError(f"reconstruction {file.name}: {error}") from error
        if fake.pixels.shape != one.picture.pixels.shape:
            expected, found = one.picture.pixels.shape, fake.pixels.shape
            raise RejectedImageError(
                f"reconstruction {file.name} is {_shape(found)}, the real image {_shape(expected)}"
            )
        return replace(one, fake=fake, fake_data=data)

    def _finish_given(self, one: _Prepared) -> Pair | Rejection:
        assert one.fake is not None
        fake, keep = one.fake, self.config.codec == "keep"
        loadable = fake.codec in LOADABLE and fake.converted is None
        if loadable and (keep or _coded_alike(fake, one.picture)):
            return self._pair(one, one.fake_data, fake.codec)
        if fake.codec == "jpeg" and not keep:
            return _rejection(one.item, RejectedImageError(_LOSSY.format("JPEG coded unlike its real image")))
        if fake.codec == "webp" and not keep and not is_lossless_webp(one.fake_data):
            return _rejection(one.item, RejectedImageError(_LOSSY.format("lossy WebP")))
        return self._finish(one, fake.pixels)

    def _finish(self, one: _Prepared, fake: Pixels) -> Pair | Rejection:
        codec = self._codec(one.picture)
        try:
            return self._pair(one, encode(fake, one.picture, codec), codec)
        except RejectedImageError as error:
            return _rejection(one.item, error)
        except (OSError, ValueError) as error:  # a side beyond the codec's limit
            return _rejection(one.item, RejectedImageError(f"can't be stored as {codec}: {error}"))

    def _codec(self, real: Picture) -> str:
        """The codec of a reconstruction that is compressed here."""
        if self.config.codec == "match" and real.codec in LOADABLE and not real.converted:
            return real.codec
        return "webp" if self.config.codec == "lossless-webp" else "png"

    def _pair(self, one: _Prepared, fake: bytes, fake_codec: str) -> Pair:
        real_codec = one.picture.codec if one.data is not None else "png"
        real = one.data if one.data is not None else encode(one.picture.pixels, one.picture, "png")
        record = self._record(one) | {"real_codec": real_codec, "fake_codec": fake_codec}
        return Pair(
            key=one.key, real=real, real_codec=real_codec, fake=fake, fake_codec=fake_codec, record=record
        )

    def _record(self, one: _Prepared) -> dict[str, Any]:
        picture, jpeg = one.picture, one.picture.jpeg
        y, x = one.item.tile or (None, None)
        height, width, channels = picture.pixels.shape
        return {
            "path": printable(one.item.path),
            "tile_y": y,
            "tile_x": x,
            "group": printable(one.item.group),
            "width": width,
            "height": height,
            "channels": channels,
            "orientation": picture.orientation,
            "converted": picture.converted,
            "jpeg_tables": jpeg and jpeg.tables_hash,
            "jpeg_quality": jpeg and jpeg.quality,
            "jpeg_subsampling": jpeg and jpeg.subsampling,
            "jpeg_progressive": jpeg and jpeg.progressive,
            "codec_policy": self.config.codec,
        } | self.provenance


def _coded_alike(fake: Picture, real: Picture) -> bool:
    """Whether both images of a pair were compressed in the same way, so that no codec tells them apart."""
    if fake.converted or real.converted or fake.orientation != real.orientation:
        return False
    if fake.codec == "jpeg":
        return fake.jpeg == real.jpeg
    return fake.codec == real.codec == "png" and fake.icc == real.icc


def _rejection(item: Item, error: RejectedImageError) -> Rejection:
    return Rejection(path=printable(item.path), tile=item.tile, cause=str(error))


def _shape(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]} with {shape[2]} channel{'s' if shape[2] > 1 else ''}"
