"""Each normalisation against a plain numpy version, and the model that takes what it gives."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from recon.base.errors import UserError
from recon.image.codec import Picture, encode
from train.evaluation.evaluate import EvaluateConfig, evaluate
from train.model.build import build_model, normalization_of
from train.model.checkpoint import load_checkpoint
from train.model.config import ModelConfig
from train.model.normalize import NORMALIZATIONS, normalize

Plane = NDArray[Any]


def images(count: int = 3, height: int = 33, width: int = 40) -> NDArray[np.uint8]:
    """(B, H, W, 3): noise over a ramp, so that no spectrum is flat."""
    rng = np.random.default_rng(5)
    ramp = np.linspace(0, 150, width)[None, None, :, None]
    return (ramp + rng.integers(0, 100, (count, height, width, 3))).astype(np.uint8)


def in_torch(x_BHWC: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(x_BHWC).permute(0, 3, 1, 2)


def by_plane(plane_of: Any, x_HWC: Plane) -> Plane:
    return np.stack([plane_of(x_HWC[..., channel]) for channel in range(3)])


def affine(mean: tuple[float, ...], std: tuple[float, ...]) -> Any:
    return lambda x_HWC: ((x_HWC / 255 - np.array(mean)) / np.array(std)).transpose(2, 0, 1)


RESNET = affine((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def npr(x_HWC: Plane) -> Plane:
    x = RESNET(x_HWC)[:, : len(x_HWC) // 2 * 2, : x_HWC.shape[1] // 2 * 2]
    return (x - x[:, ::2, ::2].repeat(2, axis=1).repeat(2, axis=2)) * 2 / 3


def residue3(x_HWC: Plane) -> Plane:
    x = x_HWC.astype(np.float64) / 32

    def down(x_HW: Plane) -> Plane:
        return np.array(
            [
                [
                    -x_HW[y - 1, c] + 3 * x_HW[y, c] - 3 * x_HW[y + 1, c] + x_HW[y + 2, c]
                    for c in range(2, x_HW.shape[1] - 2)
                ]
                for y in range(2, x_HW.shape[0] - 2)
            ]
        )

    return np.concatenate([by_plane(down, x), by_plane(lambda x_HW: down(x_HW.T).T, x)])


def spec(x_HWC: Plane) -> Plane:
    def plane(x_HW: Plane) -> Plane:
        log = np.log(np.abs(np.fft.fft2(x_HW / 255)) + 1e-3)
        low, high = np.percentile(log, 5), np.percentile(log, 95)
        return np.clip(2 * (log - low) / (high - low) - 1, -1, 1)

    return by_plane(plane, x_HWC.astype(np.float64))


def fft2(x_HWC: Plane) -> Plane:
    return by_plane(lambda x: np.abs(np.fft.fftshift(np.fft.fft2(x / 256))) ** 2 / 512, x_HWC)


def cooc(x_HWC: Plane) -> Plane:
    def plane(x_HW: Plane) -> Plane:
        share = np.zeros((256, 256))
        for level, lower_right in zip(x_HW[:-1, :-1].ravel(), x_HW[1:, 1:].ravel(), strict=True):
            share[level, lower_right] += 1
        return share / share.sum()

    return by_plane(plane, x_HWC)


PLAIN = {
    "resnet": RESNET,
    "clip": affine((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "xception": lambda x_HWC: (x_HWC / 255 * 2 - 1).transpose(2, 0, 1),
    "npr": npr,
    "residue3": residue3,
    "spec": spec,
    "fft2": fft2,
    "cooc": cooc,
}
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="GPU"))]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", [(33, 40), (16, 16), (5, 8)])
@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_each_equals_plain_numpy(name: str, size: tuple[int, int], device: str) -> None:
    x_BHWC = images(3, *size)
    found = normalize(in_torch(x_BHWC).to(device), name)
    expected = np.stack([PLAIN[name](x_HWC) for x_HWC in x_BHWC])
    assert found.dtype is torch.float32
    assert found.device.type == device
    assert found.shape[1] == NORMALIZATIONS[name].channels
    atol = 2e-6 * max(1.0, np.abs(expected).max())
    atol = 1e-4 if name == "spec" else atol  # the logarithm of small magnitudes
    np.testing.assert_allclose(found.cpu().numpy(), expected, rtol=1e-5, atol=atol)


def test_resnet_is_to_the_bit_what_it_was() -> None:
    x_B3HW = in_torch(images())
    mean = torch.tensor((0.485, 0.456, 0.406)).view(1, 3, 1, 1)
    std = torch.tensor((0.229, 0.224, 0.225)).view(1, 3, 1, 1)
    assert torch.equal(normalize(x_B3HW), (x_B3HW.float() / 255.0 - mean) / std)


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_floats_give_what_their_levels_give(name: str) -> None:
    x_B3HW = in_torch(images())
    floats, levels = normalize(x_B3HW.float() / 255, name), normalize(x_B3HW, name)
    torch.testing.assert_close(floats, levels, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_a_flat_image_gives_finite_numbers(name: str) -> None:
    for level in (0, 7, 255):
        assert normalize(torch.full((1, 3, 16, 16), level, dtype=torch.uint8), name).isfinite().all()


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_an_image_does_not_depend_on_its_batch(name: str) -> None:
    x_B3HW = in_torch(images(4))
    torch.testing.assert_close(normalize(x_B3HW[2:3], name), normalize(x_B3HW, name)[2:3], rtol=0, atol=1e-5)
    twice = normalize(torch.cat([x_B3HW[:1], x_B3HW[:1]]), name)
    assert torch.equal(twice[0], twice[1])


def test_an_unknown_name_lists_the_choices() -> None:
    expected = rf"model\.normalize=imagenet, expected one of {', '.join(NORMALIZATIONS)}"
    with pytest.raises(UserError, match=expected):
        normalize(in_torch(images()), "imagenet")
    with pytest.raises(UserError, match=expected):
        build_model(ModelConfig(backbone="highpass", normalize="imagenet"))


def test_too_small_an_image_is_named() -> None:
    with pytest.raises(UserError, match=r"model\.normalize=residue3 needs 5x5 pixels, found 9x4"):
        normalize(torch.zeros(1, 3, 4, 9, dtype=torch.uint8), "residue3")


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_a_backbone_takes_what_comes_out(name: str) -> None:
    config = ModelConfig(backbone="timm:resnet10t", normalize=name)
    model = build_model(config).eval()
    assert model(normalize(in_torch(images()), name)).shape == (3,)


def test_the_stem_of_six_channels_begins_like_torchvisions() -> None:
    torch.manual_seed(3)
    model = build_model(ModelConfig(backbone="res18nodown", normalize="residue3")).eval()
    weight = model.state_dict()["conv1.weight"]
    assert weight.shape == (64, 6, 7, 7)
    assert weight.std() == pytest.approx((2 / (64 * 49)) ** 0.5, rel=0.05)
    assert model(normalize(in_torch(images(1, 12, 12)), "residue3")).shape == (1,)


@pytest.mark.parametrize("name", ["clip", "xception"])
def test_highpass_sees_the_same_residuals_however_pixels_are_scaled(name: str) -> None:
    x_B3HW = in_torch(images())
    resnet, other = (build_model(ModelConfig(backbone="highpass", normalize=one)) for one in ("resnet", name))
    expected = resnet.get_submodule("residual")(normalize(x_B3HW))
    torch.testing.assert_close(
        other.get_submodule("residual")(normalize(x_B3HW, name)), expected, rtol=0, atol=1e-4
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"backbone": "highpass", "normalize": "spec"}, "expected model.normalize resnet, clip or xception"),
        (
            {"backbone": "res18nodown", "normalize": "residue3", "weights": "imagenet"},
            "imagenet takes 3 channels, model.normalize=residue3 gives 6",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(options: dict[str, str], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        build_model(ModelConfig(**options))


def test_evaluation_normalises_as_training_did(tmp_path: Path) -> None:
    torch.manual_seed(0)
    options = {"backbone": "res18nodown", "weights": None, "normalize": "residue3"}
    model = build_model(ModelConfig(**options)).eval()  # type: ignore[arg-type]
    content = {"config": {"model": options}, "model": model.state_dict()}
    torch.save({"format": "pairstream-checkpoint/1"} | content, tmp_path / "best.pt")
    assert normalization_of(load_checkpoint(tmp_path / "best.pt")) == "residue3"
    x_BHWC = images(2, 12, 12)
    for kind, pixels in zip(("0_real", "1_fake"), x_BHWC, strict=True):
        (tmp_path / f"data/{kind}").mkdir(parents=True)
        data = encode(pixels, Picture(pixels=pixels, codec="png"), "png")
        (tmp_path / f"data/{kind}/a.png").write_bytes(data)
    config = {"checkpoint": str(tmp_path / "best.pt"), "data": str(tmp_path / "data")}
    evaluate(EvaluateConfig(**config, out=str(tmp_path / "out"), device="cpu"))  # type: ignore[arg-type]
    with (tmp_path / "out/scores.csv").open(newline="") as file:
        found = [float(row["logit"]) for row in csv.DictReader(file)]
    with torch.inference_mode():  # an image a call, as evaluation does
        expected = [
            model(normalize(in_torch(x_HWC[None]).contiguous(), "residue3")).item() for x_HWC in x_BHWC
        ]
    np.testing.assert_allclose(found, expected, rtol=1e-6)  # scores.csv has seven digits


def test_a_checkpoint_from_before_there_was_a_choice_is_resnets() -> None:
    assert normalization_of({"config": {"model": {"backbone": "highpass"}}}) == "resnet"
