"""Files that are no detector are refused in one line; DDA's LoRA is merged as its layers add it."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import run
from safetensors.torch import save_file
from scored_images import pixels, png, put, save_untrained
from torch import Tensor

from recon.base.errors import UserError
from train.detector.detector import Detector
from train.detector.score import main
from train.model.build import build_model
from train.model.config import FileModel, ModelConfig
from train.model.published.load import load_detector
from train.model.published.lora import merged

State = dict[str, Tensor]
HIGHPASS = FileModel(backbone="highpass", normalize="resnet")


@pytest.fixture(name="small", scope="module")
def few() -> State:
    torch.manual_seed(0)
    return dict(build_model(ModelConfig(backbone="highpass")).state_dict())


def refusal(place: Path, given: FileModel = HIGHPASS) -> str:
    with pytest.raises(UserError) as caught:
        load_detector(str(place), given).build()
    assert "\n" not in str(caught.value)
    return str(caught.value)


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('ran')",)


def test_what_holds_no_plain_tensors_is_refused_and_no_code_is_run(tmp_path: Path, small: State) -> None:
    path = tmp_path / "weights.pth"
    cases: list[tuple[Any, str]] = [
        ({"model": small, "opt": Bomb()}, "holds more than tensors (exec), which could run code"),
        ([1, 2], "holds a list, expected tensors by name"),
        ({}, "holds a dict, expected tensors by name"),
        ({"epoch": 3, "fc.weight": torch.ones(1)}, "1 of 2 values are no tensors, such as epoch"),
        ({"model": small, "format": "pairstream-checkpoint/9"}, "format 'pairstream-checkpoint/9', expected"),
    ]
    for content, complaint in cases:
        torch.save(content, path)
        assert complaint in refusal(path)
    whole = path.read_bytes()
    for data, complaint in ((b"", "no whole"), (b"text", "no whole"), (whole[:-200], "no whole")):
        path.write_bytes(data)
        assert complaint in refusal(path)
    damaged = bytearray(whole)
    damaged[whole.index(small["fc.bias"].numpy().tobytes())] ^= 1
    path.write_bytes(damaged)
    assert "CRC-32 differs" in refusal(path)
    damaged = bytearray(whole)
    damaged[whole.rindex(b"PK\x01\x02")] ^= 1  # the list of the files in it
    path.write_bytes(damaged)
    assert "no whole" in refusal(path)
    (tmp_path / "model.safetensors").write_bytes(b"x" * 100)
    assert "is damaged" in refusal(tmp_path / "model.safetensors")


def test_names_that_differ_are_listed_by_kind_with_their_numbers(tmp_path: Path, small: State) -> None:
    state = {name: value for name, value in small.items() if not name.startswith("block1")}
    state |= {"fc.weight": torch.zeros(1, 7), **{f"extra{number}": torch.ones(2) for number in range(4)}}
    torch.save(state, tmp_path / "weights.pth")
    text = refusal(tmp_path / "weights.pth")
    for part in (
        "weights.pth is a checkpoint of another model than its backbone highpass: ",
        "highpass: expected fc.weight (1, 32), found (1, 7); expected block1.0.weight (16, 6, 3, 3), ",
        "and 2 more missing; found extra0 (2,), expected none; ",
        "and 1 more unexpected",
    ):
        assert part in text
    torch.save(
        small | {"fc.weight": torch.zeros(1000, 32), "fc.bias": torch.zeros(1000)}, tmp_path / "weights.pth"
    )
    assert "fc has 1000 outputs, but head=fake is of 1" in refusal(tmp_path / "weights.pth")


def test_what_a_file_does_not_say_and_nobody_gave_is_named(tmp_path: Path, small: State) -> None:
    path = tmp_path / "weights.pth"
    torch.save(small, path)
    assert "does not say its model's backbone and normalize" in refusal(path, FileModel())
    assert "does not say its model's normalize" in refusal(path, FileModel(backbone="highpass"))
    assert "unknown backbone 'resnet'" in refusal(path, FileModel(backbone="resnet", normalize="resnet"))
    wrongs = ("imagenet", "1,2,3", "1,2/3,4", ".5,.5,.5/0,.1,.1", "nan,0,0/1,1,1", "a,b,c/1,1,1")
    for wrong in wrongs:
        assert f"model.normalize={wrong}, expected one of" in refusal(
            path, FileModel(backbone="highpass", normalize=wrong)
        )
    assert "lora_alpha=1 would be ignored" in refusal(path, FileModel(**vars(HIGHPASS) | {"lora_alpha": 1}))


def test_what_a_file_says_itself_can_not_be_given(tmp_path: Path) -> None:
    path = save_untrained(tmp_path / "best.pt")
    assert "model.backbone=highpass would be ignored" in refusal(Path(path), FileModel(backbone="highpass"))


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("config.yaml", "arch: [", "config.yaml can't be read: "),
        ("config.yaml", "- a", "config.yaml holds a list, expected options by name"),
        (
            "config.yaml",
            "arch: res101",
            "arch 'res101', expected one of res50nodown, res50stride1; or give --model.",
        ),
        ("config.yaml", "arch: opencliplinear_clipL14openai", "its file holds the last layer alone"),
        ("config.yaml", "{arch: res50nodown, norm_type: x}", "model.normalize=x, expected one of"),
        (
            "config.yaml",
            "{arch: res50nodown, norm_type: clip, patch_size: -1}",
            "patch_size -1, expected null",
        ),
        ("config.yaml", "weights_file: others.pth", "does not say its model's backbone and normalize"),
        ("config.json", "{", "config.json can't be read: "),
        ("config.json", "{}", "has neither timm's architecture, nor Community Forensics'"),
        (
            "config.json",
            '{"architecture": "x"}',
            "has another form than it seems to have: KeyError('input_size')",
        ),
        (
            "config.json",
            json.dumps({"architecture": "resnet18", "model_args": {"depth": 3}}),
            "model_args depth of timm can't be stated here",
        ),
        (
            "config.json",
            json.dumps({"architecture": "resnet18", "model_args": {"num_classes": 2, "in_chans": 4}}),
            "model_args in_chans of timm can't be stated here",
        ),
        (
            "config.json",
            json.dumps({"architecture": "resnet18", "input_size": [3, 32, 64]}),
            "inputs of 64x32 pixels, expected squares",
        ),
        (
            "config.json",
            json.dumps(
                {
                    "architecture": "resnet18",
                    "input_size": [3, 32, 32],
                    "mean": [0] * 3,
                    "std": [1] * 3,
                    "crop_mode": "border",
                }
            ),
            "crop_mode 'border', expected center or squash",
        ),
    ],
)
def test_configs_that_state_nothing_usable_are_refused(
    tmp_path: Path, small: State, name: str, text: str, complaint: str
) -> None:
    torch.save(small, tmp_path / "weights.pth")
    (tmp_path / name).write_text(text)
    assert complaint in refusal(tmp_path / "weights.pth", FileModel())


def test_a_checkpoint_that_can_not_be_used_is_one_line_and_status_2(
    tmp_path: Path, small: State, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image = put(tmp_path / "a.png", png(1))
    torch.save(small, tmp_path / "theirs.pth")
    other = save_untrained(tmp_path / "other.pt")
    content = torch.load(other, weights_only=True)
    content["config"]["model"]["backbone"] = "res18nodown"
    torch.save(content, other)
    (tmp_path / "empty").mkdir()
    cases: dict[str, list[Any]] = {
        "other.pt is a checkpoint of another model than its backbone res18nodown": [other],
        "theirs.pth is a checkpoint of another model than its backbone res18nodown": [
            tmp_path / "theirs.pth", "--model.backbone", "res18nodown", "--model.normalize", "resnet",
        ],
        "is a folder without detector.safetensors, model.safetensors": [tmp_path / "empty"],
        "gone.pth not found": [tmp_path / "gone.pth"],
        "crop=8 is view=crop:8, but view=whole was given": [other, "--view", "whole", "--crop", "8"],
        "view=nine:3: expected whole, crop:N": [other, "--view", "nine:3"],
        "can't write": [other, "--csv", tmp_path],
    }  # fmt: skip
    for complaint, (checkpoint, *words) in cases.items():
        assert run(monkeypatch, main, checkpoint, image, "--device", "cpu", *words) == 2, complaint
        error = capsys.readouterr().err
        assert (complaint in error, error.count("\n"), "Traceback" in error) == (True, 1, False), error


RANK, ALPHA = 3, 6.0


def as_dda(state: State) -> State:
    """A DINOv2 of timm with DDA's names, and LoRA of random factors beside each linear layer."""
    found = {"base_model.fc.weight": state["head.weight"], "base_model.fc.bias": state["head.bias"]}
    found["base_model.model.mask_token"] = torch.zeros(1, state["cls_token"].shape[-1])
    for name, value in state.items():
        if name.startswith("head."):
            continue
        layer, _, end = name.rpartition(".")
        if ".attn." not in name and ".mlp." not in name:
            found[f"base_model.model.{name}"] = value
            continue
        found[f"base_model.model.{layer}.original_layer.{end}"] = value
        if end == "weight":
            found[f"base_model.model.{layer}.lora.lora_A"] = torch.randn(RANK, value.shape[1]) / 50
            found[f"base_model.model.{layer}.lora.lora_B"] = torch.randn(value.shape[0], RANK) / 50
    return found


