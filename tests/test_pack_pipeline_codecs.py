"""A reconstruction is coded as its real image, or rejected with the cause; under `both` they are alike."""

import re
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ORIENTATION, PROFILE, photograph, save
from PIL import Image
from pipeline_items import Dimming, config_of, items_of, made, maker_of

from pack.pipeline.decoding import Rejection
from pack.pipeline.maker import PairMaker
from pack.shard.pair import Pair
from recon.base.rejections import won_by_converting
from recon.image.codec import Picture, decode
from recon.models.load import load

HUFFMAN, FRAME, SCAN, TABLES = 0xC4, 0xC0, 0xDA, 0xDB


def jpeg(**options: Any) -> bytes:
    out = BytesIO()
    Image.fromarray(photograph(40, 64, 0)).save(out, "JPEG", **options)
    return out.getvalue()


def segments(data: bytes) -> list[tuple[int, int, int]]:
    """(marker, start, end) of the segments up to the first scan's header."""
    found, place = [], 2
    while not found or found[-1][0] != SCAN:
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        found.append((data[place + 1], place, end))
        place = end
    return found


def patched(data: bytes, at: int, value: int) -> bytes:
    """One byte of the frame's header changed, counted from its marker."""
    [frame] = [start for marker, start, _ in segments(data) if marker == FRAME]
    return data[: frame + at] + bytes([value]) + data[frame + at + 1 :]


def with_16_bit_tables(value: int) -> bytes:
    """The first table in 16 bits, each step `value`."""
    data = jpeg(quality=90)
    start, end = next((start, end) for marker, start, end in segments(data) if marker == TABLES)
    table = b"\xff\xdb" + (2 + 1 + 128).to_bytes(2, "big") + b"\x10" + value.to_bytes(2, "big") * 64
    rest = data[start + 2 + 2 + 65 : end]  # where one segment holds both tables
    more = b"\xff\xdb" + (2 + len(rest)).to_bytes(2, "big") + rest if rest else b""
    return data[:start] + table + more + data[end:]


def with_late_tables() -> bytes:
    """A progressive file that defines its first table once more before the second scan."""
    data = jpeg(quality=90, progressive=True)
    start, end = next((start, end) for marker, start, end in segments(data) if marker == TABLES)
    scan = segments(data)[-1][2]
    second = data.index(b"\xff\xc4", scan)
    return data[:second] + data[start:end] + data[second:]


def without_early_tables() -> bytes:
    data = with_late_tables()
    start, end = next((start, end) for marker, start, end in segments(data) if marker == TABLES)
    return data[:start] + data[end:]


def with_exchanged_tables() -> bytes:
    """Luma by table 1 and chroma by table 0: another file, the same coding."""
    data = bytearray(jpeg(quality=70))
    for marker, start, _ in segments(bytes(data)):
        if marker == TABLES:
            data[start + 4] ^= 1
        if marker == FRAME:
            for component in range(3):
                data[start + 12 + 3 * component] ^= 1
    return bytes(data)


def mpo() -> bytes:
    out = BytesIO()
    frames = [Image.fromarray(photograph(40, 64, seed)) for seed in (0, 1)]
    frames[0].save(out, "MPO", save_all=True, append_images=frames[1:], quality=88)
    return out.getvalue()


def rotated() -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = 8
    return jpeg(exif=exif, icc_profile=PROFILE)


def cmyk() -> bytes:
    out = BytesIO()
    Image.fromarray(photograph(40, 64, 0)).convert("CMYK").save(out, "JPEG")
    return out.getvalue()


def grey() -> bytes:
    out = BytesIO()
    Image.fromarray(photograph(40, 64, 0)[..., 0]).save(out, "JPEG", quality=61)
    return out.getvalue()


