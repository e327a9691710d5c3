"""Parts of JPEGs are decoded from entry points to the very pixels of the whole, or not at all."""

from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import simplejpeg
from conftest import photograph
from hypothesis import given, settings
from hypothesis import strategies as st
from jpeg_entries import read_entries
from PIL import Image

from recon.image.codec import decode_rgb
from recon.image.jpeg import JpegCoding
from recon.image.jpeg_write import write_jpeg
from recon.jpeg import entries as module
from recon.jpeg.coefficients import (
    Box,
    Entries,
    UndecodedError,
    coefficients,
    needed_mcus,
    scan_part,
    share,
)
from recon.jpeg.entries import entries_of, open_entries
from recon.jpeg.frame import Frame, bare_header, read_frame
from recon.kernels.pixels import to_rgb
from recon.kernels.varints import MOST_BYTES, read_sums, write_varints

SAMPLINGS = ("4:4:4", "4:2:2", "4:2:0", "4:4:0", "grey")
FACTORS = {"4:4:4": (1, 1), "4:2:2": (1, 2), "4:2:0": (2, 2), "4:4:0": (2, 1), "grey": (1, 1)}


def jpeg(
    height: int, width: int, sampling: str = "4:2:0", quality: int = 90, number: int = 0, **more: Any
) -> bytes:
    """A photograph as a JPEG, by Pillow or, what it can't write, by simplejpeg."""
    pixels = photograph(height, width, number)
    if sampling == "4:4:0":
        return bytes(simplejpeg.encode_jpeg(pixels, quality, colorsubsampling="440"))
    image, out = Image.fromarray(pixels), BytesIO()
    if sampling == "grey":
        image.convert("L").save(out, "JPEG", quality=quality, **more)
    else:
        image.save(out, "JPEG", quality=quality, subsampling=sampling, **more)
    return out.getvalue()