@pytest.fixture(name="dda", scope="module")
def small_dinov2() -> tuple[State, State]:
    """Weights of timm's smallest DINOv2, with its 37 x 37 positions, and the same in DDA's form."""
    pytest.importorskip("timm")
    torch.manual_seed(5)
    model = build_model(ModelConfig(backbone="timm:vit_small_patch14_dinov2", normalize="clip"))
    state = {name.removeprefix("timm."): value for name, value in model.state_dict().items()}
    return state, as_dda(state)


def test_dda_scores_as_its_merged_weights_in_a_checkpoint(dda: tuple[State, State], tmp_path: Path) -> None:
    state, theirs = dda
    torch.save({"model": {f"module.{name}": value for name, value in theirs.items()}}, tmp_path / "ckpt.pth")
    backbone = "timm:vit_small_patch14_dinov2@56"
    expected = dict(state)
    for name in state:
        layer = f"base_model.model.{name.removesuffix('.weight')}.lora.lora_"
        if f"{layer}A" in theirs:
            expected[name] = state[name] + ALPHA / RANK * (theirs[f"{layer}B"] @ theirs[f"{layer}A"])
    grid = state["pos_embed"][:, 1:].reshape(1, 37, 37, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, scale_factor=(4.1 / 37, 4.1 / 37), mode="bicubic")  # DINOv2's own rule
    expected["pos_embed"] = torch.cat(
        [state["pos_embed"][:, :1], grid.permute(0, 2, 3, 1).reshape(1, 16, -1)], dim=1
    )
    model = {"backbone": backbone, "normalize": "clip"}
    named = {f"timm.{name}": value for name, value in expected.items()}
    torch.save(
        {"format": "pairstream-checkpoint/1", "config": {"model": model}, "model": named},
        tmp_path / "best.pt",
    )
    image = pixels(1, (60, 70))
    ours = Detector.load(tmp_path / "best.pt", device="cpu", crop=56).score([image])
    given = FileModel(backbone=backbone, lora_alpha=ALPHA)
    assert Detector.load(tmp_path / "ckpt.pth", device="cpu", model=given).score([image]) == ours


