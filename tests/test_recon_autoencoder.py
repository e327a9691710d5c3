"""Autoencoders by name, and reconstructions that no batch, order or other seed changes."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recon_images import config, noise, sizes

from recon.base.errors import UserError
from recon.models.load import load
from recon.models.presets import PRESETS
from recon.models.types import Autoencoder, Provenance, image_seed
from recon.reconstruct import reconstruct

WEIGHTS = "diffusion_pytorch_model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small random models, one of each class, written by save_pretrained."""
    import torch
    from diffusers import AutoencoderKL, AutoencoderTiny, VQModel

    root = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    blocks: dict[str, Any] = {
        "block_out_channels": (8, 8),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "norm_num_groups": 4,
    }
    AutoencoderKL(**blocks, latent_channels=4).save_pretrained(root / "kl")
    VQModel(**blocks, num_vq_embeddings=16).save_pretrained(root / "vq")
    AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
    ).save_pretrained(root / "taesd")
    shutil.copytree(root / "kl", root / "pipeline" / "vae")
    return root


@pytest.mark.parametrize(
    ("folder", "model_class", "downscale"),
    [("kl", "AutoencoderKL", 2), ("vq", "VQModel", 2), ("taesd", "AutoencoderTiny", 4)],
)
def test_directory_loads_by_the_class_in_its_own_config(
    models: Path, folder: str, model_class: str, downscale: int
) -> None:
    autoencoder = load(config(models / folder))
    assert autoencoder.multiple == downscale
    assert autoencoder.provenance == Provenance(
        autoencoder=folder,
        model_class=model_class,
        subfolder=None,
        revision=None,
        weights_sha256=hashlib.sha256((models / folder / WEIGHTS).read_bytes()).hexdigest(),
        dtype="float32",
        device="cpu",
        posterior="mode",
        seed=0,
        threads=1,
        downscale=downscale,
    )
    [fake] = reconstruct(autoencoder, [noise(13, 9)], ["key"], 1)
    assert fake.shape == (13, 9, 3)


def test_result_is_that_of_the_models_own_encode_and_decode(models: Path) -> None:
    import torch
    from diffusers import AutoencoderKL

    model = AutoencoderKL.from_pretrained(models / "kl", low_cpu_mem_usage=False).eval()
    pixels = noise(8, 12)
    with torch.inference_mode():
        x = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255 * 2 - 1
        y = model.decode(model.encode(x).latent_dist.mode()).sample[0].permute(1, 2, 0)
    expected = ((y + 1) / 2).clamp(0, 1).mul(255).round().numpy()
    [fake] = reconstruct(load(config(models / "kl")), [pixels], ["key"], 1)
    assert np.abs(fake.astype(float) - expected).max() <= 1


def test_subfolder_of_a_local_pipeline_is_loaded(models: Path) -> None:
    provenance = load(config(models / "pipeline", subfolder="vae")).provenance
    assert (provenance.autoencoder, provenance.subfolder) == ("pipeline", "vae")


def test_bin_weights_load_and_are_hashed(models: Path, tmp_path: Path) -> None:
    from diffusers import AutoencoderKL

    model = AutoencoderKL.from_pretrained(models / "kl", low_cpu_mem_usage=False)
    model.save_pretrained(tmp_path / "bin", safe_serialization=False)
    autoencoder, same = load(config(tmp_path / "bin")), load(config(models / "kl"))
    data = (tmp_path / "bin" / "diffusion_pytorch_model.bin").read_bytes()
    assert autoencoder.provenance.weights_sha256 == hashlib.sha256(data).hexdigest()
    fakes = [reconstruct(each, [noise(8, 8)], ["key"], 1)[0] for each in (autoencoder, same)]
    assert np.array_equal(*fakes)


def test_sharded_weights_are_all_hashed(models: Path, tmp_path: Path) -> None:
    from diffusers import AutoencoderKL

    model = AutoencoderKL.from_pretrained(models / "kl", low_cpu_mem_usage=False)
    model.save_pretrained(tmp_path / "parts", max_shard_size="20KB")
    parts = sorted((tmp_path / "parts").glob("*.safetensors"))
    assert len(parts) > 1
    expected = hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()
    assert load(config(tmp_path / "parts")).provenance.weights_sha256 == expected


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_reconstructs_nearly_the_same(models: Path, dtype: Any) -> None:
    full, half = load(config(models / "kl")), load(config(models / "kl", dtype=dtype))
    assert half.provenance.dtype == dtype
    fakes = [reconstruct(each, [noise(8, 8)], ["key"], 1)[0].astype(int) for each in (full, half)]
    assert np.abs(fakes[0] - fakes[1]).max() <= 12


