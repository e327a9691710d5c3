"""Published detectors: weights in their authors' forms score as the same weights in a checkpoint of ours."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import run
from safetensors.torch import save_file
from scored_images import pixels, png, put, save_untrained
from torch import Tensor

from recon.base.errors import UserError
from train.detector.calibrate import CalibrateConfig, calibrate
from train.detector.detector import Detector
from train.detector.export import ExportConfig, export
from train.detector.score import main
from train.evaluation.evaluate import EvaluateConfig, evaluate
from train.evaluation.figures.scores import read_scores
from train.model.config import FileModel
from train.model.published.load import load_detector

State = dict[str, Tensor]
IMAGES = [pixels(seed, size) for seed, size in enumerate(((24, 20), (17, 29)))]


def reference(folder: Path, content: Any, **config: Any) -> Path:
    """The reference's form: weights.pth with config.yaml beside it."""
    folder.mkdir(exist_ok=True)
    torch.save(content, folder / "weights.pth")
    stated = {"arch": "res50nodown", "model_name": "ours", "norm_type": "resnet", "patch_size": None}
    text = yaml.safe_dump(stated | {"weights_file": "weights.pth"} | config)
    (folder / "config.yaml").write_text(text)
    return folder / "weights.pth"


def logits(path: Path | str, **options: Any) -> list[float]:
    return [one.logit for one in Detector.load(path, device="cpu", **options).score(IMAGES)]