MATCHED: dict[str, Callable[[], bytes]] = {
    "baseline": jpeg,
    "quality 100, 4:4:4": lambda: jpeg(quality=100, subsampling="4:4:4"),
    "quality 10": lambda: jpeg(quality=10),
    "4:2:2, progressive": lambda: jpeg(subsampling="4:2:2", progressive=True),
    "progressive": lambda: jpeg(progressive=True),
    "optimised": lambda: jpeg(optimize=True),
    "restarts": lambda: jpeg(restart_marker_blocks=2),
    "extended sequential": lambda: patched(jpeg(), 1, 0xC1),
    "three tables": lambda: jpeg(qtables=[[k + 1] * 64 for k in range(3)]),
    "one table": lambda: jpeg(qtables=[[7] * 64]),
    "tables exchanged": with_exchanged_tables,
    "16-bit tables of small steps": lambda: with_16_bit_tables(200),
    "rotated, with a profile": rotated,
    "several pictures": mpo,
    "grey": grey,
    "4:4:0": lambda: patched(jpeg(subsampling="4:2:2"), 11, 0x12),
    "4:1:1": lambda: patched(jpeg(subsampling="4:2:2"), 11, 0x41),
    "stored as RGB": lambda: jpeg(keep_rgb=True),
    "bytes behind the end": lambda: jpeg() + b"\xff\xdb tail",
}

REJECTED: dict[str, tuple[Callable[[], bytes], str]] = {
    "3x1": (lambda: patched(jpeg(subsampling="4:2:2"), 11, 0x31), "subsampling 3x1 can't be matched"),
    "CMYK": (cmyk, "CMYK JPEG image, expected 8-bit RGB or grey"),
    "arithmetic": (lambda: patched(jpeg(), 1, 0xC9), "JPEG with arithmetic coding can't be matched"),
    "16-bit tables": (lambda: with_16_bit_tables(300), "JPEG with 16-bit tables can't be matched"),
    "late tables": (with_late_tables, "JPEG with tables between its scans can't be matched"),
    "no early tables": (without_early_tables, "without all its quantisation tables before its first scan"),
    "truncated": (lambda: jpeg()[:-200], "broken or truncated jpeg"),
}


def result_of(folder: Path, data: bytes, **options: Any) -> Pair | Rejection:
    """The pair that one file makes with a reconstruction that differs from it."""
    (folder / "a.jpg").write_bytes(data)
    [(_, [result])] = made(maker_of(config_of(folder, **options), Dimming()), [(0, items_of(folder))])
    return result


def read_back(data: bytes) -> tuple[Any, ...]:
    """What Pillow itself says of a JPEG: tables by component, sampling, kind, size, mode."""
    with Image.open(BytesIO(data)) as image:
        layers: Any = image.layer  # type: ignore[attr-defined]
        tables: Any = image.quantization  # type: ignore[attr-defined]
        kind = bool(image.info.get("progressive"))
        sampling = [layer[1:3] for layer in layers] if len(layers) > 1 else None  # of one: no matter
        return [list(tables[layer[3]]) for layer in layers], sampling, kind, image.size, image.mode


def opened(data: bytes) -> Picture:
    return decode(data, max_pixels=10**8)


@pytest.mark.parametrize("kind", MATCHED)
def test_match_repeats_tables_subsampling_kind_size_and_metadata(kind: str, tmp_path: Path) -> None:
    data = MATCHED[kind]()
    pair = result_of(tmp_path, data)
    assert isinstance(pair, Pair), pair
    assert pair.real == data
    assert pair.real_codec == pair.fake_codec == "jpeg"
    assert read_back(pair.fake) == read_back(data)
    real, fake = opened(data), opened(pair.fake)
    assert (fake.orientation, fake.icc) == (real.orientation, real.icc)
    assert not np.array_equal(real.pixels, fake.pixels)


@pytest.mark.parametrize("kind", REJECTED)
def test_what_cannot_be_matched_is_rejected_with_its_cause(kind: str, tmp_path: Path) -> None:
    make, cause = REJECTED[kind]
    rejection = result_of(tmp_path, make())
    assert isinstance(rejection, Rejection)
    assert cause in rejection.cause


@pytest.mark.parametrize("kind", ["3x1", "16-bit tables", "late tables", "arithmetic"])
def test_what_cannot_be_matched_can_be_stored_losslessly(kind: str, tmp_path: Path) -> None:
    make, _ = REJECTED[kind]
    pair = result_of(tmp_path, make(), codec="lossless-png")
    assert isinstance(pair, Pair)
    assert pair.real == make()


