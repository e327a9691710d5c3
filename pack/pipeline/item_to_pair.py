"""What happens to one item on its way to a pair: read, decode, cut; compress, describe.

Every step is a function of the item and the options alone, so that a pair has the same
bytes whenever and wherever it is made. An image that can't become a pair becomes a
`Rejection`. The steps run on several threads at once (pack/pipeline/pipeline.py) and keep nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pack.base.config import PackConfig
from pack.base.items import File, Item
from pack.base.names import make_key, printable
from pack.shard.pair import Pair, jpeg_columns
from recon.base.errors import RejectedImageError
from recon.image.codec import LOADABLE, Picture, Pixels, decode, encode, is_lossless_webp
from recon.image.jpeg import standard_coding

_ANEW = {"both": "jpeg", "lossless-webp": "webp"}
"""By policy, the codec of what no file gives one: tiles, converted images, reconstructions; else PNG."""

_LOSSY = "reconstruction is a {}, which gives it away; make it losslessly or pack with --codec keep"

Admit = Callable[[int], None]
"""Called with the bytes that are about to be decoded; returns when there is room for them."""


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """An item that did not become a pair."""

    path: str
    tile: tuple[int, int] | None
    cause: str


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A decoded item, on its way to a pair."""

    item: Item
    key: str
    picture: Picture
    data: bytes | None
    """The source file's bytes, where they are stored untouched."""
    fake: Picture | None = None
    """The ready reconstruction, decoded."""
    fake_data: bytes = b""

    @property
    def size(self) -> int:
        """Bytes that it holds, about."""
        ready = 0 if self.fake is None else self.fake.pixels.nbytes + len(self.fake_data)
        return self.picture.pixels.nbytes + len(self.data or b"") + ready


