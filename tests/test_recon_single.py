"""Autoencoders in single files reconstruct as their folders do, to the bit; damage is one line."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from foreign_files import BLOCKS, TINY, ldm_tensors, random_model, save_tensors, taesd_halves
from recon_images import config, noise
from safetensors import SafetensorError

from recon.base.errors import UserError
from recon.models.files.source import open_source
from recon.models.load import load
from recon.models.network import from_pretrained
from recon.models.types import Autoencoder
from recon.reconstruct import reconstruct

LATENT_DIFFUSION: dict[str, tuple[str, dict[str, Any]]] = {
    "sd": ("AutoencoderKL", {**BLOCKS, "latent_channels": 4}),
    "flux": (
        "AutoencoderKL",
        {**BLOCKS, "latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False},
    ),
    "three-stages": (
        "AutoencoderKL",
        {
            "block_out_channels": (32, 32, 64),
            "down_block_types": ("DownEncoderBlock2D",) * 3,
            "up_block_types": ("UpDecoderBlock2D",) * 3,
            "layers_per_block": 2,
            "mid_block_add_attention": False,
        },
    ),
    "vq": ("VQModel", {**BLOCKS, "latent_channels": 4, "num_vq_embeddings": 16}),
    "vq-attention": (
        "VQModel",
        {
            **BLOCKS,
            "down_block_types": ("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
            "up_block_types": ("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
            "latent_channels": 3,
            "num_vq_embeddings": 16,
        },
    ),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, torch.nn.Module]]:
    """Gives a random model of `LATENT_DIFFUSION` and the folder that save_pretrained wrote of it."""
    root, made = tmp_path_factory.mktemp("saved"), dict[str, tuple[Path, torch.nn.Module]]()

    def give(name: str) -> tuple[Path, torch.nn.Module]:
        if name not in made:
            model_class, settings = LATENT_DIFFUSION[name]
            made[name] = root / name, random_model(model_class, root / name, **settings)
        return made[name]

    return give


def pixels(autoencoder: Autoencoder) -> np.ndarray[Any, Any]:
    [fake] = reconstruct(autoencoder, [noise(13, 22)], ["key"], 1)
    return fake


def check_equal(file: Path, folder: Path, **options: Any) -> None:
    """A file and a folder give the same pixels, and records that differ in names and hash alone."""
    one, other = load(config(file, **options)), load(config(folder, **options))
    assert np.array_equal(pixels(one), pixels(other))
    named = {"autoencoder": "", "weights_sha256": "", "subfolder": None}
    assert replace(one.provenance, **named) == replace(other.provenance, **named)


@pytest.mark.parametrize("name", LATENT_DIFFUSION)
@pytest.mark.parametrize(("prefix", "suffix"), [("", ".safetensors"), ("first_stage_model.", ".ckpt")])
def test_file_of_the_latent_diffusion_family_reconstructs_as_its_folder(
    saved: Any, tmp_path: Path, name: str, prefix: str, suffix: str
) -> None:
    folder, model = saved(name)
    check_equal(save_tensors(ldm_tensors(model, prefix), tmp_path / f"ae{suffix}", epoch=3), folder)


@pytest.mark.parametrize("prefix", ["first_stage_model.", "vae."])
def test_autoencoder_is_taken_out_of_a_whole_model(saved: Any, tmp_path: Path, prefix: str) -> None:
    folder, model = saved("sd")
    others = {
        "model.diffusion_model.input_blocks.0.0.weight": torch.ones(4, 4),
        "model.diffusion_model.conv_in.weight": torch.ones(4, 4),
        "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.ones(1, 77),
        "model_ema.decay": torch.ones(1),
    }
    file = save_tensors({**others, **ldm_tensors(model, prefix)}, tmp_path / "v1-5-pruned.safetensors")
    check_equal(file, folder)
    check_equal(file, folder, dtype="bfloat16", posterior="sample", seed=3)
    assert load(config(file)).provenance.autoencoder == "v1-5-pruned"


def test_pickle_of_the_oldest_kind_loads(saved: Any, tmp_path: Path) -> None:
    folder, model = saved("sd")
    torch.save(ldm_tensors(model), tmp_path / "kl-f8.pt", _use_new_zipfile_serialization=False)
    check_equal(tmp_path / "kl-f8.pt", folder)


def test_what_only_the_training_used_is_left_out(saved: Any, tmp_path: Path) -> None:
    folder, model = saved("sd")
    training = {"loss.logvar": torch.ones(()), "loss.discriminator.main.0.weight": torch.ones(2, 2)}
    check_equal(save_tensors({**ldm_tensors(model), **training}, tmp_path / "kl-f8.ckpt"), folder)


@pytest.mark.parametrize("old", [False, True])
def test_file_with_diffusers_own_names_and_no_config_loads(saved: Any, tmp_path: Path, old: bool) -> None:
    folder, model = saved("sd")
    tensors = model.state_dict()
    for new_name, old_name in {
        "to_q": "query",
        "to_k": "key",
        "to_v": "value",
        "to_out.0": "proj_attn",
    }.items():
        tensors = {name.replace(new_name, old_name) if old else name: one for name, one in tensors.items()}
    check_equal(save_tensors(tensors, tmp_path / "diffusion_pytorch_model.safetensors"), folder)


@pytest.mark.parametrize("inner_quant", [False, True])
def test_file_of_flux2_is_that_class_with_its_own_decoder(tmp_path: Path, inner_quant: bool) -> None:
    settings = {**BLOCKS, "decoder_block_out_channels": (32, 32), "latent_channels": 8}
    model = random_model("AutoencoderKLFlux2", tmp_path / "flux2", **settings)
    tensors = ldm_tensors(model, inner_quant=inner_quant)
    del tensors["bn.num_batches_tracked"]
    source = open_source(save_tensors(tensors, tmp_path / "flux2-vae.safetensors"))
    assert source.settings["_class_name"] == "AutoencoderKLFlux2"
    with source.as_folder() as files:
        found = from_pretrained("AutoencoderKLFlux2", files, "float32").state_dict()
    assert all(torch.equal(one, found[name]) for name, one in model.state_dict().items())


def test_names_are_turned_as_diffusers_turns_them(saved: Any, tmp_path: Path) -> None:
    """The library's own conversion of the same file, with our config, gives the same weights."""
    import diffusers

    for name in ("sd", "flux", "three-stages"):
        _, model = saved(name)
        file = save_tensors(ldm_tensors(model), tmp_path / f"{name}.safetensors")
        source = open_source(file)
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(source.settings))
        theirs = diffusers.AutoencoderKL.from_single_file(
            str(file), config=str(tmp_path / name), local_files_only=True, low_cpu_mem_usage=False
        )
        with source.as_folder() as [converted]:
            ours = diffusers.AutoencoderKL.from_pretrained(converted.parent, low_cpu_mem_usage=False)
        assert ours.state_dict().keys() == theirs.state_dict().keys()
        assert all(torch.equal(one, theirs.state_dict()[key]) for key, one in ours.state_dict().items())


