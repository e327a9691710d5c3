"""Tells why a file can't be read where Pillow's own words would mislead."""

from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO

from PIL import Image, PngImagePlugin, TiffImagePlugin

from recon.image.formats.segments import segments

_PNG = b"\x89PNG\r\n\x1a\n"
_HEADER_END = 33  # bytes of a PNG's signature and of its first chunk, the header
# What Pillow's errors name, and its limits, which bound what a small file can grow to.
_LIMIT, _LIMITS = "PngImagePlugin.MAX_TEXT_CHUNK", "MAX_TEXT_MEMORY"
_LARGEST = f"Pillow takes (over {PngImagePlugin.MAX_TEXT_CHUNK} bytes decompressed)"
_LARGEST_SUM = f"Pillow takes (over {PngImagePlugin.MAX_TEXT_MEMORY} bytes)"
_WITHOUT = "save the image without metadata"
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
        return _unread_metadata(data)
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


def _unread_metadata(data: bytes) -> str | None:
    """The cause if Pillow can't read a PNG's metadata chunks, which the pixels don't need."""
    chunks = list(_metadata(data))
    for name, chunk in chunks:
        if error := _error_of(chunk):
            cause = f"{name} chunk larger than {_LARGEST}" if _LIMIT in error else f"damaged {name} chunk"
            return f"{cause}, which is metadata and not pixels; {_WITHOUT}"
    # All together may exceed Pillow's other limit.
    if chunks and _LIMITS in (_error_of(b"".join(chunk for _, chunk in chunks)) or ""):
        return f"texts larger than {_LARGEST_SUM} together, which are metadata and not pixels; {_WITHOUT}"
    return None


def _metadata(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yields name and bytes of each whole metadata chunk of a PNG."""
    place = _HEADER_END
    while place + 12 <= len(data):
        kind, end = data[place + 4 : place + 8], place + 12 + int.from_bytes(data[place : place + 4], "big")
        # A chunk in small letters is metadata, apart from tRNS, which makes pixels transparent.
        if kind[:1].islower() and kind != b"tRNS" and end <= len(data):
            yield kind.decode("ascii", "replace"), data[place:end]
        place = end


def _error_of(chunks: bytes) -> str | None:
    """What Pillow says of a PNG of one pixel that has these chunks before its pixel; None if it reads it."""
    out = BytesIO()
    Image.new("L", (1, 1)).save(out, "PNG")
    data = out.getvalue()
    try:
        with PngImagePlugin.PngImageFile(BytesIO(data[:_HEADER_END] + chunks + data[_HEADER_END:])) as image:
            image.load()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


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