@pytest.mark.parametrize("name", ["sd-that-is-not-there", "./missing", "/missing/model", "a//c", "a\nb"])
def test_name_that_cannot_be_a_hub_id_is_refused_without_network_and_lists_the_presets(name: str) -> None:
    with pytest.raises(UserError, match=f"expected a preset .{', '.join(PRESETS)}.") as caught:
        load(config(name))
    assert repr(name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_directory_without_config_names_the_subfolders_that_have_one(models: Path) -> None:
    with pytest.raises(UserError, match="pass --subfolder, one of: vae"):
        load(config(models / "pipeline"))


def broken(models: Path, tmp_path: Path, name: str, data: bytes | None) -> Path:
    folder = tmp_path / "broken"
    shutil.copytree(models / "kl", folder)
    (folder / name).unlink() if data is None else (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("config.json", b"{", "not readable JSON"),
        ("config.json", b"[]", "holds no JSON object"),
        (
            "config.json",
            b'{"_class_name": "UNet2DModel"}',
            "expected one of AutoencoderKL, AutoencoderTiny, VQ",
        ),
        ("config.json", b'{"_class_name": "AutoencoderKL"}', "no whole AutoencoderKL"),
        ("config.json", b"\xff\xfe{}", "not readable JSON"),
        ("config.json", b'{"_class_name": ["AutoencoderKL"]}', r"is of class \['AutoencoderKL'\], expected"),
        *(
            (
                "config.json",
                b'{"_class_name": "AutoencoderKL", "block_out_channels": %s}' % stages,
                "no whole AutoencoderKL: .*; expected a config.json and weights that save_pretrained wrote",
            )
            for stages in (b"8", b"[]", b'"ab"', b'["a"]', b"[true]", b'{"a": 8}', b"null")
        ),
        (INDEX, b"{", "no index of weights"),
        (INDEX, b"[]", "no index of weights"),
        (INDEX, b"{}", "no index of weights .*weight_map"),
        (INDEX, b'{"weight_map": ["a"]}', "no index of weights"),
        (INDEX, b'{"weight_map": {"a": 8}}', "no index of weights"),
        (INDEX, b'{"weight_map": {"a": ""}}', "no index of weights|lacks"),
        (INDEX, b'{"weight_map": {}}', "names no file of weights"),
        (INDEX, b'{"weight_map": {"a": "part-1.safetensors"}}', r"lacks part-1.safetensors of the 1 files"),
        (WEIGHTS, None, "no weights in"),
        (WEIGHTS, b"not safetensors", "is no safetensors file"),
        (WEIGHTS, b"version https://git-lfs.github.com/spec/v1", "Git LFS pointer .* run git lfs pull"),
    ],
)
def test_broken_directory_is_one_clear_line(
    models: Path, tmp_path: Path, name: str, data: bytes | None, message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load(config(broken(models, tmp_path, name, data)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("latents_mean", "a"),
        ("latent_channels", "four"),
        ("latent_channels", None),
        ("layers_per_block", [1]),
        ("norm_num_groups", 0),
        ("norm_num_groups", "x"),
        ("act_fn", "nothing"),
        ("act_fn", 8),
        ("down_block_types", "DownEncoderBlock2D"),
        ("down_block_types", ["Nothing"]),
        ("up_block_types", 3),
        ("in_channels", "3"),
        ("out_channels", 4),
        ("out_channels", None),
    ],
)
def test_settings_of_another_kind_are_one_clear_line_or_do_no_harm(
    models: Path, tmp_path: Path, setting: str, value: object
) -> None:
    settings = json.loads((models / "kl" / "config.json").read_text()) | {setting: value}
    folder = broken(models, tmp_path, "config.json", json.dumps(settings).encode())
    told = ""
    try:
        [fake] = reconstruct(load(config(folder)), [noise(8, 8)], ["key"], 1)
    except UserError as error:
        told = str(error)
    assert (told and "\n" not in told) or fake.shape == (8, 8, 3)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_weights_cut_anywhere_are_one_clear_line(models: Path, tmp_path: Path, share: float) -> None:
    data = (models / "kl" / WEIGHTS).read_bytes()
    with pytest.raises(UserError, match=r"is cut|is empty") as caught:
        load(config(broken(models, tmp_path, WEIGHTS, data[: int(share * len(data))])))
    assert "\n" not in str(caught.value)


def test_weights_that_lack_a_tensor_are_refused_instead_of_filled_at_random(
    models: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(models / "kl" / WEIGHTS)
    tensors.pop("quant_conv.bias")
    folder = broken(models, tmp_path, WEIGHTS, None)
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})
    with pytest.raises(UserError, match=r"lacks 1 weights of its AutoencoderKL, e.g. quant_conv.bias"):
        load(config(folder))


def test_weights_with_the_attention_names_of_old_models_load(models: Path, tmp_path: Path) -> None:
    """The paper's ldm-f8 and other models of 2022 name them so."""
    from safetensors.torch import load_file, save_file

    old = {"to_q.": "query.", "to_k.": "key.", "to_v.": "value.", "to_out.0.": "proj_attn."}
    tensors = {}
    for name, tensor in load_file(models / "kl" / WEIGHTS).items():
        for new_part, old_part in old.items():
            name = name.replace(new_part, old_part)
        tensors[name] = tensor
    folder = broken(models, tmp_path, WEIGHTS, None)
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})
    fakes = [
        reconstruct(load(config(each)), [noise(8, 8)], ["key"], 1)[0] for each in (folder, models / "kl")
    ]
    assert np.array_equal(*fakes)


