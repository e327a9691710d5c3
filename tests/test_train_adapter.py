"""Kornia's ops on our pairs, and our ops in Kornia's pipelines."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as TF
from hypothesis import given, settings
from hypothesis import strategies as st
from kornia import augmentation
from kornia.augmentation import AugmentationSequential
from PIL import Image
from scipy.ndimage import gaussian_filter
from train_ranks import plain_model, random_batch

from recon.base.errors import UserError
from train.augment import adapter
from train.augment.final import KorniaOps, final_ops
from train.draws.config import AugmentConfig, load_recipe
from train.draws.parameters import JITTER
from train.loop.config import DataConfig, TrainConfig
from train.loop.trainee import Trainee
from train.order.config import OrderConfig
from train.world.world import World, open_world

ARGUMENTS: dict[str, dict[str, Any]] = {  # of the ops that can't do without
    "CenterCrop": {"size": [24, 20]},
    "Denormalize": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
    "LongestMaxSize": {"max_size": 24},
    "Normalize": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
    "PadTo": {"size": [40, 40]},
    "RandomAffine": {"degrees": 30.0},
    "RandomCrop": {"size": [24, 24]},
    "RandomGaussianBlur": {"kernel_size": [3, 3], "sigma": [0.1, 2.0]},
    "RandomMotionBlur": {"kernel_size": 5, "angle": 35.0, "direction": 0.5},
    "RandomResizedCrop": {"size": [24, 24]},
    "RandomRotation": {"degrees": 30.0},
    "RandomRotation90": {"times": [0, 3]},
    "RandomShear": {"shear": 0.2},
    "RandomTranslate": {"translate_x": [0.1, 0.2]},
    "Resize": {"size": [24, 24]},
    "SmallestMaxSize": {"max_size": 24},
}
ELSEWHERE = {"RandomDissolving", "RandomFisheye"}  # a diffusion model; tensors as arguments
OPS = sorted(
    name
    for name, found in vars(augmentation).items()
    if isinstance(found, type)
    and issubclass(found, augmentation.AugmentationBase2D)
    and "Base" not in name
    and name not in ELSEWHERE
)
GEOMETRIC = [
    *("RandomAffine", "RandomCrop", "RandomElasticTransform", "RandomHorizontalFlip", "RandomPerspective"),
    *("RandomResizedCrop", "RandomRotation", "RandomShear", "RandomTranslate"),
]


def crops(count: int = 4, side: int = 32, seed: int = 0) -> torch.Tensor:
    """(B, 2, 3, side, side) floats; real and fake differ."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 2, 3, side, side), generator=generator) / 255.0


def twins(count: int = 4, side: int = 32) -> torch.Tensor:
    """Pairs whose fake is their real."""
    return crops(count, side)[:, :1].repeat(1, 2, 1, 1, 1)


def built(name: str, **options: Any) -> KorniaOps:
    return KorniaOps([{"name": name, **ARGUMENTS.get(name, {}), **options}], seed=3)


@pytest.mark.parametrize("name", OPS)
def test_every_op_of_kornia_leaves_equal_halves_equal(name: str) -> None:
    ops = built(name)
    for step in range(3):
        out = ops(twins(), step, 0)
        assert torch.equal(out[:, 0], out[:, 1])
        assert 0 <= out.min() <= out.max() <= 1
        assert torch.equal(ops(twins(), step, 0), out)


@pytest.mark.parametrize("name", GEOMETRIC)
def test_geometry_is_the_same_for_both_halves(name: str) -> None:
    real = crops()[:, 0]
    pairs = torch.stack([real, real.clamp(0.25, 0.75)], dim=1)  # fakes that are known from their reals
    flips = name == "RandomHorizontalFlip"
    out = built(name, p=1.0, **({} if flips else {"resample": "nearest"}))(pairs, 0, 0)  # whole pixels move
    inside = (out[:, 0] > 0) & (out[:, 1] > 0)  # beyond the image Kornia fills with black
    assert inside.float().mean() > 0.4
    torch.testing.assert_close(out[:, 1][inside], out[:, 0].clamp(0.25, 0.75)[inside], rtol=0, atol=1e-5)


def test_the_recipe_draws_for_each_pair_its_own() -> None:
    ops = KorniaOps(load_recipe("kornia").kornia, seed=3)
    out = ops(twins(1, 96).repeat(16, 1, 1, 1, 1), 0, 0)
    assert len({row.numpy().tobytes() for row in out[:, 0]}) >= 12
    assert torch.equal(out[:, 0], out[:, 1])


def test_draws_follow_seed_step_and_rank_and_nothing_else() -> None:
    recipe, x = load_recipe("kornia").kornia, crops(4, 32)
    expected = KorniaOps(recipe, seed=3)(x, 5, 1)
    torch.manual_seed(99)
    again = KorniaOps(recipe, seed=3)
    again(x, 4, 1)
    assert torch.equal(again(x, 5, 1), expected)
    others = [(3, 6, 1), (3, 5, 0), (4, 5, 1)]
    assert not any(torch.equal(KorniaOps(recipe, seed=seed)(x, *at), expected) for seed, *at in others)