class Steps:
    """The steps, under one set of options.

    Args:
        config: the options of packing.
        provenances: for each autoencoder its id, revision, weights and arithmetic, for the records.
    """

    def __init__(self, config: PackConfig, provenances: Sequence[dict[str, Any]]) -> None:
        self.config = config
        self.provenances = provenances

    def open(self, items: Sequence[Item], admit: Admit) -> Iterator[Prepared | Rejection]:
        """Reads and decodes one photograph, once; then yields its items, cut out one by one.

        Args:
            items: all of one file: its tiles, or itself, once for each autoencoder.
            admit: called before anything is decoded.

        Raises:
            UserError: storage fails.
        """
        try:
            data = items[0].real.read()
            picture = self._decode(data, admit)
        except RejectedImageError as error:
            return iter([_rejection(item, error) for item in items])
        prepared = (self._prepare(item, data, picture, admit) for item in items)
        # Ready reconstructions are files too, to be read here; tiles are cheap and may be many.
        return prepared if items[0].fake is None else iter(list(prepared))

    def _decode(self, data: bytes, admit: Admit) -> Picture:
        def on_size(height: int, width: int) -> None:
            admit(3 * height * width + len(data))

        config = self.config
        return decode(data, max_pixels=config.max_pixels, convert=config.convert, on_size=on_size)

    def _prepare(self, item: Item, data: bytes, picture: Picture, admit: Admit) -> Prepared | Rejection:
        try:
            self._check_size(item, picture)
            key = make_key(item.path, item.tile, item.variant)
            if item.tile is not None:
                return Prepared(item=item, key=key, picture=self._cut(picture, item.tile), data=None)
            untouched = picture.codec in LOADABLE and not picture.converted and self.config.codec != "both"
            one = Prepared(item=item, key=key, picture=picture, data=data if untouched else None)
            return one if item.fake is None else self._with_fake(one, item.fake, admit)
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
        pixels = np.ascontiguousarray(picture.pixels[y : y + side, x : x + side])  # lets the photograph go
        return replace(picture, pixels=pixels, codec="png", jpeg=None)

    def _with_fake(self, one: Prepared, file: File, admit: Admit) -> Prepared:
        data = file.read()
        try:
            fake = self._decode(data, admit)
        except RejectedImageError as error:
            raise RejectedImageError(f"reconstruction {file.name}: {error}") from error
        if fake.pixels.shape != one.picture.pixels.shape:
            expected, found = one.picture.pixels.shape, fake.pixels.shape
            raise RejectedImageError(
                f"reconstruction {file.name} is {_shape(found)}, the real image {_shape(expected)}"
            )
        return replace(one, fake=fake, fake_data=data)

    def finish(self, one: Prepared, fake: Pixels | None) -> Pair | Rejection:
        """Compresses what is stored anew and describes the pair.

        Args:
            one: a prepared item.
            fake: its reconstruction, (H, W, C) uint8; None where the item brings its own.
        """
        try:
            return self._encoded(one, fake) if fake is not None else self._given(one)
        except RejectedImageError as error:
            return _rejection(one.item, error)

    def _given(self, one: Prepared) -> Pair:
        """The pair of a ready reconstruction, whose bytes are kept where the policy allows."""
        assert one.fake is not None
        fake, policy = one.fake, self.config.codec
        alike = _coded_alike(fake, one.picture)
        loadable = fake.codec in LOADABLE and fake.converted is None
        if loadable and policy != "both" and (policy == "keep" or alike):
            return self._pair(one, one.fake_data, fake.codec, one.picture)
        if fake.codec == "jpeg" and policy != "keep" and not alike:
            raise RejectedImageError(_LOSSY.format("JPEG coded unlike its real image"))
        if fake.codec == "webp" and policy != "keep" and not is_lossless_webp(one.fake_data):
            raise RejectedImageError(_LOSSY.format("lossy WebP"))
        return self._encoded(one, fake.pixels)

    def _encoded(self, one: Prepared, fake: Pixels) -> Pair:
        like, codec = self._coding(one.picture)
        return self._pair(one, _compressed(fake, like, codec), codec, like)

    def _coding(self, real: Picture) -> tuple[Picture, str]:
        """What a reconstruction is compressed like, and the codec."""
        policy = self.config.codec
        if policy == "both":
            grey = real.pixels.shape[2] == 1
            return replace(real, jpeg=standard_coding(self.config.quality, grey=grey)), "jpeg"
        if policy == "match" and real.codec in LOADABLE and not real.converted:
            return real, real.codec
        return real, _ANEW.get(policy, "png")

    def _pair(self, one: Prepared, fake: bytes, fake_codec: str, like: Picture) -> Pair:
        if one.data is not None:
            real_codec, real = one.picture.codec, one.data
        else:
            real_codec = _ANEW.get(self.config.codec, "png")
            real = _compressed(one.picture.pixels, like, real_codec)
        record = self._record(one, like) | {"real_codec": real_codec, "fake_codec": fake_codec}
        return Pair(
            key=one.key, real=real, real_codec=real_codec, fake=fake, fake_codec=fake_codec, record=record
        )

    def _record(self, one: Prepared, like: Picture) -> dict[str, Any]:
        picture, item = one.picture, one.item
        y, x = item.tile or (None, None)
        height, width, channels = picture.pixels.shape
        columns = {
            "path": printable(item.path),
            "tile_y": y,
            "tile_x": x,
            "group": printable(item.group),
            "width": width,
            "height": height,
            "channels": channels,
            "orientation": picture.orientation,
            "converted": picture.converted,
            "codec_policy": self.config.codec,
        }
        return columns | jpeg_columns(like.jpeg) | self.provenances[item.autoencoder]


def _compressed(pixels: Pixels, like: Picture, codec: str) -> bytes:
    try:
        return encode(pixels, like, codec)
    except RejectedImageError:
        raise
    except (OSError, ValueError) as error:  # a side beyond the codec's limit
        raise RejectedImageError(f"can't be stored as {codec}: {error}") from error


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