@pytest.mark.parametrize("kind", [*MATCHED, "3x1", "CMYK", "16-bit tables"])
@pytest.mark.parametrize("quality", [60, 95])
def test_both_compresses_real_and_reconstruction_alike(kind: str, quality: int, tmp_path: Path) -> None:
    data = (MATCHED.get(kind) or REJECTED[kind][0])()
    pair = result_of(tmp_path, data, codec="both", quality=quality, convert=True)
    assert isinstance(pair, Pair)
    assert pair.real != data
    assert pair.real_codec == pair.fake_codec == "jpeg"
    assert read_back(pair.real) == read_back(pair.fake)
    real, fake = opened(pair.real), opened(pair.fake)
    before = decode(data, max_pixels=10**8, convert=True)
    assert real.jpeg == fake.jpeg
    assert real.jpeg is not None
    assert (real.jpeg.quality, real.jpeg.progressive) == (quality, False)
    assert real.jpeg.subsampling == ("grey" if kind == "grey" else "4:2:0")
    assert real.orientation == fake.orientation == before.orientation
    assert real.icc == fake.icc == before.icc
    assert real.pixels.shape == before.pixels.shape
    described = {"jpeg_quality": quality, "jpeg_subsampling": real.jpeg.subsampling, "codec_policy": "both"}
    described |= {"jpeg_tables": real.jpeg.tables_hash, "jpeg_progressive": False}
    assert described.items() <= pair.record.items()


@pytest.mark.parametrize("suffix", ["png", "webp", "jpg", "bmp"])
def test_both_gives_equal_bytes_for_equal_pixels(suffix: str, tmp_path: Path) -> None:
    save(tmp_path / f"a.{suffix}", photograph(33, 47, 0))
    config = config_of(tmp_path, codec="both", quality=75)
    [(_, [pair])] = made(maker_of(config, load(config)), [(0, items_of(tmp_path))])
    assert isinstance(pair, Pair)
    assert pair.real == pair.fake
    assert pair.record["jpeg_quality"] == 75


def test_both_compresses_ready_reconstructions_and_tiles_too(tmp_path: Path) -> None:
    save(tmp_path / "a.png", photograph(32, 32, 0))
    [item] = items_of(tmp_path)
    tiled = config_of(tmp_path, codec="both", tile=16)
    [(_, [tile])] = made(maker_of(tiled, load(tiled)), [(0, [replace(item, tile=(16, 0))])])
    ready = PairMaker(config_of(tmp_path, codec="both", reconstructions="x"), [], [{"autoencoder": "given"}])
    [(_, [pair])] = made(ready, [(0, [replace(item, fake=item.real)])])
    assert isinstance(tile, Pair)
    assert isinstance(pair, Pair)
    assert tile.real_codec == tile.fake_codec == pair.real_codec == pair.fake_codec == "jpeg"
    assert opened(tile.real).size == (16, 16)
    assert pair.real == pair.fake


def lossy_webp_with_alpha() -> bytes:
    out = BytesIO()
    Image.fromarray(photograph(40, 64, 0)).convert("RGBA").rotate(9).save(out, "WEBP", quality=70)
    return out.getvalue()


def jpeg_in_tiff() -> bytes:
    out = BytesIO()
    Image.fromarray(photograph(40, 64, 0)).save(out, "TIFF", compression="jpeg", quality=70)
    return out.getvalue()


HIDDEN = {
    "CMYK JPEG": cmyk,
    "alpha lossy WebP": lossy_webp_with_alpha,
    "JPEG in TIFF": jpeg_in_tiff,
}
"""Files whose pixels have the traces of a lossy coding, but that a shard holds as PNG."""


@pytest.mark.parametrize("codec", ["match", "lossless-png", "lossless-webp"])
@pytest.mark.parametrize("kind", HIDDEN)
def test_traces_that_the_stored_file_would_hide_are_rejected(kind: str, codec: str, tmp_path: Path) -> None:
    rejection = result_of(tmp_path, HIDDEN[kind](), codec=codec, convert=True)
    assert isinstance(rejection, Rejection)
    assert rejection.cause.startswith(f"{kind}, which is stored without loss: the real image alone")
    assert "add --codec both" in rejection.cause