def test_the_generators_of_the_process_are_left_alone() -> None:
    before = torch.random.get_rng_state()
    x = crops()
    kept = x.clone()
    KorniaOps(load_recipe("kornia").kornia, seed=3)(x, 0, 0)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(x, kept)


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        (
            {"name": "RandomErase"},
            r"augment\.kornia\[1\]: Kornia has no op 'RandomErase', close are RandomErasing",
        ),
        ({"name": "xyz"}, r"augment\.kornia\[1\]: .*CenterCrop, .*RandomVerticalFlip"),
        ({"name": "RandomMixUpV2"}, r"augment\.kornia\[1\]: Kornia has no op"),
        ({"name": "IntensityAugmentationBase2D"}, r"augment\.kornia\[1\]: Kornia has no op"),
        (
            {"name": "RandomErasing", "size": 3},
            r"RandomErasing takes no size, expected of scale, ratio, value",
        ),
        ({"name": "RandomErasing", "scale": [0.5, 0.1]}, r"augment\.kornia\[1\]: RandomErasing: .+"),
        ({"name": "RandomCrop"}, r"augment\.kornia\[1\]: RandomCrop: .*size"),
        ({"name": "RandomJPEG", "jpeg_quality": [0.0, 300.0]}, r"augment\.kornia\[1\]: RandomJPEG: .+"),
    ],
)
def test_wrong_ops_are_named(op: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError, match=expected) as found:
        KorniaOps([{"name": "RandomErasing"}, op], seed=3)
    assert "\n" not in str(found.value)


def test_an_op_that_fails_on_the_crops_ends_with_a_line() -> None:
    with pytest.raises(UserError, match=r"augment\.kornia fails on crops of 8x8: .+"):
        built("RandomGaussianBlur", kernel_size=[25, 25], p=1.0)(crops(2, 8), 0, 0)


def test_without_ops_the_crops_stay_uint8() -> None:
    x = torch.zeros(2, 2, 3, 8, 8, dtype=torch.uint8)
    assert final_ops(AugmentConfig(), 0, 0)(x, 0) is x


def test_kornia_is_imported_only_where_it_is_used() -> None:
    from conftest import python

    script = "import sys, train.loop.run, train.augment.final; assert 'kornia' not in sys.modules"
    result = python(script)
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with open_world("cpu") as world:
        yield world


def test_a_step_trains_on_what_the_ops_leave(world: World) -> None:
    def loss(*ops: dict[str, Any], number: int = 0) -> float:
        config = TrainConfig(
            out="unused",
            data=DataConfig(train="unused"),
            order=OrderConfig(seed=5),
            augment=AugmentConfig(kornia=list(ops)),
        )
        return Trainee(plain_model(), config, world).step(random_batch(4, seed=1), number).loss_sum

    noise = {"name": "RandomGaussianNoise", "std": 0.2, "p": 1.0}
    assert loss(noise) == loss(noise) != loss()
    assert loss(noise, number=1) != loss(noise)
    assert loss({**noise, "p": 0.0}) == pytest.approx(loss(), rel=1e-5)


# --- our ops in Kornia's pipelines