@pytest.mark.parametrize("latent_channels", [4, 16])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_pair_of_taesd_reconstructs_as_its_folder(tmp_path: Path, suffix: str, latent_channels: int) -> None:
    model = random_model("AutoencoderTiny", tmp_path / "saved", **TINY, latent_channels=latent_channels)
    for half, tensors in taesd_halves(model).items():
        save_tensors(tensors, tmp_path / "vae_approx" / f"taesd3_{half}{suffix}")
    pair = tmp_path / "vae_approx"
    for given in (pair / f"taesd3_encoder{suffix}", pair / f"taesd3_decoder{suffix}", pair):
        check_equal(given, tmp_path / "saved")
    hashes = {load(config(given)).provenance.weights_sha256 for given in (pair, *pair.iterdir())}
    assert len(hashes) == 1
    assert load(config(pair / f"taesd3_decoder{suffix}")).provenance.autoencoder == "taesd3"


def test_tiny_autoencoder_in_one_file_loads(tmp_path: Path) -> None:
    model = random_model("AutoencoderTiny", tmp_path / "saved", **TINY)
    check_equal(save_tensors(model.state_dict(), tmp_path / "taef1.safetensors"), tmp_path / "saved")


def test_hub_is_never_asked_for_a_file(saved: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    _, model = saved("flux")
    load(config(save_tensors(ldm_tensors(model), tmp_path / "ae.safetensors")))


def test_folder_for_the_conversion_that_is_full_or_not_there_is_one_clear_line(
    saved: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    file = save_tensors(ldm_tensors(saved("sd")[1]), tmp_path / "ae.safetensors")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    assert "can't convert" in refusal(file)
    assert "set TMPDIR to another folder" in refusal(file)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def full(*_: object) -> None:
        raise SafetensorError('Error while serializing: I/O error: Os { code: 28, message: "No space left" }')

    monkeypatch.setattr("safetensors.torch.save_file", full)
    assert "No space left" in refusal(file)
    assert [one.name for one in tmp_path.iterdir()] == ["ae.safetensors"]


def refusal(place: Path) -> str:
    with pytest.raises(UserError) as caught:
        load(config(place))
    assert "\n" not in str(caught.value)
    assert "pairstream-" not in str(caught.value)  # the name of a temporary folder
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda one: one.pop("decoder.mid.attn_1.k.bias"),
            "lacks weights of an AutoencoderKL: 1, e.g. decoder.mid_block.att",
        ),
        (lambda one: one.pop("decoder.conv_out.weight"), "lacks .*decoder.conv_out.weight"),
        (
            lambda one: one.update({"encoder.extra.weight": torch.ones(2)}),
            "has unknown weights .*encoder.extra",
        ),
        (
            lambda one: one.update({"decoder.mid.block_1.norm1.norm_layer.weight": torch.ones(2)}),
            "has unknown weights .*norm_layer",
        ),
        (
            lambda one: one.update({"quant_conv.weight": torch.ones(3, 8, 1, 1)}),
            "wrongly shaped .*quant_conv",
        ),
        (lambda one: one.pop("encoder.conv_in.weight"), "no autoencoder that is known"),
        (lambda one: one.update({"encoder.conv_in.weight": torch.ones(())}), "wrongly shaped"),
        (lambda one: one.update({"encoder.mid.attn_1.q.weight": torch.ones(64, 64, 3, 3)}), "wrongly shaped"),
        (
            lambda one: one.update({"encoder.down.0.block.0.conv1.weight": torch.ones(5, 5, 3, 3)}),
            "can't be an",
        ),
    ],
)
def test_file_of_other_weights_is_one_clear_line(
    saved: Any, tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], object], message: str
) -> None:
    tensors = ldm_tensors(saved("sd")[1])
    change(tensors)
    told = refusal(save_tensors(tensors, tmp_path / "ae.safetensors"))
    assert re.search(message, told), told
    assert str(tmp_path / "ae.safetensors") in told


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
@pytest.mark.parametrize("share", [0.0, 0.0001, 0.1, 0.5, 0.99])
def test_file_cut_anywhere_is_one_clear_line(saved: Any, tmp_path: Path, suffix: str, share: float) -> None:
    file = save_tensors(ldm_tensors(saved("sd")[1]), tmp_path / f"ae{suffix}")
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])
    told = refusal(file)
    assert "fetch it again" in told
    assert str(file) in told


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("ae.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
        ("ae.ckpt", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
        ("ae.safetensors", b"<!doctype html>\n<html>", "a web page"),
        ("ae.safetensors", b"PK\x03\x04" + bytes(999), "no safetensors file"),
        ("ae.safetensors", (9).to_bytes(8, "little") + b"{not JSON", "no header of a safetensors"),
        ("ae.ckpt", b"something else", "is damaged, or holds more than tensors"),
        ("ae.onnx", b"onnx", "is no file of weights, expected one that ends in .safetensors"),
        ("ae-00001-of-00002.safetensors", b"", "is one of several parts; give its folder"),
        ("taesd_encoder.pth", b"PK", "half an autoencoder: taesd_decoder.pth is not beside it"),
    ],
)
def test_file_that_is_no_weights_is_one_clear_line(
    tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(data)
    told = refusal(tmp_path / name)
    assert message in told
    assert name in told


class Callback:
    """What a training script may leave in its checkpoint."""


def test_pickle_of_more_than_tensors_is_refused_and_not_run(saved: Any, tmp_path: Path) -> None:
    tensors = ldm_tensors(saved("sd")[1])
    told = refusal(save_tensors(tensors, tmp_path / "sd.ckpt", callbacks=Callback()))
    assert "holds more than tensors" in told
    assert "Callback" in told
    torch.save([1, 2], tmp_path / "list.pt")
    assert "holds a list, expected tensors by name" in refusal(tmp_path / "list.pt")


def test_tiny_autoencoder_of_another_build_is_refused(tmp_path: Path) -> None:
    """TAESANA, for one, begins with two convolutions that diffusers' class doesn't have."""
    halves = taesd_halves(random_model("AutoencoderTiny", tmp_path / "saved", **TINY))
    halves["encoder"]["20.weight"] = torch.ones(8, 8, 3, 3)
    for half, tensors in halves.items():
        save_tensors(tensors, tmp_path / f"taesana_{half}.pth")
    assert "of another build than diffusers has" in refusal(tmp_path / "taesana_encoder.pth")


def test_config_of_another_model_beside_a_file_is_named_by_its_own_path(tmp_path: Path) -> None:
    weights = {"encoder.conv_in.weight": torch.zeros(1)}
    file = tmp_path / "diffusion_pytorch_model.fp16.safetensors"
    safetensors.torch.save_file(weights, file)
    (tmp_path / "config.json").write_text('{"_class_name": "UNet2DConditionModel"}')
    assert refusal(file).startswith(f"{tmp_path}/config.json is of class UNet2DConditionModel, expected")