def test_a_merged_layer_gives_what_layer_and_lora_give_together(dda: tuple[State, State]) -> None:
    state, theirs = dda
    found = merged(theirs, ALPHA, 1370, "x")
    name = "blocks.3.mlp.fc1"
    x_NI = torch.randn(5, 384)
    a_RI, b_OR = (theirs[f"base_model.model.{name}.lora.lora_{one}"] for one in "AB")
    together = F.linear(x_NI, state[f"{name}.weight"]) + (x_NI @ a_RI.T @ b_OR.T) * (ALPHA / RANK)
    torch.testing.assert_close(F.linear(x_NI, found[f"{name}.weight"]), together, rtol=0, atol=1e-4)
    assert torch.equal(found["pos_embed"], state["pos_embed"])  # of its own grid


def test_dda_says_its_network_normalisation_and_view_but_not_its_alpha(
    dda: tuple[State, State], tmp_path: Path
) -> None:
    theirs = dda[1]
    path = tmp_path / "ckpt.pth"
    torch.save({"model": theirs}, path)
    assert "not the alpha that scales them; give --model.lora_alpha" in refusal(path, FileModel())
    found = load_detector(str(path), FileModel(lora_alpha=1))
    assert found.sha256 == load_detector(str(path), FileModel(lora_alpha=1.0)).sha256  # the command's number
    assert found.model == {"backbone": "timm:vit_small_patch14_dinov2@336", "normalize": "clip"}
    assert found.view == "crop:336"
    assert found.content["model"]["timm.pos_embed"].shape == (1, math.ceil(336 / 14) ** 2 + 1, 384)
    half = {
        name: value
        for name, value in theirs.items()
        if name != "base_model.model.blocks.0.mlp.fc1.lora.lora_B"
    }
    torch.save(half, path)
    assert "expected base_model.model.blocks.0.mlp.fc1.lora.lora_A (R, I)" in refusal(
        path, FileModel(lora_alpha=1)
    )
    torch.save({"model": theirs}, path)
    other = FileModel(backbone="highpass", lora_alpha=1)
    assert "of another model than its backbone highpass" in refusal(path, other)
    save_file({"layer.lora_A.default.weight": torch.zeros(2, 3)}, tmp_path / "adapter.safetensors")
    assert "of another model than its backbone highpass" in refusal(tmp_path / "adapter.safetensors", other)
    assert "has LoRA, but not as DDA" in refusal(tmp_path / "adapter.safetensors", FileModel())
