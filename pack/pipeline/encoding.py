"""The second half of an item's way to a pair: compress the images and describe the pair.

`pack/pipeline/decoding.py` is the first half. Between the two an autoencoder makes the reconstruction,
if the source doesn't bring it.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pack.base.config import PackConfig
from pack.base.names import printable
from pack.pipeline.decoding import LOSSY_FAKE, Prepared, Rejection
from pack.shard.pair import Fake, Pair, hint_of, jpeg_columns
from pack.shard.schema import MAKER
from recon.base.errors import RejectedImageError
from recon.image.codec import LOADABLE, LOSSY_WEBP, Picture, Pixels, encode, with_look_of
from recon.image.jpeg import standard_coding
from recon.image.opened import LOSSY_ONCE


class Encoder:
    """Compresses and describes pairs under one set of options.

    Args:
        config: the options of packing.
        provenances: for each maker its id, revision, weights and arithmetic, for the records.
    """

    def __init__(self, config: PackConfig, provenances: Sequence[dict[str, Any]]) -> None:
        self.config = config
        self.provenances = provenances

    def finish(self, one: Prepared, fakes: Sequence[Pixels]) -> Pair | Rejection:
        """Compresses the images that have no stored bytes yet, and describes the pair.

        Args:
            one: a prepared item.
            fakes: its reconstructions, (H, W, C) uint8; none if the item brings its own.
        """
        try:
            return self._encoded(one, *fakes) if fakes else self._given(one)
        except RejectedImageError as error:
            return Rejection.of(one.item, error)

    def _given(self, one: Prepared) -> Pair:
        """The pair of an item with a given reconstruction; keeps its bytes if the codec policy allows that.

        A lossy file that is not coded like its real image is rejected. Compressing it again would not
        remove the traces of its first coding, and a detector would learn these. Any reconstruction gets the
        orientation and profile of its real image.
        """
        assert one.fake is not None
        fake, policy = one.fake, self.config.codec
        alike = _coded_alike(fake, one.picture)
        loadable = fake.codec in LOADABLE and fake.converted is None
        if loadable and policy != "both" and (policy == "keep" or (alike and _look_alike(fake, one.picture))):
            return self._pair(one, one.fake_data, fake.codec, one.picture, fake.pixels)
        if alike and fake.codec == "jpeg" and policy != "both":
            data = with_look_of(one.fake_data, one.picture)
            return self._pair(one, data, "jpeg", one.picture, fake.pixels)
        if fake.converted in LOSSY_ONCE and policy != "keep":
            raise RejectedImageError(LOSSY_FAKE.format(f"lossy {fake.codec}"))
        if fake.codec == "jpeg" and policy != "keep" and not alike:
            raise RejectedImageError(LOSSY_FAKE.format("JPEG coded unlike its real image"))
        if fake.codec != "jpeg" and policy != "keep" and fake.lossy:
            raise RejectedImageError(LOSSY_FAKE.format(fake.lossy))
        return self._encoded(one, fake.pixels)

    def _encoded(self, one: Prepared, fake: Pixels, *further: Pixels) -> Pair:
        like, codec = self._coding(one.picture)
        pair = self._pair(one, _compressed(fake, like, codec), codec, like, _stored(fake, codec))
        for which, pixels in zip(one.item.more, further, strict=True):
            data = _compressed(pixels, like, codec)
            more = Fake(data=data, codec=codec, maker=self._maker(which))
            hint = hint_of(data, _stored(pixels, codec))
            pair = replace(pair, more=(*pair.more, more), hints=(*pair.hints, hint))
        return pair

    def _maker(self, which: int) -> dict[str, Any]:
        return {name: self.provenances[which].get(name) for name in MAKER}

    def _coding(self, real: Picture) -> tuple[Picture, str]:
        """The picture whose coding a reconstruction must repeat, and the codec."""
        policy = self.config.codec
        if policy == "both":
            # Both images become JPEGs of one fixed coding, so the coding says nothing about the class.
            grey = real.pixels.shape[2] == 1
            return replace(real, jpeg=standard_coding(self.config.quality, grey=grey)), "jpeg"
        if policy == "match" and real.codec in LOADABLE and not real.converted:
            return real, real.codec
        return real, self.config.new_codec

    def _pair(
        self, one: Prepared, fake: bytes, fake_codec: str, like: Picture, fake_pixels: Pixels | None
    ) -> Pair:
        """The pair of an item; `fake_pixels` is what `fake` decodes to, None if that is not known."""
        real_pixels: Pixels | None = one.picture.pixels
        if one.data is not None:  # the real file is stored byte for byte
            real_codec, real = one.picture.codec, one.data
        else:
            real_codec = self.config.new_codec
            real = _compressed(one.picture.pixels, like, real_codec)
            real_pixels = _stored(one.picture.pixels, real_codec)
        # A PNG made of a JPEG, which has a coding too, isn't described by that.
        coding = like.jpeg if real_codec == "jpeg" else None
        record = self._record(one) | jpeg_columns(coding)
        record |= {"real_codec": real_codec, "fake_codec": fake_codec}
        return Pair(
            key=one.key,
            real=real,
            real_codec=real_codec,
            fake=fake,
            fake_codec=fake_codec,
            record=record,
            mask=one.mask,
            hints=(hint_of(real, real_pixels), hint_of(fake, fake_pixels)),
            traces=self._traces(one),
        )

    def _traces(self, one: Prepared) -> str | None:
        """See `Pair.traces`; what `converted` says in the index is not said again."""
        lossy = one.picture.lossy
        alike = one.fake is not None and self.config.codec == "keep" and one.fake.lossy == lossy
        return lossy if lossy == LOSSY_WEBP and self.config.codec != "both" and not alike else None

    def _record(self, one: Prepared) -> dict[str, Any]:
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
            "jpeg_phase": one.jpeg_phase,
            "codec_policy": self.config.codec,
        }
        return columns | self.provenances[item.autoencoder]


def _compressed(pixels: Pixels, like: Picture, codec: str) -> bytes:
    try:
        return encode(pixels, like, codec)
    except RejectedImageError:
        raise  # it is a ValueError too, and its text says enough
    except (OSError, ValueError) as error:  # e.g. a side longer than the codec allows
        raise RejectedImageError(f"can't be stored as {codec}: {error}") from error


def _stored(pixels: Pixels, codec: str) -> Pixels | None:
    """What pixels are after they were stored, where no decoding is needed to know it."""
    return None if codec == "jpeg" else pixels


def _coded_alike(fake: Picture, real: Picture) -> bool:
    """Whether both images of a pair were compressed in the same way, so the files do not reveal the class."""
    if fake.converted or real.converted:
        return False
    if fake.codec == "jpeg":
        return fake.jpeg == real.jpeg  # a real image that is no JPEG has None here, which equals no coding
    # Only PNG is left: how a WebP file was compressed is not known, so two of them can't be compared.
    return fake.codec == real.codec == "png"


def _look_alike(fake: Picture, real: Picture) -> bool:
    """Whether a reader that follows EXIF orientations and ICC profiles treats both images alike."""
    return (fake.orientation, fake.icc) == (real.orientation, real.icc)
