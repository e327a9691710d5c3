"""Each kind of pixels that Pillow opens has one rule to 8-bit RGB, or is refused with its cause."""

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from image_files import Samples, chunk, file_of, packed, png, tiff
from PIL import Image, PngImagePlugin, TiffImagePlugin

from recon.base.errors import RejectedImageError
from recon.image.codec import Pixels, decode, decode_rgb
from recon.image.header import read_header
from recon.image.modes import kind_of

MAX = 10_000
SHAPE = (6, 9)
RNG = np.random.default_rng(0)
WHITE_IS_ZERO, GREY, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8  # photometric, of TIFF


def drawn(bits: int, channels: int = 1) -> Samples:
    """Random samples, all values of a depth alike; (6, 9) or (6, 9, channels)."""
    shape = SHAPE if channels == 1 else (*SHAPE, channels)
    kind = np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32
    return RNG.integers(0, 2**bits, shape, dtype=np.uint64).astype(kind)


def converted(data: bytes) -> Pixels:
    """The pixels by every way to read a file, which must be equal; plain files must need no --convert."""
    picture = decode(data, max_pixels=MAX, convert=True)
    assert np.array_equal(
        picture.pixels if picture.pixels.shape[2] == 3 else grey(picture.pixels), decode_rgb(data)
    )
    assert read_header(data, max_pixels=MAX).odd_mode == picture.converted
    assert read_header(data, max_pixels=MAX).channels == picture.pixels.shape[2]
    if picture.converted is None:
        assert np.array_equal(decode(data, max_pixels=MAX).pixels, picture.pixels)
    else:
        with pytest.raises(
            RejectedImageError, match=f"^{picture.converted} image, expected 8-bit RGB or grey"
        ):
            decode(data, max_pixels=MAX)
    return decode_rgb(data)


def grey(level: Samples) -> Samples:
    return np.repeat(level.reshape(*SHAPE, 1), 3, axis=2)


def cause(data: bytes) -> str:
    """Why a file is refused, with and without --convert, and by training."""
    texts = set()
    for read in (
        lambda: decode(data, max_pixels=MAX),
        lambda: decode(data, max_pixels=MAX, convert=True),
        lambda: decode_rgb(data),
    ):
        with pytest.raises(RejectedImageError) as error:
            read()
        texts.add(str(error.value))
    [text] = texts
    return text


def over_white(colours: Samples, alpha: Samples, *, premultiplied: bool = False) -> Samples:
    """Shares 0..1 of light over white."""
    return (colours if premultiplied else colours * alpha) + (1 - alpha)


def light_of(photometric: int, shares: Samples) -> Samples:
    """Shares 0..1 of the colours of a TIFF as shares of red, green and blue, by the standards' formulas."""
    if photometric in (WHITE_IS_ZERO, GREY, RGB):
        return 1 - shares if photometric == WHITE_IS_ZERO else shares
    if photometric == CMYK:
        return (1 - shares[..., :3]) * (1 - shares[..., 3:])
    assert photometric == YCBCR
    luma, blue, red = np.moveaxis(shares * 255, 2, 0)
    blue, red = blue - 128, red - 128
    out = [luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue]
    return (np.stack(out, -1) / 255).clip(0, 1)


UNDECODABLE = {  # layouts for which Pillow has a name and no decoder: (its name for them, deflate)
    ("L;IR", False),
    ("L", True),  # grey that calls itself YCbCr
}


def refusal(photometric: int, bits: int, form: int) -> str | None:
    if form == 2:
        return "signed TIFF"
    if bits > 8 and photometric == WHITE_IS_ZERO:
        return f"{bits}-bit TIFF whose white is 0"
    return {1: "32-bit", 3: "float"}[form] if bits == 32 else None


