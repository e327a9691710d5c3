"""The compiled loops give the pixels of Pillow and of the tensor paths, wherever their code is kept."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import python
from PIL import Image, ImageEnhance
from test_train_jitter import all_colours, picture, pillow_hue, pillow_jitter

from recon.image.codec import Pixels
from recon.kernels import compiled
from train.model.normalize import NORMALIZATIONS, normalize
from train.ops import cpu
from train.ops.jitter import grey_means
from train.ops.pixel import grey_tensor, noise, noise_tensor
from train.window.geometry import mirror

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


def jittered(pixels: Pixels, order: list[int], amounts: tuple[float, ...], mean: int = 0) -> Pixels:
    """(H, W, 3) by the loops."""
    x_CHW = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
    cpu.jitter_image(x_CHW, np.array(order), np.array(amounts), mean)
    return np.moveaxis(x_CHW, 0, -1)


@pytest.mark.parametrize("hue", [-0.0733, 0.0, 0.5])
def test_the_hue_of_every_colour_turns_as_pillow_turns_it(hue: float) -> None:
    for pixels in all_colours():
        assert np.array_equal(jittered(pixels, [HUE], (1, 1, 1, hue)), pillow_hue(pixels, hue))


def test_every_turn_of_every_value_and_saturation_is_pillows() -> None:
    # Red, of hue 0, in each value and saturation: with the hues above, all that hue turning can meet.
    value, difference = np.mgrid[0:256, 0:256]
    other = np.maximum(value - difference, 0)
    pixels = np.stack([value, other, other], axis=-1).astype(np.uint8)
    for turn in range(256):
        for hue in ((turn + 0.5) / 255, -(turn + 0.5) / 255):
            assert np.array_equal(jittered(pixels, [HUE], (1, 1, 1, hue)), pillow_hue(pixels, hue))


@pytest.mark.parametrize("factor", [0.6, 1.4])
def test_the_saturation_of_every_colour_is_pillows(factor: float) -> None:
    for pixels in all_colours():
        wanted = np.asarray(ImageEnhance.Color(Image.fromarray(pixels)).enhance(factor))
        assert np.array_equal(jittered(pixels, [SATURATION], (1, 1, factor, 0)), wanted)


def test_the_grey_of_every_colour_is_pillows() -> None:
    for pixels in all_colours():
        x_CHW = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
        cpu.grey_image(x_CHW)
        assert (x_CHW == np.asarray(Image.fromarray(pixels).convert("L"))).all()


def test_brightness_and_contrast_of_every_level_are_pillows() -> None:
    level, mean = np.mgrid[0:256, 0:256].astype(np.uint8)
    rng = np.random.default_rng(0)
    for factor in [0.0, 2.0**-30, 1 - 2.0**-25, 1.0, 1 + 2.0**-23, 2.0, 255.0, *rng.uniform(0, 3, 50)]:
        wanted = np.asarray(Image.blend(Image.fromarray(mean), Image.fromarray(level), factor))
        rows = [
            jittered(np.repeat(level[:, :1, None], 3, 2), [CONTRAST], (1, factor, 1, 0), flat)
            for flat in range(256)
        ]
        assert np.array_equal(np.concatenate(rows, axis=1)[..., 0], wanted)
        bright = jittered(np.repeat(level[..., None], 3, 2), [BRIGHTNESS], (factor, 1, 1, 0))
        assert np.array_equal(bright[:, 0, 0], wanted[:, 0])


@pytest.mark.parametrize("seed", range(60))
def test_the_jitter_equals_pillows_in_any_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels, order = picture(*rng.integers(1, 90, 2), seed), rng.permutation(4).tolist()
    factors = (*rng.uniform(0, 2, 3).tolist(), float(rng.uniform(-0.5, 0.5)))
    (mean,) = grey_means(np.moveaxis(pixels, -1, 0)[None], [np.ones(pixels.size // 3)], order, *factors)
    np.testing.assert_array_equal(
        jittered(pixels, order, factors, mean), pillow_jitter(pixels, order, factors)
    )


@pytest.mark.parametrize("rotation", range(4))
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("place", [(6, 11), (-4, -9), (20, 3)])
def test_a_crop_is_turned_and_mirrored_as_torch_does_it(
    rotation: int, flip: bool, place: tuple[int, int]
) -> None:
    rng = np.random.default_rng(rotation)
    whole, side, first = rng.integers(0, 256, (2, 3, 30, 33), np.uint8), 16, (2, 3)
    rows, columns = (mirror(start, side, size) for start, size in zip(place, (30, 33), strict=True))
    wanted = torch.rot90(torch.from_numpy(whole[..., rows[:, None], columns]), rotation, (-2, -1))
    found = np.empty((2, 3, side, side), np.uint8)
    where = np.array((30, 33, *place, *((0, 0) if min(place) < 0 else first), rotation, flip), np.int64)
    part = whole if min(place) < 0 else np.ascontiguousarray(whole[..., first[0] :, first[1] :])
    cpu.crop_turned(part, where, found)
    assert torch.equal(torch.from_numpy(found), wanted.flip(-1) if flip else wanted)


def test_planes_are_the_windows_channels() -> None:
    windows = np.random.default_rng(0).integers(0, 256, (2, 40, 41, 3), np.uint8)
    found = np.empty((2, 3, 17, 20), np.uint8)
    cpu.to_planes(windows, 5, 9, found)
    np.testing.assert_array_equal(found, windows[:, 5:22, 9:29].transpose(0, 3, 1, 2))


@pytest.mark.parametrize("name", [name for name, one in NORMALIZATIONS.items() if one.std])
def test_looking_levels_up_gives_what_the_sums_give(name: str) -> None:
    x = torch.arange(256, dtype=torch.uint8).repeat(5, 3, 2).view(5, 3, 16, 32)
    assert torch.equal(normalize(x, name), NORMALIZATIONS[name].apply(x.float()))
    strided = x.permute(0, 1, 3, 2)
    assert torch.equal(normalize(strided, name), NORMALIZATIONS[name].apply(strided.float()))


@pytest.mark.parametrize("images", [1, 2, 3])
def test_any_number_of_images_gets_the_noise_and_the_grey_of_the_tensor_path(images: int) -> None:
    x = torch.from_numpy(np.random.default_rng(images).integers(0, 256, (4, images, 3, 19, 23), np.uint8))
    keys, origins = np.array([0, -1, 2**62, -(2**63)]), np.array([[0, 0], [-12, -12], [4000, 9], [3, 70000]])
    sigmas = np.array([0.0, 3.3, 7.0, 300.0])
    assert torch.equal(noise(x, keys, origins, sigmas), noise_tensor(x, keys, origins, sigmas))
    for row in range(4):
        for image in range(images):
            levels = x[row, image].numpy().copy()
            cpu.grey_image(levels)
            assert torch.equal(torch.from_numpy(levels), grey_tensor(x[row : row + 1])[0, image])


def test_it_works_where_no_cache_can_be_written(tmp_path: Path) -> None:
    """Neither beside the source nor in a home, as in some containers."""
    # Apart from its package.
    (tmp_path / "compiled.py").write_bytes(Path(compiled.__file__).read_bytes())
    (tmp_path / "loop.py").write_text(
        "from compiled import kernel\n@kernel('i8(i8)')\ndef twice(x):\n    return 2 * x\n"
    )
    code = (
        "from numba.core import caching; caching._CacheLocator.ensure_cache_path = nowhere = "
        "lambda self: (_ for _ in ()).throw(OSError('read-only'))\n"
        "import loop; assert loop.twice(4) == 8; assert loop.twice.stats.cache_path is None"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, env=environment)


def test_numba_is_not_imported_before_a_cpu_augments() -> None:
    modules = (
        "train.loader.worker",
        "train.loader.reader",
        "train.loop.run",
        "train.augment.pipeline",
        "pack.command",
    )
    code = (
        "import importlib, sys\n"
        "for module in sys.argv[1:]:\n"
        "    importlib.import_module(module)\n"
        "    assert 'numba' not in sys.modules, module\n"
    )
    ended = python(code, *modules)
    assert ended.returncode == 0, ended.stderr