@pytest.mark.parametrize("kind", HIDDEN)
def test_one_refusal_names_all_options_that_an_image_needs(kind: str, tmp_path: Path) -> None:
    rejection = result_of(tmp_path, HIDDEN[kind]())
    assert isinstance(rejection, Rejection)
    named = dict(re.findall(r"--(\w+) (true|both)", rejection.cause))
    assert named == {"codec": "both"} | ({} if kind == "JPEG in TIFF" else {"convert": "true"})
    options: dict[str, Any] = {"convert": "convert" in named, "codec": named["codec"]}
    assert isinstance(result_of(tmp_path, HIDDEN[kind](), **options), Pair)
    won = won_by_converting([{"path": "a", "cause": rejection.cause}])
    assert won in ("", f"; up to 1 image more with --convert true (1 {kind} with --codec both too)")
    if kind == "CMYK JPEG":  # tiles are PNG, whatever they were cut from
        assert won
        rejection = result_of(tmp_path, HIDDEN[kind](), tile=40)
        assert isinstance(rejection, Rejection)
        assert rejection.cause.endswith("CMYK image, expected 8-bit RGB or grey; add --convert true")
        rejection = result_of(tmp_path, HIDDEN[kind](), require_jpeg_free=True)
        assert isinstance(rejection, Rejection)
        assert rejection.cause.startswith("is a JPEG, expected photographs that never were")


@pytest.mark.parametrize("codec", ["match", "both"])
def test_a_lossy_fake_that_needs_converting_is_told_what_makes_it_a_pair(tmp_path: Path, codec: str) -> None:
    save(tmp_path / "a.png", photograph(40, 64, 0))
    (tmp_path / "fake.jpg").write_bytes(cmyk())
    [item] = [replace(one, fake=replace(one.real, name="fake.jpg")) for one in items_of(tmp_path)[:1]]
    rejections = []
    for convert in (False, True):
        options: dict[str, Any] = {"reconstructions": "x", "codec": codec, "convert": convert}
        ready = PairMaker(config_of(tmp_path, **options), [], [{"autoencoder": "given"}])
        rejections += [one for _, results in made(ready, [(0, [item])]) for one in results]
    assert all("make it losslessly or pack with --codec keep" in one.cause for one in rejections)
    assert rejections[0].cause.endswith(" --convert true")


@pytest.mark.parametrize("kind", HIDDEN)
def test_both_images_get_equal_traces_of_a_hidden_coding_under_both(kind: str, tmp_path: Path) -> None:
    pair = result_of(tmp_path, HIDDEN[kind](), codec="both", quality=80, convert=True)
    assert isinstance(pair, Pair)
    assert read_back(pair.real) == read_back(pair.fake)
    assert pair.record["jpeg_quality"] == 80


@pytest.mark.parametrize("kind", HIDDEN)
def test_a_png_is_never_described_by_the_tables_of_the_jpeg_that_it_was(kind: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(HIDDEN[kind]())
    [item] = items_of(tmp_path)
    config = config_of(tmp_path, codec="keep", reconstructions="x", convert=True)
    ready = PairMaker(config, [], [{"autoencoder": "given"}])
    [(_, [pair])] = made(ready, [(0, [replace(item, fake=item.real)])])
    assert isinstance(pair, Pair)
    assert pair.real_codec == "png"
    columns = ("jpeg_tables", "jpeg_quality", "jpeg_subsampling", "jpeg_progressive")
    assert [pair.record[name] for name in columns] == [None] * 4


def test_a_lossless_real_image_refuses_a_reconstruction_with_a_jpeg_in_a_tiff(tmp_path: Path) -> None:
    save(tmp_path / "a.png", photograph(40, 64, 0))
    (tmp_path / "fake.tif").write_bytes(jpeg_in_tiff())
    real, fake = (one.real for one in items_of(tmp_path))
    item = replace(items_of(tmp_path)[0], fake=fake)
    ready = PairMaker(config_of(tmp_path, reconstructions="x"), [], [{"autoencoder": "given"}])
    [(_, [rejection])] = made(ready, [(0, [item])])
    assert real != fake
    assert isinstance(rejection, Rejection)
    assert "reconstruction is a JPEG in TIFF, which gives it away" in rejection.cause


def test_both_says_so_when_a_side_exceeds_what_jpeg_can_hold(tmp_path: Path) -> None:
    save(tmp_path / "a.png", np.zeros((1, 65_536, 3), np.uint8))
    config = config_of(tmp_path, codec="both")
    [(_, [rejection])] = made(maker_of(config, load(config)), [(0, items_of(tmp_path))])
    assert isinstance(rejection, Rejection)
    assert "can't be stored as jpeg" in rejection.cause