def each_tiff() -> dict[str, tuple[Any, ...]]:
    """Every layout of a TIFF that Pillow opens; of palettes and L*a*b*, which other tests have, none."""
    return {
        f"{key[0].decode()} {key[1:]} {rawmode}": key
        for key, (_, rawmode) in TiffImagePlugin.OPEN_INFO.items()
        if key[1] not in (PALETTE, LAB)
    }


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("layout", each_tiff())
def test_every_tiff_is_converted_by_the_formula_of_its_kind_or_refused(layout: str, deflate: bool) -> None:
    prefix, photometric, (form,), fill, every_bits, extra = each_tiff()[layout]
    bits = every_bits[0]
    colours = {RGB: 3, CMYK: 4, YCBCR: len(every_bits)}.get(photometric, 1)
    samples = drawn(bits, len(every_bits))
    premultiplied = extra[:1] == (1,)
    if premultiplied:
        samples[..., :colours] = np.minimum(samples[..., :colours], samples[..., colours : colours + 1])
    if bits == 32:
        samples = RNG.uniform(0, 1, SHAPE).astype(np.float32) if form == 3 else samples
    options = {"extra": extra, "form": form, "fill": fill, "deflate": deflate}
    if photometric == YCBCR:
        options["tags"] = {530: (1, 1)}
    data = tiff(samples, photometric=photometric, bits=bits, order="<" if prefix == b"II" else ">", **options)
    if (layout.split()[-1], deflate) in UNDECODABLE and photometric in (WHITE_IS_ZERO, YCBCR):
        with pytest.raises(RejectedImageError, match="broken or truncated tiff"):
            decode(data, max_pixels=MAX)
        return
    if refused := refusal(photometric, bits, form):
        assert cause(data).startswith(f"{refused} image: ")
        return
    shares = samples.reshape(*SHAPE, -1) / (2**bits - 1)
    light = light_of(
        photometric if len(every_bits) > 1 or photometric != YCBCR else GREY, shares[..., :colours]
    )
    has_alpha = bool(extra and extra[0]) or (photometric == RGB and len(every_bits) == 4 and not extra)
    if has_alpha:
        light = over_white(light, shares[..., colours : colours + 1], premultiplied=premultiplied)
    exact = photometric in (WHITE_IS_ZERO, GREY, RGB) and (bits > 8 or not has_alpha)
    off = np.abs(converted(data) - light * 255).max()
    assert off <= (0.51 if exact else 1.6), layout  # Pillow's 8-bit arithmetic of alpha and CMYK rounds twice


def each_png() -> list[tuple[int, int]]:
    return [key for key in PngImagePlugin._MODES if key[1] != 3]


@pytest.mark.parametrize(("depth", "colour"), each_png())
def test_every_png_is_converted_by_the_formula_of_its_kind(depth: int, colour: int) -> None:
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    samples = drawn(depth, channels)
    shares = samples.reshape(*SHAPE, channels) / (2**depth - 1)
    light = over_white(shares[..., :-1], shares[..., -1:]) if colour in (4, 6) else shares
    off = np.abs(converted(png(samples, depth, colour)) - light * 255).max()
    assert off <= (1.0 if colour in (4, 6) and depth == 8 else 0.51)


@pytest.mark.parametrize(("depth", "colour"), [key for key in each_png() if key[1] in (0, 2)])
def test_the_transparent_colour_of_a_png_is_white(depth: int, colour: int) -> None:
    samples = drawn(depth, {0: 1, 2: 3}[colour])
    key = np.atleast_1d(samples[2, 3])
    data = png(samples, depth, colour, chunk(b"tRNS", key.astype(">u2").tobytes()))
    if depth == 16:
        assert cause(data).startswith("16-bit image: with one colour transparent")
        return
    clear = (samples.reshape(*SHAPE, -1) == key).all(-1)
    opaque = converted(png(samples, depth, colour))
    assert np.array_equal(converted(data), np.where(clear[..., None], 255, opaque))


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("transparent", [False, True])
def test_a_palette_is_looked_up_and_its_transparent_entries_are_laid_over_white(
    depth: int, transparent: bool
) -> None:
    indices, palette = drawn(depth), RNG.integers(0, 256, (2**depth, 3), dtype=np.uint8)
    alpha = RNG.integers(0, 256, 2**depth, dtype=np.uint8) if transparent else np.full(2**depth, 255)
    chunks = [chunk(b"PLTE", palette.tobytes())]
    chunks += [chunk(b"tRNS", alpha.astype(np.uint8).tobytes())] if transparent else []
    light = over_white(palette / 255, alpha[:, None] / 255)[indices]
    assert np.abs(converted(png(indices, depth, 3, *chunks)) - light * 255).max() <= 1
    table = {320: tuple((palette.T.astype(int) * 257).ravel().tolist())}
    for order in "<>":
        data = tiff(indices, photometric=PALETTE, bits=depth, order=order, tags=table)
        assert np.array_equal(converted(data), palette[indices])


def test_a_palette_with_a_channel_of_alpha_is_laid_over_white() -> None:
    samples, palette = drawn(8, 2), RNG.integers(0, 256, (256, 3), dtype=np.uint8)
    table = {320: tuple((palette.T.astype(int) * 257).ravel().tolist())}
    data = tiff(samples, photometric=PALETTE, bits=8, extra=(2,), tags=table)
    light = over_white(palette[samples[..., 0]] / 255, samples[..., 1:] / 255)
    assert np.abs(converted(data) - light * 255).max() <= 1


