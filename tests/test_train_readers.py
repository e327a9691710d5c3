"""Training, evaluation, audit and preview see the same pixels of one file, whatever its kind."""

from pathlib import Path

import numpy as np
import pytest
from conftest import photograph
from image_files import chunk, file_of, png
from PIL import Image
from stranger_tars import write_members

from pack.adopt.adopt import adopt
from pack.adopt.config import IndexConfig
from pack.dataset.dataset import iterate_pairs, open_dataset
from pack.inspect import preview
from pack.inspect.audit.measured.images import MeasuredImage, Measurements, measure_all
from recon.image.codec import decode, decode_rgb
from train.augment import oracle
from train.evaluation.images import Ready
from train.evaluation.inputs.find import open_source
from train.window.cutter import WindowCutter

SIDE = 24
RNG = np.random.default_rng(0)


def colour() -> Image.Image:
    return Image.fromarray(photograph(SIDE, SIDE, 0))


def with_alpha() -> Image.Image:
    """The left half is transparent over black, a quarter is half transparent, the rest is opaque."""
    pixels = np.dstack([photograph(SIDE, SIDE, 0), np.full((SIDE, SIDE), 255, np.uint8)])
    pixels[:, : SIDE // 2] = 0
    pixels[:6, 18:, 3] = 128
    return Image.fromarray(pixels)


def with_transparent_palette() -> bytes:
    indices = RNG.integers(0, 16, (SIDE, SIDE), dtype=np.uint8)
    palette = RNG.integers(0, 256, 48, dtype=np.uint8).tobytes()
    return png(indices, 4, 3, chunk(b"PLTE", palette), chunk(b"tRNS", bytes(range(0, 256, 16))))


def with_transparent_grey(depth: int) -> bytes:
    samples = RNG.integers(0, 2**depth, (SIDE, SIDE), dtype=np.uint8)
    return png(samples, depth, 0, chunk(b"tRNS", b"\0\1"))


def with_transparent_colour() -> bytes:
    samples = RNG.integers(0, 2, (SIDE, SIDE, 3), dtype=np.uint8)
    return png(samples, 8, 2, chunk(b"tRNS", b"\0\1" * 3))


def of_4_4_0() -> bytes:
    data = bytearray(file_of(colour(), "JPEG", subsampling="4:2:2"))
    data[data.index(b"\xff\xc0") + 11] = 0x12
    return bytes(data)


FILES = {
    "RGB PNG": file_of(colour(), "PNG"),
    "grey PNG": file_of(colour().convert("L"), "PNG"),
    "1-bit PNG": file_of(colour().convert("1"), "PNG"),
    "PNG with alpha": file_of(with_alpha(), "PNG"),
    "grey PNG with alpha": file_of(with_alpha().convert("LA"), "PNG"),
    "palette": file_of(colour().quantize(16), "PNG"),
    "palette with transparency": with_transparent_palette(),
    "8-bit grey, one level transparent": with_transparent_grey(8),
    "4-bit grey, one level transparent": with_transparent_grey(4),
    "1-bit grey, one level transparent": with_transparent_grey(1),
    "RGB PNG, one colour transparent": with_transparent_colour(),
    "WebP": file_of(colour(), "WEBP"),
    "lossless WebP with alpha": file_of(with_alpha(), "WEBP", lossless=True, exact=True),
    "lossy WebP with alpha": file_of(with_alpha(), "WEBP"),
    "JPEG": file_of(colour(), "JPEG"),
    "progressive JPEG": file_of(colour(), "JPEG", progressive=True),
    "grey JPEG": file_of(colour().convert("L"), "JPEG"),
    "CMYK JPEG": file_of(colour().convert("CMYK"), "JPEG"),
    "JPEG stored as RGB": file_of(colour(), "JPEG", keep_rgb=True),
    "4:4:0 JPEG": of_4_4_0(),
}


def adopted_tar(folder: Path, files: list[bytes]) -> str:
    """A dataset with each of the files as real image, and as the reconstruction of the next pair."""
    members = []
    for number, data in enumerate(files):
        members += [(f"{number:02}.real.png", data), (f"{number:02}.fake.png", files[number - 1])]
    adopt(IndexConfig(url=[str(write_members(folder / "0.tar", members))]))
    return str(folder)


@pytest.fixture(scope="module")
def adopted(tmp_path_factory: pytest.TempPathFactory) -> str:
    return adopted_tar(tmp_path_factory.mktemp("adopted"), [*FILES.values()])


def flat(data: bytes) -> bytes:
    """A plain PNG of the pixels that training sees."""
    channels = decode(data, max_pixels=10**6, convert=True).pixels.shape[2]
    pixels = decode_rgb(data)
    return file_of(Image.fromarray(pixels if channels == 3 else pixels[..., 0]), "PNG")


def audited(url: str) -> list[MeasuredImage]:
    sample = Measurements()
    for _ in measure_all(sample, [open_dataset(url)], 100, 1):
        pass
    assert not sample.broken
    return [image for pair in sample.pairs for image in (pair.real, pair.fake)]


def test_training_and_evaluation_get_equal_pixels_of_every_kind(adopted: str) -> None:
    cutter = WindowCutter(None, side=SIDE, seed=0, epoch=0)
    scored = (Ready(max_pixels=10**6).pixels(image.data) for image in open_source(adopted).images())
    for pair in iterate_pairs(adopted):
        names = {"__key__": pair.key, "__url__": pair.url, "__pair_id__": 0, "__copy__": 0}
        [trained] = (cutter(one) for one in cutter.drawn([names | pair.members]))
        assert isinstance(trained, tuple)
        for window, data in zip(trained[0].windows_PHWC, (pair.real, pair.fake), strict=True):
            assert np.array_equal(window, next(scored))
            assert np.array_equal(window, oracle.decode(data))


def test_the_audit_measures_the_pixels_of_training(adopted: str, tmp_path: Path) -> None:
    plain = audited(adopted_tar(tmp_path, [flat(data) for data in FILES.values()]))
    for found, expected in zip(audited(adopted), plain, strict=True):
        assert found.pixels == expected.pixels
        assert np.array_equal(found.empty, expected.empty)


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith("with alpha")])
def test_what_is_transparent_is_white(name: str) -> None:
    pixels = decode_rgb(FILES[name])
    assert (pixels[:, : SIDE // 2 - 4] == 255).all()
    assert pixels[12:, 18:].mean() < 200  # the opaque part keeps its colours


def test_the_preview_shows_what_training_sees(adopted: str) -> None:
    sheet = preview.contact_sheet(open_dataset(adopted), count=len(FILES), gain=8, side=SIDE)
    for number, (name, data) in enumerate(FILES.items()):
        below = (len(FILES) - number) * (SIDE + 8 + 2 * preview.LINE) + preview.SCALE
        top = len(sheet) - below + 4  # 4 pixels around each picture
        assert np.array_equal(sheet[top : top + SIDE, 4 : 4 + SIDE], decode_rgb(data)), name
