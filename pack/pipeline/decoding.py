"""The first half of an item's way to a pair: read the file, decode it, cut out a tile.

`pack/pipeline/encoding.py` is the second half. Both are functions of the item and the options alone, so
a pair has the same bytes whenever and wherever it is made. An image that can't become a pair becomes a
`Rejection`. Several threads call these steps at once (pack/pipeline/pipeline.py), so they keep no state.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pack.base.config import PackConfig
from pack.base.items import File, Item
from pack.base.names import make_key, printable
from recon.base.errors import RejectedImageError
from recon.base.rejections import CONVERT_BOTH
from recon.image.codec import LOADABLE, Picture, decode
from recon.image.jpeg_grid import jpeg_phase
from recon.image.modes import UnconvertedError

LOSSY_FAKE = "reconstruction is a {}, which gives it away; make it losslessly or pack with --codec keep"
"""Why a reconstruction that was compressed with loss is rejected, and unlike its real image."""

Admit = Callable[[int], None]
"""Called with the number of bytes that will be decoded next; returns when the buffer has room for them."""


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """An item that did not become a pair."""

    path: str
    tile: tuple[int, int] | None
    cause: str

    @classmethod
    def of(cls, item: Item, error: RejectedImageError) -> "Rejection":
        """The rejection of an item, with the error's text as its cause."""
        return cls(path=printable(item.path), tile=item.tile, cause=str(error))


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A decoded item, ready for the autoencoder."""

    item: Item
    key: str
    picture: Picture
    data: bytes | None
    """The source file's bytes if the shard stores them unchanged, else None."""
    jpeg_phase: int
    """See `pack.shard.schema.INDEX_SCHEMA`."""
    fake: Picture | None = None
    """The decoded reconstruction, if the source brings one."""
    fake_data: bytes = b""
    mask: bytes | None = None
    """The file of its mask, a grey PNG of the same size."""

    @property
    def size(self) -> int:
        """Approximate number of bytes held in memory."""
        ready = 0 if self.fake is None else self.fake.pixels.nbytes + len(self.fake_data)
        return self.picture.pixels.nbytes + len(self.data or b"") + ready