def levels(x_BCHW: torch.Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """(B, H, W, 3)"""
    return (x_BCHW * 255).round().byte().permute(0, 2, 3, 1).numpy()


def photographs(count: int = 3, height: int = 37, width: int = 45) -> torch.Tensor:
    """(B, 3, H, W) floats: a ramp with noise."""
    rng = np.random.default_rng(2)
    ramp = np.linspace(0, 180, width)[None, None, None]
    return torch.from_numpy((ramp + rng.integers(0, 75, (count, 3, height, width))).astype(np.uint8)) / 255


def round_trip(image: Image.Image, codec: str, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, codec, quality=quality)
    return Image.open(file).convert("RGB")


def jittered(image: Image.Image, params: dict[str, Any], row: int) -> Image.Image:
    adjust = [TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation, TF.adjust_hue]
    for place in params["order"][row].tolist():
        image = adjust[place](image, float(params[JITTER[place]][row]))
    return image


def blurred(image: Image.Image, params: dict[str, Any], row: int) -> Any:
    sigma = float(params["blur_sigma"][row])
    return np.stack([gaussian_filter(plane, sigma) for plane in np.moveaxis(np.asarray(image), 2, 0)], axis=2)


EXACT: dict[str, Any] = {
    "RandomJitter": jittered,
    "RandomGrey": lambda image, params, row: image.convert("L").convert("RGB"),  # noqa: ARG005
    "RandomBlur": blurred,
    "RandomJPEG": lambda image, params, row: round_trip(image, "JPEG", int(params["jpeg_quality"][row])),
    "RandomWebP": lambda image, params, row: round_trip(image, "WEBP", int(params["webp_quality"][row])),
}


@pytest.mark.parametrize("size", [(37, 45), (16, 48), (9, 5)])
@pytest.mark.parametrize("name", EXACT)
def test_a_module_gives_what_the_codec_or_pillow_gives(name: str, size: tuple[int, int]) -> None:
    torch.manual_seed(4)
    op, x = getattr(adapter, name)(p=1.0), photographs(3, *size)
    found = levels(op(x))
    for row, image in enumerate(levels(x)):
        expected = np.asarray(EXACT[name](Image.fromarray(image), op._params, row))
        np.testing.assert_array_equal(found[row], expected)


def test_cutout_makes_one_hole_of_its_side_and_level() -> None:
    torch.manual_seed(0)
    x = torch.zeros(64, 3, 40, 40)
    holes = levels(adapter.RandomCutout(cutout_side=12, cutout_fill=77, p=1.0)(x))[..., 0]
    areas = [int((hole == 77).sum()) for hole in holes]
    assert set(np.unique(holes)) == {0, 77}
    assert max(areas) == 144
    assert min(areas) < 144
    for hole in holes:
        y, x_ = np.nonzero(hole)
        assert len(y) == 0 or (hole[y.min() : y.max() + 1, x_.min() : x_.max() + 1] == 77).all()


def test_noise_has_the_drawn_deviation() -> None:
    torch.manual_seed(0)
    op = adapter.RandomNoise(noise_variance=(100.0, 100.0), p=1.0)
    x = torch.full((4, 3, 64, 64), 128 / 255)
    noise = levels(op(x)).astype(float) + 0.5 - 128  # rounded down
    assert noise.std() == pytest.approx(10, rel=0.03)
    assert abs(noise.mean()) < 0.3
    assert len({one.tobytes() for one in noise}) == 4


def test_sharpening_is_pillows() -> None:
    from PIL import ImageEnhance

    torch.manual_seed(0)
    op, x = adapter.RandomSharpen(sharpen=(0.0, 2.0), p=1.0), photographs()
    found = levels(op(x))
    for row, image in enumerate(levels(x)):
        factor = 1 + float(op._params["sharpen_amount"][row])
        expected = ImageEnhance.Sharpness(Image.fromarray(image)).enhance(factor)
        np.testing.assert_array_equal(found[row], np.asarray(expected))


@pytest.mark.parametrize("name", [op.__name__ for op in adapter.OPS])
@given(p=st.sampled_from([0.0, 0.5, 1.0]), seed=st.integers(0, 2**30))
@settings(max_examples=5, deadline=None)
def test_a_module_is_a_module_of_kornia(name: str, p: float, seed: int) -> None:
    torch.manual_seed(seed)
    container, x = AugmentationSequential(getattr(adapter, name)(p=p)), photographs()
    out = container(x)
    assert out.shape == x.shape
    assert out.dtype is torch.float32
    assert torch.equal(out, (out * 255).round() / 255)
    assert torch.equal(container(x, params=container._params), out)
    if p == 0:
        assert torch.equal(out, x)
    torch.manual_seed(seed)
    assert torch.equal(container(x), out)


@pytest.mark.parametrize("name", [op.__name__ for op in adapter.OPS])
def test_same_on_batch_draws_once(name: str) -> None:
    torch.manual_seed(1)
    x = photographs(1).repeat(5, 1, 1, 1)
    out = getattr(adapter, name)(p=1.0, same_on_batch=True)(x)
    assert all(torch.equal(one, out[0]) for one in out)


def test_skipped_images_keep_what_lies_between_levels() -> None:
    torch.manual_seed(0)
    x = torch.rand(64, 3, 8, 8)
    op = adapter.RandomGrey(p=0.5)
    out = op(x)
    skipped = op._params["batch_prob"] < 0.5
    assert 10 < skipped.sum() < 54
    assert torch.equal(out[skipped], x[skipped])
    assert not torch.equal(out[~skipped], x[~skipped])


def test_one_image_keeps_its_shape() -> None:
    assert adapter.RandomJPEG(p=1.0, keepdim=True)(torch.rand(3, 20, 21)).shape == (3, 20, 21)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("RandomJPEG", {"jpeg_quality": (0, 50)}, r"augment\.jpeg_quality=\(0, 50\)"),
        ("RandomBlur", {"blur_sigma": (2.0, 1.0)}, r"augment\.blur_sigma=\(2.0, 1.0\)"),
        ("RandomNoise", {"p": 1.5}, r"augment\.noise_p=1.5"),
    ],
)
def test_wrong_options_are_refused(name: str, options: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        getattr(adapter, name)(**options)
