"""Both paths of the JPEG op against Pillow's own save and load, bit for bit."""

from io import BytesIO

import numpy as np
import pytest
import torch
from conftest import photograph
from PIL import Image

from recon.image.codec import Pixels
from train.ops.jpeg import jpeg, jpeg_loop, jpeg_tensor, webp

PATHS = pytest.mark.parametrize("path", [jpeg_loop, jpeg_tensor])


def reference(pixels: Pixels, quality: int, codec: str = "JPEG") -> Pixels:
    file = BytesIO()
    Image.fromarray(pixels).save(file, codec, quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


def noise(height: int, width: int, seed: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def blocks(height: int, width: int, seed: int) -> Pixels:
    """Pure black, white and colours: what overshoots most when it comes back."""
    small = np.random.default_rng(seed).integers(0, 2, (height // 3 + 1, width // 3 + 1, 3), dtype=np.uint8)
    return 255 * small.repeat(3, axis=0).repeat(3, axis=1)[:height, :width]


def batch(pairs: list[tuple[Pixels, Pixels]]) -> torch.Tensor:
    return torch.from_numpy(np.stack([np.stack(pair) for pair in pairs])).permute(0, 1, 4, 2, 3).contiguous()


def whole(x_BPCHW: torch.Tensor) -> np.ndarray:
    return np.tile(x_BPCHW.shape[-2:], (len(x_BPCHW), 1))


@PATHS
@pytest.mark.parametrize(("height", "width"), [(64, 96), (53, 39)])
def test_every_quality_is_pillows(path, height: int, width: int) -> None:
    qualities = np.arange(1, 101)
    pairs = [
        (photograph(height, width, q), (noise, blocks)[q % 2](height, width, q)) for q in qualities.tolist()
    ]
    x_BPCHW = batch(pairs)
    expected = batch([tuple(reference(image, q) for image in pair) for q, pair in enumerate(pairs, 1)])
    assert torch.equal(path(x_BPCHW, qualities, whole(x_BPCHW)), expected)


@PATHS
def test_every_size_is_pillows_and_overhang_has_no_part_in_it(path) -> None:
    """300 sizes, each in the top left corner of a region whose rest is noise."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 71, (300, 2))
    sizes[:12] = [(a, b) for a in (1, 2, 16) for b in (3, 4, 5, 6)]
    qualities = rng.integers(1, 101, 300)
    for start in range(0, 300, 100):
        rows = range(start, start + 100)
        pairs = [(noise(80, 80, row), noise(80, 80, ~row & 0xFFFF)) for row in rows]
        expected = []
        for row, pair in zip(rows, pairs, strict=True):
            height, width = sizes[row]
            pair[0][:height, :width] = photograph(height, width, row)
            expected.append(tuple(image.copy() for image in pair))
            for image in expected[-1]:
                image[:height, :width] = reference(image[:height, :width].copy(), int(qualities[row]))
        found = path(batch(pairs), qualities[rows], sizes[rows])
        assert torch.equal(found, batch(expected))


@PATHS
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 4), (4, 7), (16, 16), (17, 33), (31, 5), (70, 69)])
def test_image_may_be_the_whole_region(path, size: tuple[int, int]) -> None:
    image = photograph(*size, 1)
    x_BPCHW = batch([(image, image)])
    expected = reference(image, 60)
    assert torch.equal(path(x_BPCHW, np.array([60]), whole(x_BPCHW)), batch([(expected, expected)]))


@PATHS
def test_part_on_the_grid_is_that_part_of_the_whole_image(path) -> None:
    """But for two pixels along the borders that lie inside the image."""
    rng = np.random.default_rng(1)
    side, expected, pairs, extents, qualities, inner = 48, [], [], [], [], []
    for row in range(60):
        height, width = rng.integers(50, 120, 2)
        images, quality = (
            (photograph(height, width, row), noise(height, width, row)),
            int(rng.integers(1, 101)),
        )
        top, left = (16 * int(rng.integers(0, (size - 1) // 16 + 1)) for size in (height, width))
        cut = [np.zeros((side, side, 3), np.uint8) for _ in range(4)]
        extent = min(side, height - top), min(side, width - left)
        for source, target in zip((*images, *(reference(i, quality) for i in images)), cut, strict=True):
            target[: extent[0], : extent[1]] = source[top : top + side, left : left + side]
        pairs.append((cut[0], cut[1]))
        expected.append((cut[2], cut[3]))
        extents.append(extent)
        qualities.append(quality)
        inner.append(
            (
                slice(2 if top else 0, None if top + side >= height else side - 2),
                slice(2 if left else 0, None if left + side >= width else side - 2),
            )
        )
    found = path(batch(pairs), np.array(qualities), np.array(extents))
    whole_images = batch(expected)
    # A part of one or two chroma columns can't tell that the image has more of them.
    told = [row for row in range(60) if extents[row][1] > 4]
    assert len(told) > 40
    for row in told:
        rows, columns = inner[row]
        assert torch.equal(found[row][..., rows, columns], whole_images[row][..., rows, columns]), row


def test_both_paths_agree_on_arrays_and_tensors() -> None:
    x_BPCHW = batch([(photograph(128, 128, 2 * i), photograph(128, 128, 2 * i + 1)) for i in range(8)])
    quality_B = torch.tensor([30, 49, 50, 51, 75, 95, 99, 100])
    extent_B2 = torch.tensor(
        [(128, 128), (112, 128), (128, 97), (99, 101), (1, 128), (128, 1), (96, 96), (5, 5)]
    )
    by_loop = jpeg(x_BPCHW, quality_B, extent_B2)
    assert torch.equal(by_loop, jpeg_tensor(x_BPCHW, quality_B, extent_B2))
    assert torch.equal(by_loop, jpeg_tensor(x_BPCHW, quality_B.numpy(), extent_B2.numpy()))
    assert torch.equal(by_loop, jpeg_loop(x_BPCHW, quality_B.numpy(), extent_B2.numpy()))


@PATHS
def test_quality_zero_and_the_input_stay_untouched(path) -> None:
    x_BPCHW = batch([(photograph(32, 32, 0), photograph(32, 32, 1))] * 2)
    before = x_BPCHW.clone()
    found = path(x_BPCHW, np.array([0, 30]), whole(x_BPCHW))
    assert torch.equal(x_BPCHW, before)
    assert torch.equal(found[0], before[0])
    assert not torch.equal(found[1], before[1])


@PATHS
def test_pair_does_not_depend_on_its_batch(path) -> None:
    x_BPCHW = batch([(photograph(40, 56, 2 * i), photograph(40, 56, 2 * i + 1)) for i in range(5)])
    qualities, extents = np.arange(20, 100, 16), np.array([(40, 56), (33, 7), (16, 56), (40, 1), (9, 9)])
    together = path(x_BPCHW, qualities, extents)
    for row in range(5):
        one = slice(row, row + 1)
        assert torch.equal(path(x_BPCHW[one], qualities[one], extents[one]), together[one])


def test_webp_is_pillows() -> None:
    images = photograph(40, 33, 0), noise(40, 33, 1)
    x_BPCHW = batch([images])
    expected = tuple(reference(image, 40, "WEBP") for image in images)
    assert torch.equal(webp(x_BPCHW, np.array([40]), whole(x_BPCHW)), batch([expected]))