class Decoder:
    """Reads and decodes items under one set of options.

    Args:
        config: the options of packing.
    """

    def __init__(self, config: PackConfig) -> None:
        self.config = config

    def open(self, items: Sequence[Item], admit: Admit) -> Iterator[Prepared | Rejection]:
        """Reads and decodes one photograph once, then yields its items, each cut out when it is asked for.

        Args:
            items: all items of one file: its tiles, or the whole image once for each autoencoder.
            admit: called before anything is decoded.

        Raises:
            UserError: storage fails.
        """
        try:
            data = items[0].real.read()
            picture = self._real(data, admit)
        except RejectedImageError as error:
            return iter([Rejection.of(item, error) for item in items])
        prepared = (self._prepare(item, data, picture, admit) for item in items)
        # Given reconstructions are files too. The list reads them here, on this decoding thread; the
        # generator would read them on the autoencoder's thread. A generator suits tiles: they are cheap
        # to cut, and all tiles of a large photograph would need much memory at once.
        return prepared if items[0].fake is None else iter(list(prepared))

    def _real(self, data: bytes, admit: Admit) -> Picture:
        try:
            return self._decode(data, admit)
        except UnconvertedError as error:
            if self.config.require_jpeg_free and error.lossy == "JPEG":
                raise _not_jpeg_free("a JPEG") from error
            if not error.lossy or self.config.tile or self.config.codec in ("both", "keep"):
                raise
            # Both things at once: the next run would find out by `_check_traces`.
            raise RejectedImageError(
                f"{error.kind} {error.lossy} image, expected 8-bit RGB or grey; {CONVERT_BOTH}, which "
                "compresses both images, as the real image alone would have the traces of its compression"
            ) from error

    def _decode(self, data: bytes, admit: Admit) -> Picture:
        def on_size(height: int, width: int) -> None:
            admit(3 * height * width + len(data))  # an upper bound: a grey image takes a third

        config = self.config
        return decode(data, max_pixels=config.max_pixels, convert=config.convert, on_size=on_size)

    def _prepare(self, item: Item, data: bytes, picture: Picture, admit: Admit) -> Prepared | Rejection:
        try:
            self._check_size(item, picture)
            key = make_key(item.path, item.tile, item.variant)
            shown = picture if item.tile is None else self._cut(picture, item.tile)
            phase = self._jpeg_phase(picture, shown)
            if item.tile is not None:
                return Prepared(item=item, key=key, picture=shown, data=None, jpeg_phase=phase)
            untouched = picture.codec in LOADABLE and not picture.converted and self.config.codec != "both"
            if not untouched:
                self._check_traces(picture)
            kept = data if untouched else None
            one = Prepared(item=item, key=key, picture=picture, data=kept, jpeg_phase=phase)
            return one if item.fake is None else self._with_fake(one, item.fake, admit)
        except RejectedImageError as error:
            return Rejection.of(item, error)

    def _check_size(self, item: Item, picture: Picture) -> None:
        height, width = picture.size
        # The plan cuts every image that is large enough, so an item without a tile was too small.
        if self.config.tile and item.tile is None:
            raise RejectedImageError(f"{width}x{height} is smaller than tile={self.config.tile}")
        if min(height, width) < self.config.min_side:
            raise RejectedImageError(f"{width}x{height} is below min_side={self.config.min_side}")

    def _jpeg_phase(self, file: Picture, shown: Picture) -> int:
        """Where the grid of an earlier compression lies in a file's pixels, or in a tile cut out of them."""
        # A JPEG's own grid begins at its first pixel, and a tile at a multiple of 8.
        phase = 0 if file.codec == "jpeg" else jpeg_phase(shown.pixels)
        if phase >= 0 and self.config.require_jpeg_free:
            once = f"no JPEG now, but was one once (phase {phase})"
            raise _not_jpeg_free("a JPEG" if file.codec == "jpeg" else once)
        return phase

    def _check_traces(self, picture: Picture) -> None:
        if picture.lossy and self.config.codec not in ("both", "keep"):
            name = f"{picture.converted} {picture.lossy}" if picture.converted else picture.lossy
            raise RejectedImageError(
                f"{name}, which is stored without loss: the real image alone would have the traces of its "
                "compression; add --codec both, which compresses both images"
            )

    def _cut(self, picture: Picture, corner: tuple[int, int]) -> Picture:
        assert self.config.tile is not None
        (y, x), side = corner, self.config.tile
        # A copy: a view would keep the whole photograph in memory as long as one of its tiles lives.
        pixels = np.ascontiguousarray(picture.pixels[y : y + side, x : x + side])
        # A tile has no file of its own, so it has no codec and no JPEG coding to repeat.
        return replace(picture, pixels=pixels, codec="png", jpeg=None)

    def _with_fake(self, one: Prepared, file: File, admit: Admit) -> Prepared:
        data = file.read()
        try:
            fake = self._decode(data, admit)
        except UnconvertedError as error:
            if not error.lossy or self.config.codec == "keep":
                raise RejectedImageError(f"reconstruction {file.name}: {error}") from error
            cause = LOSSY_FAKE.format(f"{error.kind} {error.lossy}")
            raise RejectedImageError(f"{cause} --convert true") from error
        except RejectedImageError as error:
            raise RejectedImageError(f"reconstruction {file.name}: {error}") from error
        if fake.pixels.shape != one.picture.pixels.shape:
            expected, found = one.picture.pixels.shape, fake.pixels.shape
            raise RejectedImageError(
                f"reconstruction {file.name} is {_shape(found)}, the real image {_shape(expected)}"
            )
        return replace(one, fake=fake, fake_data=data, mask=self._mask(one, admit))

    def _mask(self, one: Prepared, admit: Admit) -> bytes | None:
        if (file := one.item.mask) is None:
            return None
        data = file.read()
        try:
            mask = self._decode(data, admit)
        except RejectedImageError as error:
            raise RejectedImageError(f"mask {file.name}: {error}") from error
        expected = (*one.picture.size, 1)
        if mask.pixels.shape != expected or mask.codec != "png" or mask.converted:
            found = f"{mask.converted or mask.codec} of {_shape(mask.pixels.shape)}"
            raise RejectedImageError(
                f"mask {file.name} is {found}, expected an 8-bit grey PNG of {_shape(expected)}"
            )
        return data


def _not_jpeg_free(found: str) -> RejectedImageError:
    return RejectedImageError(
        f"is {found}, expected photographs that never were; scale it to half its size and save it "
        "losslessly, or pack without --require_jpeg_free"
    )


def _shape(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]} with {shape[2]} channel{'s' if shape[2] > 1 else ''}"
