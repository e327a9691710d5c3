"""Equal images get equal scores, bit for bit: in any place, in any batch, on any kind of x86 processor."""

import os
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
import torch
from conftest import photograph, python
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from recon.base.errors import UserError
from train.evaluation.metrics import summarize
from train.evaluation.scoring import Waiting, images_a_call, logits_of, pair_logits, score
from train.model.backbones import HighPass
from train.model.build import build_model
from train.model.config import ModelConfig

SIDES = {"highpass": 48, "res18nodown": 24, "timm:test_vit": 160, "timm:test_convnext": 32}
INSTRUCTIONS = [
    "",
    "ATEN_CPU_CAPABILITY=default",
    "ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2",
]


@cache
def model(backbone: str) -> nn.Module:
    torch.manual_seed(0)
    return build_model(ModelConfig(backbone=backbone)).eval()


def stream(numbers: list[int], side: int) -> Iterator[Waiting]:
    for index, number in enumerate(numbers):
        yield Waiting(index=index, pixels=photograph(side, side, number))


def scores(backbone: str, numbers: list[int], batch_size: int, normalization: str = "resnet") -> list[float]:
    """The score of each image of the list, in its order."""
    found = score(
        model(backbone),
        stream(numbers, SIDES[backbone]),
        batch_size=batch_size,
        device=torch.device("cpu"),
        normalization=normalization,
    )
    by_place = {place: logit for places, logits in found for place, logit in zip(places, logits, strict=True)}
    return [float(by_place[place]) for place in range(len(numbers))]


def validation_scores(backbone: str, numbers: list[int], normalization: str = "resnet") -> torch.Tensor:
    """(B, P) scores of pairs of equal halves."""
    side = SIDES[backbone]
    one_BCHW = torch.stack(
        [torch.from_numpy(photograph(side, side, one)).permute(2, 0, 1) for one in numbers]
    )
    with torch.inference_mode():
        return pair_logits(model(backbone), torch.stack([one_BCHW, one_BCHW], dim=1), normalization)


def same_by_number(numbers: list[int], found: list[float]) -> bool:
    return len(set(zip(numbers, found, strict=True))) == len(set(numbers))


def check(backbone: str, numbers: list[int], batch_size: int, normalization: str = "resnet") -> None:
    pairs_BP = validation_scores(backbone, numbers, normalization)
    assert torch.equal(pairs_BP[:, 0], pairs_BP[:, 1])
    evaluated = scores(backbone, numbers, batch_size, normalization)
    assert same_by_number(numbers * 2, evaluated + pairs_BP[:, 0].tolist())


@pytest.mark.parametrize("backbone", SIDES)
@settings(max_examples=4, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=2, max_size=6), st.integers(1, 16))
def test_equal_images_get_equal_scores_in_any_place_of_any_batch(
    backbone: str, numbers: list[int], batch_size: int
) -> None:
    check(backbone, numbers, batch_size)


@pytest.mark.parametrize("normalization", ["clip", "npr", "spec", "fft2", "cooc"])
def test_equal_images_get_equal_scores_under_every_normalisation(normalization: str) -> None:
    check("res18nodown", [0, 1, 0, 0, 1], 16, normalization)


@pytest.mark.parametrize("instructions", INSTRUCTIONS)
def test_equal_images_get_equal_scores_whatever_the_processor_can(instructions: str) -> None:
    script = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "import torch\n"
        "from test_train_scores import SIDES, check\n"
        "for threads in (1, 2):\n"
        "    torch.set_num_threads(threads)\n"
        "    for backbone in SIDES: check(backbone, [0, 1, 0], 16)\n"
    )
    chosen = dict(one.split("=") for one in instructions.split())
    result = python(script, env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"} | chosen)
    assert result.returncode == 0, result.stderr


def test_a_gpu_gets_both_halves_in_calls_of_one_shape_and_one_image_a_call_where_asked() -> None:
    seen: list[tuple[int, ...]] = []

    def watched(x_NCHW: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(x_NCHW.shape))
        return x_NCHW.sum((1, 2, 3))

    pairs_BPCHW = torch.zeros(5, 2, 3, 8, 8, device="meta")
    assert pair_logits(watched, pairs_BPCHW, "resnet").shape == (5, 2)  # type: ignore[arg-type]
    assert seen == [(5, 3, 8, 8), (5, 3, 8, 8)]
    assert images_a_call(torch.device("cuda"), 1) == 1
    assert images_a_call(torch.device("cuda"), 16) == 16


def test_equal_scores_of_pairs_are_ties() -> None:
    logits_BP = np.repeat(np.random.default_rng(0).normal(size=(24, 1)).astype(np.float32), 2, axis=1)
    labels_BP = np.broadcast_to([0, 1], logits_BP.shape)
    summary = summarize(labels_BP.ravel(), logits_BP.ravel())
    assert summary.auc == 0.5
    assert summary.balanced_accuracy == 0.5


def test_the_residuals_of_highpass_are_the_convolutions_of_their_taps() -> None:
    x_13HW = torch.from_numpy(photograph(21, 34, 5)).permute(2, 0, 1)[None].float() / 255 / 0.5
    taps = torch.tensor([1.0, -3.0, 3.0, -1.0]).repeat(3, 1) * (255 * 0.5 / 3 / HighPass.SCALE)
    pad = torch.nn.functional.pad
    across = torch.conv2d(pad(x_13HW, (1, 2, 0, 0), mode="replicate"), taps.view(3, 1, 1, 4), groups=3)
    down = torch.conv2d(pad(x_13HW, (0, 0, 1, 2), mode="replicate"), taps.view(3, 1, 4, 1), groups=3)
    found = HighPass((0.5, 0.5, 0.5))(x_13HW)
    torch.testing.assert_close(found, torch.cat([across, down], dim=1).tanh(), rtol=0, atol=1e-5)


def test_a_model_of_one_size_says_so_in_one_line() -> None:
    class Fixed(nn.Module):
        def forward(self, _x_N3HW: torch.Tensor) -> torch.Tensor:
            raise AssertionError("Input width (16) doesn't match model (224).")  # timm's words

    complaint = r"the model can't take 16x8 pixels: Input width \(16\) doesn't match .*choose a --view"
    with pytest.raises(UserError, match=complaint):
        logits_of(Fixed(), np.zeros((1, 8, 16, 3), np.uint8), torch.device("cpu"))
