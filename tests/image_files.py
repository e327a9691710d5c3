"""Image files of kinds that Pillow reads but doesn't write, made by hand."""

import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Samples = NDArray[Any]

_TYPES = {3: "H", 4: "I"}  # of TIFF fields


def file_of(image: Image.Image, codec: str, **options: Any) -> bytes:
    out = BytesIO()
    image.save(out, codec, **options)
    return out.getvalue()


def packed(samples: Samples, bits: int, order: str = ">") -> bytes:
    """The rows of (H, W[, C]) samples, each filled up to whole bytes; `order` is for 16 bits and more."""
    if samples.dtype.kind != "u" or bits >= 16:
        return samples.astype(samples.dtype.newbyteorder(order)).tobytes()
    rows = samples.reshape(len(samples), -1).astype(">u2").view(np.uint8).reshape(len(samples), -1, 2)
    every_bit = np.unpackbits(rows, axis=2)[..., 16 - bits :].reshape(len(samples), -1)
    return np.packbits(every_bit, axis=1).tobytes()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(samples: Samples, depth: int, colour: int, *chunks: bytes) -> bytes:
    """A PNG of unsigned samples (H, W[, C]); `colour` is its colour type."""
    rows = packed(samples, depth)
    row = len(rows) // len(samples)
    lines = b"".join(b"\0" + rows[start : start + row] for start in range(0, len(rows), row))
    header = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], depth, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff(samples: Samples, *, photometric: int, bits: int, order: str = "<", **more: Any) -> bytes:
    """A TIFF of one strip (one a plane, if they are separate).

    Args:
        samples: (H, W[, C]).
        photometric: 0 white is zero, 1 grey, 2 RGB, 3 palette, 5 CMYK, 6 YCbCr, 8 L*a*b*.
        bits: of a sample.
        order: ``<`` or ``>``.
        more: ``extra`` samples, sample ``form`` (1 unsigned, 2 signed, 3 float), ``fill`` (2: bits from the
            right), ``planes`` (2: separate), ``deflate`` (compressed), ``tags`` by number.
    """
    count = samples.shape[2] if samples.ndim == 3 else 1
    separate = more.get("planes") == 2 and count > 1
    strips = [packed(one, bits, order) for one in (np.moveaxis(samples, 2, 0) if separate else [samples])]
    if more.get("deflate"):
        strips = [zlib.compress(strip) for strip in strips]
    if more.get("fill") == 2:
        strips = [bytes(int(f"{byte:08b}"[::-1], 2) for byte in strip) for strip in strips]
    fields: dict[int, tuple[int, tuple[int, ...]]] = {
        256: (3, (samples.shape[1],)),
        257: (3, (samples.shape[0],)),
        258: (3, (bits,) * count),
        259: (3, (8 if more.get("deflate") else 1,)),
        262: (3, (photometric,)),
        266: (3, (more.get("fill", 1),)),
        273: (4, (0,) * len(strips)),  # where the strips are; filled in below
        277: (3, (count,)),
        278: (3, (samples.shape[0],)),
        279: (4, tuple(map(len, strips))),
        284: (3, (more.get("planes", 1),)),
        339: (3, (more.get("form", 1),) * count),
    }
    if more.get("extra"):
        fields[338] = (3, more["extra"])
    fields |= {number: (3, values) for number, values in more.get("tags", {}).items()}
    return _tiff_of(fields, strips, order)


def _tiff_of(fields: dict[int, tuple[int, tuple[int, ...]]], strips: list[bytes], order: str) -> bytes:
    sizes = {number: struct.calcsize(_TYPES[kind]) * len(values) for number, (kind, values) in fields.items()}
    start = 8 + 2 + 12 * len(fields) + 4  # of the values that don't fit into their entry
    strip = start + sum(size for size in sizes.values() if size > 4)
    places = [strip + sum(map(len, strips[:number])) for number in range(len(strips))]
    fields = fields | {273: (4, tuple(places))}
    entries, values = b"", b""
    for number, (kind, numbers) in sorted(fields.items()):
        content = struct.pack(f"{order}{len(numbers)}{_TYPES[kind]}", *numbers)
        if len(content) > 4:
            place, values = struct.pack(f"{order}I", start + len(values)), values + content
        else:
            place = content.ljust(4, b"\0")
        entries += struct.pack(f"{order}HHI", number, kind, len(numbers)) + place
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(fields))
    return head + entries + bytes(4) + values + b"".join(strips)