@pytest.fixture(autouse=True, scope="module")
def many_entries() -> Iterator[None]:
    """Small images have several entry points too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BYTES", 40)
        yield


def opened(data: bytes) -> tuple[bytes, Frame, Entries]:
    packed, frame = entries_of(data), read_frame(data)
    assert packed
    assert frame
    entries = read_entries(packed, frame)
    assert entries
    return data, frame, entries


def part_of(pixels: Any, box: Box) -> Any:
    top, left, height, width = box
    return pixels[top : top + height, left : left + width]


@st.composite
def boxes(draw: Any, height: int, width: int) -> Box:
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    return top, left, draw(st.integers(1, height - top)), draw(st.integers(1, width - left))


@given(
    st.data(),
    st.integers(1, 80),
    st.integers(1, 80),
    st.sampled_from(SAMPLINGS),
    st.integers(1, 100),
    st.sampled_from([{}, {"optimize": True}, {"restart_marker_blocks": 3}, {"restart_marker_rows": 1}]),
)
@settings(max_examples=300, deadline=None)
def test_any_part_has_the_pixels_of_the_whole(
    data: st.DataObject, height: int, width: int, sampling: str, quality: int, more: dict[str, Any]
) -> None:
    file = jpeg(height, width, sampling, quality, number=height + width, **more)
    found = opened(file)
    assert (found[1].height, found[1].width) == (height, width)
    assert (found[1].down, found[1].across) == FACTORS[sampling]
    whole = decode_rgb(file)
    for _ in range(3):
        box = data.draw(boxes(height, width))
        np.testing.assert_array_equal(coefficients(*found, box).pixels(), part_of(whole, box))


@pytest.mark.parametrize("luma", [0, 1, 76, 127, 128, 201, 254, 255])
def test_every_chroma_has_the_colours_of_the_formula(luma: int) -> None:
    blue, red = np.meshgrid(np.arange(256), np.arange(256))
    planes = [plane.astype(np.uint8) for plane in (np.full_like(blue, luma), blue, red)]
    found = np.empty((256, 256, 3), np.uint8)
    to_rgb(*planes, np.array([1, 1, 256, 256, 0, 0]), 0, 0, 0, 0, found)
    # jdcolor.c of libjpeg-turbo, with its factors in units of 2**-16
    b, r, half = blue - 128, red - 128, 1 << 15
    sums = 91881 * r + half, -22554 * b - 46802 * r + half, 116130 * b + half
    expected = np.stack([luma + (one >> 16) for one in sums], axis=-1).clip(0, 255)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("restart", [0, 7])
def test_each_part_of_a_larger_photograph_is_right(sampling: str, restart: int) -> None:
    more = {"restart_marker_blocks": restart} if restart else {}
    file = jpeg(250, 333, sampling, 95, **more)
    found, whole = opened(file), decode_rgb(file)
    assert len(found[2].bits) > 30
    for top in range(0, 250, 50):
        for left in range(0, 333, 47):
            box = (top, left, min(49, 250 - top), min(61, 333 - left))
            np.testing.assert_array_equal(coefficients(*found, box).pixels(), part_of(whole, box))


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_a_header_without_metadata_says_the_same(sampling: str) -> None:
    more = {} if sampling == "4:4:0" else {"exif": b"Exif\0\0" + bytes(3000), "restart_marker_rows": 2}
    file = jpeg(40, 50, sampling, **more)
    bare, whole = read_frame(bare_header(file)), read_frame(file)
    assert bare
    assert whole
    assert len(bare_header(file)) == bare.scan < 1000
    for name, value in vars(whole).items():
        if name != "scan":
            np.testing.assert_equal(getattr(bare, name), value)


def test_a_header_without_metadata_has_no_thumbnail() -> None:
    file = jpeg(40, 50)
    assert file[2:6] == b"\xff\xe0\0\x10"
    thumbnail = (
        b"\xff\xe0" + (16 + 255 * 85 * 3).to_bytes(2, "big") + file[6:18] + b"\xff\x55" + bytes(255 * 85 * 3)
    )
    assert bare_header(file[:2] + thumbnail + file[20:]) == bare_header(file)


def test_a_part_at_the_end_of_an_image_reads_nothing_of_what_follows_in_the_file() -> None:
    file = jpeg(480, 640, quality=92) + bytes(1 << 20)
    found, box = opened(file), (470, 630, 10, 10)
    start, stop = scan_part(found[1], found[2], box, len(file))
    assert stop - start < 1 << 16
    part = coefficients(file[start:stop], *found[1:], box, start)
    np.testing.assert_array_equal(part.pixels(), part_of(decode_rgb(file), box))


def test_a_part_decodes_its_own_rows_alone() -> None:
    data, frame, entries = opened(jpeg(480, 640, quality=92))
    box = (224, 320, 16, 16)
    assert needed_mcus(frame, box) == (13, 19, 3, 3)
    assert 0 < share(frame, entries.step, box) < 0.03
    assert share(frame, entries.step, (0, 0, 480, 640)) == 1
    bits = entries.bits
    first, last = (bits[row * 40 // entries.step] // 8 + frame.scan for row in (12, 17))
    # Neither what lies before its rows matters, nor what lies behind them.
    hurt = data[: frame.scan] + b"\0" * (first - frame.scan) + data[first:last]
    expected = part_of(decode_rgb(data), box)
    np.testing.assert_array_equal(coefficients(hurt, frame, entries, box).pixels(), expected)


def test_no_entry_points_are_read_behind_the_part() -> None:
    data = jpeg(480, 640, quality=92)
    packed, frame = entries_of(data), read_frame(data)
    assert packed
    assert frame
    found = open_entries(packed, frame)
    whole = read_entries(packed, frame)
    assert found
    assert whole
    for box in ((0, 0, 16, 16), (224, 320, 16, 16), (100, 0, 30, 640), (479, 639, 1, 1), (0, 0, 480, 640)):
        entries = found.until(box)
        assert entries
        np.testing.assert_array_equal(
            coefficients(data, frame, entries, box).blocks, coefficients(data, frame, whole, box).blocks
        )
        assert scan_part(frame, entries, box, len(data)) == scan_part(frame, whole, box, len(data))
    first = found.until((0, 0, 16, 16))
    assert first
    assert len(first.bits) < len(whole.bits) / 10


def test_entries_that_are_too_few_or_too_many_are_of_another_image() -> None:
    data = jpeg(100, 120)
    packed, frame = entries_of(data), read_frame(data)
    assert packed
    assert frame
    assert open_entries(packed, frame)
    for other in (packed[:-1], packed + b"\0", packed + b"\x80", packed[:1], b""):
        assert open_entries(other, frame) is None


def test_entries_behind_the_end_of_a_file_decode_nothing() -> None:
    data, box = jpeg(100, 120), (60, 60, 20, 20)
    frame = read_frame(data)
    assert frame
    high, wide = frame.mcus
    lines = np.zeros((high * wide, 4), np.int64)
    lines[1:, 0] = 2**40
    out = np.empty(MOST_BYTES * (lines.size + 1), np.uint8)
    count = write_varints(np.array([1, *lines.ravel()]), out)
    entries = read_entries(out[:count].tobytes(), frame)
    assert entries
    with pytest.raises(UndecodedError):
        coefficients(data, frame, entries, box)
    with pytest.raises(UndecodedError):
        scan_part(frame, entries, box, len(data))


def _coding(progressive: bool) -> JpegCoding:
    return JpegCoding(tables=((9,) * 64,) * 3, subsampling="4:4:0", progressive=progressive)


UNKNOWN = {
    "progressive": lambda: jpeg(40, 50, progressive=True),
    "several scans": lambda: write_jpeg(photograph(40, 50, 1), _coding(False), {}),
    "RGB": lambda: jpeg(40, 50, "4:4:4", keep_rgb=True),
    "4:1:1": lambda: bytes(simplejpeg.encode_jpeg(photograph(40, 50, 1), colorsubsampling="411")),
    "PNG": lambda: b"\x89PNG\r\n\x1a\n" + bytes(100),
    "nothing": lambda: b"",
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_what_can_t_be_decoded_in_part_has_no_entries(kind: str) -> None:
    data = UNKNOWN[kind]()
    assert read_frame(data) is None
    assert entries_of(data) is None


def test_a_damaged_file_has_no_entries() -> None:
    data = jpeg(100, 120)
    for end in (3, 30, 300, 600, len(data) // 2, len(data) - 3):
        assert entries_of(data[:end]) is None


def test_entries_of_another_photograph_are_noticed() -> None:
    one, two = jpeg(200, 300, number=1), jpeg(200, 300, number=2)
    data, frame, _ = opened(one)
    packed = entries_of(two)
    assert packed
    foreign = read_entries(packed, frame)
    if foreign is not None:  # as many entry points by chance
        with pytest.raises(UndecodedError):
            coefficients(data, frame, foreign, (0, 0, 200, 300))


@given(st.binary(max_size=300))
def test_rubbish_is_no_entries(packed: bytes) -> None:
    frame = read_frame(jpeg(40, 50))
    assert frame
    entries = read_entries(packed, frame)
    if entries is not None:  # well-formed by chance: only safe
        _decoded_or_refused(jpeg(40, 50), frame, entries, (0, 0, 40, 50))


def _decoded_or_refused(data: bytes, frame: Frame, entries: Entries, box: Box) -> None:
    try:
        assert coefficients(data, frame, entries, box).pixels().shape == (*box[2:], 3)
    except UndecodedError:
        pass


def fuzzed(rounds: int, seed: int) -> None:
    """Changes bytes of files, headers among them, and decodes parts of what comes out."""
    random = np.random.default_rng(seed)
    files = [jpeg(90, 120, sampling, 80, restart_marker_blocks=5) for sampling in SAMPLINGS[:3]]
    known = [(data, entries_of(data) or b"") for data in files]
    assert all(packed for _, packed in known)
    for number in range(rounds):
        data, packed = known[number % 3]
        hurt = bytearray(data)
        for place in random.integers(0, len(data), random.integers(1, 40)):
            hurt[place] = random.integers(0, 256)
        frame = read_frame(bytes(hurt))
        if frame is None or frame.height * frame.width > 1 << 20:
            continue
        top, left = (int(random.integers(0, side)) for side in (frame.height, frame.width))
        box = (top, left, min(64, frame.height - top), min(64, frame.width - left))
        fitting = read_entries(packed, frame)  # None where the hurt header has other numbers of MCUs
        if fitting is not None:
            _decoded_or_refused(bytes(hurt), frame, fitting, box)


def test_changed_bytes_end_in_an_error_or_in_pixels() -> None:
    fuzzed(300, seed=1)


@pytest.mark.soak
def test_a_million_changed_bytes_end_in_an_error_or_in_pixels() -> None:
    fuzzed(50_000, seed=2)


@given(st.lists(st.tuples(st.integers(0, 2**50), st.integers(-(2**60), 2**60)), min_size=1, max_size=50))
def test_sums_come_back(lines: list[tuple[int, int]]) -> None:
    changes = np.array([(0, lines[0][1]), *lines[1:]], np.int64)
    out = np.empty(MOST_BYTES * changes.size, np.uint8)
    data = out[: write_varints(changes.reshape(-1), out)]
    first, rest = np.empty(len(lines), np.int64), np.zeros((len(lines), 4), np.int64)
    assert read_sums(data, 2, first, rest)
    assert np.array_equal(np.column_stack([first, rest[:, 0]]), changes.cumsum(axis=0))
    assert not rest[:, 1:].any()
    assert read_sums(np.append(data, np.uint8(0)), 2, first, rest)
    assert not read_sums(data[:-1], 2, first, rest)


@pytest.mark.parametrize("changes", [(1,), (0, -1), (0, 5, -2), (0, *[2**61] * 5)])
def test_places_that_fall_or_begin_above_0_or_are_out_of_range_are_damage(changes: tuple[int, ...]) -> None:
    out = np.empty(MOST_BYTES * len(changes), np.uint8)
    data = out[: write_varints(np.array(changes, np.int64), out)]
    assert not read_sums(data, 1, np.empty(len(changes), np.int64), np.empty((len(changes), 0), np.int64))