@pytest.mark.parametrize("folder", ["vq", "taesd"])
def test_class_without_posterior_cannot_be_sampled(models: Path, folder: str) -> None:
    with pytest.raises(UserError, match="has no posterior; use --posterior mode"):
        load(config(models / folder, posterior="sample"))


def test_revision_of_a_local_directory_is_refused(models: Path) -> None:
    with pytest.raises(UserError, match="--revision is for hub models"):
        load(config(models / "kl", revision="main"))


def test_unknown_device_is_one_clear_line(models: Path) -> None:
    with pytest.raises(UserError, match="device 'warp' can't be used"):
        load(config(models / "kl", device="warp"))


@pytest.fixture
def hub_cache(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache with one model, and the network switched off."""
    from huggingface_hub import constants

    snapshot = tmp_path / "models--owner--model" / "snapshots" / COMMIT
    shutil.copytree(models / "kl", snapshot / "vae")
    (tmp_path / "models--owner--model" / "refs").mkdir()
    (tmp_path / "models--owner--model" / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return snapshot


@pytest.mark.parametrize("revision", [None, COMMIT])
def test_hub_model_is_recorded_by_the_commit_it_was_resolved_to(
    hub_cache: Path, revision: str | None
) -> None:
    provenance = load(config("owner/model", subfolder="vae", revision=revision)).provenance
    assert (provenance.autoencoder, provenance.subfolder, provenance.revision) == (
        "owner/model",
        "vae",
        COMMIT,
    )
    data = (hub_cache / "vae" / WEIGHTS).read_bytes()
    assert provenance.weights_sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("name", ["owner/other", "sd15"])
@pytest.mark.usefixtures("hub_cache")
def test_hub_model_out_of_reach_is_one_clear_line(name: str) -> None:
    with pytest.raises(UserError, match=r"the hub can't be reached .* expected a preset \(tiny") as caught:
        load(config(name))
    assert "\n" not in str(caught.value)


def test_importing_recon_imports_no_torch() -> None:
    modules = "recon, recon.models.presets, recon.models.load, recon.reconstruct, recon.folder"
    script = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@settings(deadline=None, max_examples=25)
@given(shape=sizes)
def test_any_size_from_one_pixel_up_is_kept(models: Path, shape: tuple[int, int, int]) -> None:
    [fake] = reconstruct(load_once(models / "taesd"), [noise(*shape)], ["key"], 4)
    assert fake.shape == shape


_loaded: dict[Path, Autoencoder] = {}


def load_once(folder: Path) -> Autoencoder:
    if folder not in _loaded:
        _loaded[folder] = load(config(folder))
    return _loaded[folder]


@pytest.mark.parametrize("folder", ["kl", "vq", "taesd"])
def test_result_does_not_depend_on_batches_or_order_beyond_one_level(models: Path, folder: str) -> None:
    """Kernels depend on the batch's shape: 1 level of 255, in at most 1 % of the values."""
    autoencoder = load_once(models / folder)
    images = [noise(8 + index % 3, 16, seed=index) for index in range(7)]
    keys = [str(index) for index in range(7)]
    alone = [reconstruct(autoencoder, [image], [key], 1)[0] for image, key in zip(images, keys, strict=True)]
    together = reconstruct(autoencoder, images[::-1], keys[::-1], 4)[::-1]
    for one, other in zip(alone, together, strict=True):
        difference = np.abs(one.astype(int) - other)
        assert difference.max() <= 1
        assert (difference > 0).mean() <= 0.01


def test_posterior_sample_depends_on_seed_and_key_alone(models: Path) -> None:
    image = noise(16, 16)
    autoencoder = load(config(models / "kl", posterior="sample", seed=3))
    assert autoencoder.provenance.posterior == "sample"
    first, other, again = (reconstruct(autoencoder, [image], [key], 1)[0] for key in ("a", "b", "a"))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    reloaded = load(config(models / "kl", posterior="sample", seed=3))
    assert np.array_equal(first, reconstruct(reloaded, [image], ["a"], 1)[0])
    reseeded = load(config(models / "kl", posterior="sample", seed=4))
    assert not np.array_equal(first, reconstruct(reseeded, [image], ["a"], 1)[0])


def test_posterior_samples_of_a_batch_are_those_of_the_images_alone(models: Path) -> None:
    autoencoder = load(config(models / "kl", posterior="sample"))
    images, keys = [noise(16, 16, seed=index) for index in range(4)], list("abcd")
    alone = [reconstruct(autoencoder, [image], [key], 1)[0] for image, key in zip(images, keys, strict=True)]
    together = reconstruct(autoencoder, images[::-1], keys[::-1], 4)[::-1]
    assert max(np.abs(a.astype(int) - b).max() for a, b in zip(alone, together, strict=True)) <= 1


@given(seed=st.integers(), key=st.text())
def test_image_seed_is_one_that_torch_takes(seed: int, key: str) -> None:
    assert 0 <= image_seed(seed, key) < 2**63
    assert image_seed(seed, key) != image_seed(seed + 1, key)