@pytest.mark.parametrize("top", [1, 100, 255, 256, 1000, 4095, 65535])
@pytest.mark.parametrize("kind", ["P2", "P3", "P5", "P6"])
def test_a_ppm_is_scaled_by_the_largest_value_that_it_states(kind: str, top: int) -> None:
    samples = RNG.integers(0, top + 1, (*SHAPE, 1 if kind in ("P2", "P5") else 3))
    head = f"{kind} {SHAPE[1]} {SHAPE[0]} {top}\n".encode()
    binary = samples.astype(">u2" if top > 255 else "u1").tobytes()
    body = binary if kind in ("P5", "P6") else " ".join(map(str, samples.ravel())).encode()
    # Grey of more than 8 bits is scaled to 16 first, so it is rounded twice.
    assert np.abs(converted(head + body) - samples / top * 255).max() <= 0.51
    name = read_header(head + body, max_pixels=MAX).odd_mode
    assert name == ("16-bit" if top > 255 else None)


def test_bits_of_a_pbm_are_black_and_white() -> None:
    bits = drawn(1)
    head = f"P4 {SHAPE[1]} {SHAPE[0]}\n".encode()
    assert np.array_equal(converted(head + packed(bits, 1)), grey(255 - 255 * bits))


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "float grey PFM": (
        lambda: b"Pf 2 2\n-1.0\n" + bytes(16),
        "float image: which values are black and white",
    ),
    "L*a*b*": (
        lambda: tiff(drawn(8, 3), photometric=LAB, bits=8),
        "LAB image: Pillow's conversion is coarse",
    ),
    "32-bit": (lambda: tiff(drawn(32), photometric=GREY, bits=32), "32-bit image: which values are black"),
    "12 bits in 16-bit grey": (
        lambda: file_of(Image.fromarray(np.full((2, 2), 4000, np.uint16)), "PNG"),
        "16-bit image: its largest value is 4000, expected at least 16384; it may use fewer bits than 16",
    ),
    "14 bits in 16-bit colour": (
        lambda: png(drawn(14, 3), 16, 2),
        "expected at least 16384; it may use fewer bits than 16, and then white is unknown",
    ),
    "14 bits under alpha of 16": (
        lambda: png(np.dstack([drawn(14), np.full(SHAPE, 65535, np.uint16)]), 16, 4),
        "expected at least 16384",
    ),
    "separate planes of 16 bits": (
        lambda: tiff(drawn(16, 3), photometric=RGB, bits=16, planes=2),
        "16-bit TIFF of separate planes image: Pillow reads other values than it holds",
    ),
    "separate planes of 16 bits, compressed": (
        lambda: tiff(drawn(16, 3), photometric=RGB, bits=16, planes=2, deflate=True),
        "16-bit TIFF of separate planes image",
    ),
    "one plane of 4 bits": (
        lambda: tiff(drawn(4), photometric=GREY, bits=4, planes=2),
        "4-bit TIFF of separate planes image",
    ),
    "subsampled YCbCr": (
        lambda: tiff(drawn(8, 3), photometric=YCBCR, bits=8),
        "uncompressed TIFF of subsampled YCbCr image",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_has_no_sane_rule_is_refused_with_its_cause_also_under_convert(kind: str) -> None:
    make, expected = REFUSED[kind]
    data = make()
    with pytest.raises(RejectedImageError) as error:
        decode(data, max_pixels=MAX, convert=True)
    assert expected in str(error.value)
    with pytest.raises(RejectedImageError):
        decode(data, max_pixels=MAX)
    with pytest.raises(RejectedImageError):
        decode_rgb(data)


@pytest.mark.parametrize(
    "mode", [*Image.MODES, "La", "LA", "PA", "RGBa", "RGBX", "LAB", "HSV", "I;16", "I;16B"]
)
def test_every_mode_of_pillow_is_plain_or_has_a_rule_or_a_cause(mode: str) -> None:
    kind = kind_of(Image.new(mode, (2, 2)))
    assert (kind is None) == (mode in ("L", "RGB"))
    if kind is not None and kind.convert is None:
        assert "; save it" in kind.cause or "; scale it and save it" in kind.cause


def test_separate_planes_of_8_bits_are_plain() -> None:
    samples = drawn(8, 3)
    assert np.array_equal(converted(tiff(samples, photometric=RGB, bits=8, planes=2)), samples)


def test_bmp_of_5_bits_a_colour_is_plain() -> None:
    rows = b"".join(struct.pack("<4H", *row) for row in np.full((4, 4), 0x7C1F))  # 31 red, 0 green, 31 blue
    info = struct.pack("<IiiHHIIiiII", 40, 4, 4, 1, 16, 0, len(rows), 0, 0, 0, 0)
    data = b"BM" + struct.pack("<IHHI", 54 + len(rows), 0, 0, 54) + info + rows
    assert decode(data, max_pixels=MAX).pixels.tolist() == [[[255, 0, 255]] * 4] * 4


def test_opaque_alpha_changes_no_colour() -> None:
    samples = drawn(8, 4)
    samples[..., 3] = 255
    for codec, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})):
        assert np.array_equal(
            converted(file_of(Image.fromarray(samples), codec, **options)), samples[..., :3]
        )