@pytest.fixture(name="small", scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> State:
    """Weights of highpass."""
    path = save_untrained(tmp_path_factory.mktemp("small") / "best.pt")
    state: State = torch.load(path, weights_only=True)["model"]
    return state


@pytest.fixture(name="resnet", scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> tuple[State, str, list[float]]:
    """Weights of res50nodown, the checkpoint of ours that holds them, and its logits."""
    path = save_untrained(tmp_path_factory.mktemp("ours") / "best.pt", backbone="res50nodown")
    return torch.load(path, weights_only=True)["model"], path, logits(path)


def test_weights_in_the_references_form_score_as_the_same_weights_in_a_checkpoint(
    resnet: tuple[State, str, list[float]], tmp_path: Path
) -> None:
    state, _, expected = resnet
    path = reference(tmp_path, {"model": state})
    assert logits(path) == expected
    assert load_detector(str(tmp_path)).path == str(path)  # the folder stands for the weights_file in it


@pytest.mark.parametrize(
    "form",
    [
        lambda state: state,
        lambda state: {"model": {f"module.{name}": value for name, value in state.items()}, "epoch": 3},
        lambda state: {"net": {name: value for name, value in state.items() if "num_batches" not in name}},
        lambda state: {"state_dict": {f"_orig_mod.module.{name}": value for name, value in state.items()}},
    ],
    ids=["plain", "module", "old names", "compiled"],
)
def test_each_way_to_save_a_state_dict_gives_the_same_tensors(
    small: State, tmp_path: Path, form: Callable[[State], Any]
) -> None:
    torch.save(form(small), tmp_path / "weights.pth")
    found = load_detector(str(tmp_path), FileModel(backbone="highpass", normalize="resnet")).content["model"]
    assert set(found) == set(small)
    assert all(torch.equal(found[name], value) for name, value in small.items() if "num_batches" not in name)


def test_the_references_key_names_and_shapes_are_these(resnet: tuple[State, str, list[float]]) -> None:
    state = resnet[0]
    assert len(state) == 320
    for name, shape in {
        "conv1.weight": (64, 3, 7, 7),
        "bn1.running_var": (64,),
        "layer1.0.downsample.0.weight": (256, 64, 1, 1),
        "layer3.5.conv2.weight": (256, 256, 3, 3),
        "layer4.2.bn3.num_batches_tracked": (),
        "fc.weight": (1, 2048),
        "fc.bias": (1,),
    }.items():
        assert tuple(state[name].shape) == shape


def test_two_outputs_become_the_difference_of_the_fake_and_the_real_logit(
    small: State, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    weight, bias = torch.randn(2, 32), torch.randn(2)
    torch.save(small | {"fc.weight": weight, "fc.bias": bias}, tmp_path / "two.pth")
    given = {"backbone": "highpass", "normalize": "resnet"}
    single = []
    for row in range(2):
        one = small | {"fc.weight": weight[row : row + 1], "fc.bias": bias[row : row + 1]}
        torch.save(one, tmp_path / "one.pth")
        single.append(np.array(logits(tmp_path / "one.pth", model=FileModel(**given))))
    heads = {None: 1, "real-fake": 1, "fake-real": -1}
    for head, sign in heads.items():
        found = logits(tmp_path / "two.pth", model=FileModel(**given, head=head))
        np.testing.assert_allclose(found, sign * (single[1] - single[0]), rtol=0, atol=1e-5)
    found = logits(tmp_path / "one.pth", model=FileModel(**given, head="real"))
    np.testing.assert_allclose(found, -single[1], rtol=0, atol=1e-6)
    with pytest.raises(
        UserError, match=r"fc has 2 outputs, but head=real is of 1; a detector has one, or two"
    ):
        logits(tmp_path / "two.pth", model=FileModel(**given, head="real"))


def test_normalisation_and_view_are_those_of_the_config(tmp_path: Path) -> None:
    cases: dict[str, tuple[dict[str, Any], str, str]] = {
        "a": ({"norm_type": "clip", "patch_size": "Clip224"}, "clip", "resize:224:bicubic+crop:224"),
        "b": ({"norm_type": "xception", "patch_size": 96}, "xception", "crop:96"),
        "c": ({"norm_type": "npr", "patch_size": [256]}, "npr", "resize:256+crop:256"),
        "d": ({"arch": "res50stride1"}, "resnet", "whole"),
    }
    state = {"model": {"fc.weight": torch.zeros(1, 2048)}}
    for name, (config, normalize, view) in cases.items():
        found = load_detector(str(reference(tmp_path / name, state, **config)))
        assert found.model == {"backbone": "res50nodown", "normalize": normalize}
        assert found.view == view


@pytest.fixture(name="vit", scope="module")
def small_vit(tmp_path_factory: pytest.TempPathFactory) -> tuple[State, list[float]]:
    """Weights of timm's test_vit, and the logits of its checkpoint on images resized as its config says."""
    pytest.importorskip("timm")
    folder = tmp_path_factory.mktemp("vit")
    path = save_untrained(folder / "best.pt", backbone="timm:test_vit", normalize=".4,.5,.6/.2,.3,.25")
    state = torch.load(path, weights_only=True)["model"]
    plain = {name.removeprefix("timm."): value for name, value in state.items()}
    return plain, logits(path, view="resize:168:bicubic+crop:160")


TIMM = {
    "architecture": "test_vit",
    "num_classes": 1,
    "pretrained_cfg": {
        "input_size": [3, 160, 160], "interpolation": "bicubic", "crop_pct": 0.95, "crop_mode": "center",
        "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25],
    },
}  # fmt: skip

ARGUMENTS = {"num_classes": 1, "in_chans": 3, "global_pool": "token", "img_size": [160, 160]}


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize(
    "config", [TIMM, TIMM | {"model_args": ARGUMENTS}, TIMM["pretrained_cfg"] | {"architecture": "test_vit"}]
)
def test_timms_files_score_as_a_checkpoint_with_their_normalisation_and_view(
    vit: tuple[State, list[float]], tmp_path: Path, name: str, config: dict[str, Any]
) -> None:
    write: Any = save_file if name.endswith("safetensors") else torch.save
    write(vit[0], tmp_path / name)
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert logits(tmp_path / name) == vit[1] == logits(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"global_pool": "max", "model_args": {}}))
    with pytest.raises(UserError, match=r"pooling 'max', but timm:test_vit has 'token', and no option"):
        load_detector(str(tmp_path))


def test_the_names_of_two_outputs_tell_which_is_the_fake(
    vit: tuple[State, list[float]], tmp_path: Path
) -> None:
    weight = torch.cat([vit[0]["head.weight"], torch.zeros_like(vit[0]["head.weight"])])
    bias = torch.cat([vit[0]["head.bias"], torch.zeros(1)])
    save_file(vit[0] | {"head.weight": weight, "head.bias": bias}, tmp_path / "model.safetensors")
    config = tmp_path / "config.json"
    config.write_text(json.dumps(TIMM | {"num_classes": 2, "label_names": ["AI", "Human"]}))
    assert logits(tmp_path) == vit[1]
    config.write_text(json.dumps(TIMM | {"label_names": ["LABEL_0", "LABEL_1"]}))
    with pytest.raises(UserError, match=r"outputs LABEL_0, LABEL_1, which are not .*give --model.head"):
        load_detector(str(tmp_path))
    assert logits(tmp_path, model=FileModel(head="fake-real")) == vit[1]


def test_community_forensics_form_is_a_vit_of_timm(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    torch.manual_seed(1)
    path = save_untrained(tmp_path / "best.pt", backbone="timm:vit_tiny_patch16_224")
    state = torch.load(path, weights_only=True)["model"]
    theirs = {f"vit.{name.removeprefix('timm.')}": value for name, value in state.items()}
    (tmp_path / "hub").mkdir()
    save_file(theirs, tmp_path / "hub/model.safetensors")
    config = {
        "device": "cuda",
        "freeze_backbone": False,
        "input_size": 224,
        "model_size": "tiny",
        "patch_size": 16,
    }
    (tmp_path / "hub/config.json").write_text(json.dumps(config))
    assert load_detector(str(tmp_path / "hub")).view == "resize:256+crop:224"
    expected = logits(path, view="resize:256+crop:224")
    assert logits(tmp_path / "hub") == expected
    torch.save(
        {"model": theirs, "epoch": 1}, tmp_path / "ckpt.pt"
    )  # as their trainer saves it, without config
    by_hand = FileModel(backbone="timm:vit_tiny_patch16_224", normalize="resnet")
    assert logits(tmp_path / "ckpt.pt", model=by_hand, view="resize:256+crop:224") == expected


HEADS = {"query": 0, "key": 1, "value": 2}


def as_transformers(state: State, layers: int, width: int) -> State:
    """A ViT of timm with the names of transformers' ViTForImageClassification."""
    names = {
        "attn.proj": "attention.output.dense", "mlp.fc1": "intermediate.dense", "mlp.fc2": "output.dense",
        "norm1": "layernorm_before", "norm2": "layernorm_after",
    }  # fmt: skip
    found = {
        "vit.embeddings.cls_token": state["cls_token"],
        "vit.embeddings.position_embeddings": state["pos_embed"],
    }
    for end in ("weight", "bias"):
        found[f"vit.embeddings.patch_embeddings.projection.{end}"] = state[f"patch_embed.proj.{end}"]
        found[f"vit.layernorm.{end}"], found[f"classifier.{end}"] = state[f"norm.{end}"], state[f"head.{end}"]
        for layer in range(layers):
            theirs = f"vit.encoder.layer.{layer}"
            for ours_, name in names.items():
                found[f"{theirs}.{name}.{end}"] = state[f"blocks.{layer}.{ours_}.{end}"]
            for name, part in HEADS.items():
                whole = state[f"blocks.{layer}.attn.qkv.{end}"]
                own = whole[part * width : (part + 1) * width]
                found[f"{theirs}.attention.attention.{name}.{end}"] = own
    return {name: value.clone() for name, value in found.items()}


def test_a_vit_of_transformers_scores_as_the_same_weights_in_timm(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    path = save_untrained(tmp_path / "best.pt", backbone="timm:vit_tiny_patch16_224@64", normalize="xception")
    state = torch.load(path, weights_only=True)["model"]
    plain = {name.removeprefix("timm."): value for name, value in state.items()}
    hub = tmp_path / "hub"
    hub.mkdir()
    theirs = as_transformers(plain, layers=12, width=192)
    save_file(theirs, hub / "model.safetensors")
    config = {
        "model_type": "vit", "hidden_size": 192, "num_hidden_layers": 12, "num_attention_heads": 3,
        "intermediate_size": 768, "image_size": 64, "patch_size": 16, "id2label": {"0": "fake"},
    }  # fmt: skip
    (hub / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"does not say its model's normalize"):
        load_detector(str(hub))
    half = [0.5, 0.5, 0.5]
    processor = {"image_mean": half, "image_std": half, "size": {"height": 64, "width": 64}, "resample": 3}
    (hub / "preprocessor_config.json").write_text(json.dumps(processor))
    assert load_detector(str(hub)).view == "resize:64x64:bicubic"
    assert logits(hub) == logits(path, view="resize:64x64:bicubic")
    for change, complaint in (
        ({"num_attention_heads": 4}, r"a ViT of width, layers, heads \(192, 12, 4\), expected one of"),
        ({"hidden_size": None}, "a ViT of width"),
        ({"model_type": "swin"}, "nor transformers' model_type vit"),
    ):
        (hub / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(UserError, match=complaint):
            load_detector(str(hub))


def test_evaluate_calibrate_and_export_take_a_published_detector(tmp_path: Path) -> None:
    path = save_untrained(tmp_path / "best.pt", gain=-50)
    torch.save(torch.load(path, weights_only=True)["model"], tmp_path / "theirs.pth")
    given = FileModel(backbone="highpass", normalize="resnet")
    for number in range(6):
        put(tmp_path / f"val/{('0_real', '1_fake')[number % 2]}/{number}.png", png(number, (24, 20)))
    scores = []
    for checkpoint, model in ((path, FileModel()), (str(tmp_path / "theirs.pth"), given)):
        out = str(tmp_path / "out" / Path(checkpoint).stem)
        options = {"checkpoint": checkpoint, "data": str(tmp_path / "val"), "device": "cpu", "model": model}
        evaluate(EvaluateConfig(**options, out=out, resamples=2))
        found = calibrate(CalibrateConfig(**options))
        names = export(ExportConfig(checkpoint=checkpoint, out=f"{out}/export", model=model))
        assert "detector.safetensors" in names
        exported = Detector.load(f"{out}/export", device="cpu")
        assert exported.decision.threshold == found.threshold
        scores.append((read_scores(out).logits_N.tolist(), found.threshold, logits(f"{out}/export")))
    assert scores[0] == scores[1]
    with pytest.raises(UserError, match=r"belongs to another checkpoint .*options --model\.\* differ"):
        Detector.load(
            tmp_path / "theirs.pth", device="cpu", model=FileModel(**vars(given) | {"head": "real"})
        )


def test_the_command_scores_a_published_detector_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_untrained(tmp_path / "best.pt", normalize="clip")
    torch.save(torch.load(path, weights_only=True)["model"], tmp_path / "theirs.pth")
    image = put(tmp_path / "a.png", png(1))
    given = ("--model.backbone", "highpass", "--model.normalize", "clip", "--device", "cpu")
    lines = []
    for words in ((path, image, "--device", "cpu"), (tmp_path / "theirs.pth", image, *given)):
        assert run(monkeypatch, main, *words) == 0
        lines.append(capsys.readouterr().out)
    assert lines[0] == lines[1]
