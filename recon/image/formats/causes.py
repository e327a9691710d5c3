"""Tells why a file can't be read where Pillow's own words would mislead."""

from contextlib import suppress
from io import BytesIO

from PIL import Image, PngImagePlugin, TiffImagePlugin

from recon.image.formats.segments import segments

_PNG = b"\x89PNG\r\n\x1a\n"
_HEADER_END = 33  # bytes of a PNG's signature and of its first chunk, the header
_COMPRESSION = 259  # number of the TIFF tag
# Compressions of TIFF that Pillow doesn't know, and those that its libtiff may have been built without.
_UNKNOWN = {34712: "JPEG 2000", 34887: "LERC", 34892: "lossy JPEG", 50002: "JPEG XL"}
_OPTIONAL = ("webp", "zstd", "lzma")
_LOSSLESS_JPEG = (0xC3, 0xC7, 0xCB, 0xCF)  # markers SOF3, SOF7, SOF11, SOF15
_JPEG_LS = 0xF7  # marker SOF55
_NO_FRAME = (0xC4, 0xC8, 0xCC)  # markers in the range of the frames' that begin no frame


def cause_of(data: bytes) -> str | None:
    """The cause why Pillow can't read a file; None if Pillow's own words will do.

    Args:
        data: an image file that Pillow could not open or not decode.
    """
    if data.startswith(_PNG):
        return _damaged_metadata(data)
    if data.startswith((b"II*\0", b"MM\0*")):
        return _tiff_compression(data)
    return odd_jpeg(data) if data.startswith(b"\xff\xd8") else None


def odd_jpeg(data: bytes) -> str | None:
    """The cause if a JPEG is of a kind that has no quantisation tables, such as lossless JPEG; else None."""
    frame = _jpeg_frame(data)
    if frame == _JPEG_LS or frame in _LOSSLESS_JPEG:
        kind = "JPEG-LS" if frame == _JPEG_LS else "lossless JPEG"
        return f"{kind}, which has no quantisation tables that a reconstruction could repeat; save it as PNG"
    return None


def _jpeg_frame(data: bytes) -> int | None:
    """The marker of a JPEG's frame, which tells its kind."""
    markers = (marker for marker, *_ in segments(data))
    return next(filter(_begins_frame, markers), None)


def _begins_frame(marker: int) -> bool:
    return marker == _JPEG_LS or (0xC0 <= marker <= 0xCF and marker not in _NO_FRAME)


def _damaged_metadata(data: bytes) -> str | None:
    """The cause if Pillow can't read one of a PNG's metadata chunks, which the pixels don't need."""
    place = _HEADER_END
    while place + 12 <= len(data):
        kind, end = data[place + 4 : place + 8], place + 12 + int.from_bytes(data[place : place + 4], "big")
        # A chunk in small letters is metadata, apart from tRNS, which makes pixels transparent.
        if kind[:1].islower() and kind != b"tRNS" and end <= len(data) and not _is_read(data[place:end]):
            name = kind.decode("ascii", "replace")
            return f"damaged {name} chunk, which is metadata and not pixels; save the image without metadata"
        place = end
    return None


def _is_read(chunk: bytes) -> bool:
    """Whether Pillow reads a PNG of one pixel that has this chunk before its pixel."""
    out = BytesIO()
    Image.new("L", (1, 1)).save(out, "PNG")
    data = out.getvalue()
    try:
        with PngImagePlugin.PngImageFile(BytesIO(data[:_HEADER_END] + chunk + data[_HEADER_END:])) as image:
            image.load()
    except Exception:
        return False
    return True


def _tiff_compression(data: bytes) -> str | None:
    """The cause if a TIFF is compressed in a way that Pillow can't decode."""
    number = _first_tag(data, _COMPRESSION)
    name = _UNKNOWN.get(number)
    known = TiffImagePlugin.COMPRESSION_INFO.get(number)
    if known in _OPTIONAL and not _is_decoded(known):
        name = {"webp": "WebP"}.get(known, known)
    return name and f"{name} in TIFF, which the installed Pillow can't decode; save it as PNG"


def _first_tag(data: bytes, tag: int) -> int:
    """The value of a tag of a TIFF's first image; 0 if it has none."""
    # The many exceptions of a broken file, which has another cause then.
    with suppress(Exception):
        directory = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
        file = BytesIO(data)
        file.seek(directory.next)
        directory.load(file)
        return int(directory.get(tag, 0))
    return 0


def _is_decoded(compression: str) -> bool:
    try:
        # libtiff has both directions of a compression or none.
        Image.new("RGB", (8, 8)).save(BytesIO(), "TIFF", compression=compression)
    except OSError:
        return False
    return True
