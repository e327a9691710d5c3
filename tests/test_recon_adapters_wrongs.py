"""What would go wrong without a word or with a traceback: other classes, weights, channels, sizes, noise."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from adapter_instances import INSTANCES, instance_folders, write  # noqa: F401  # a fixture
from conftest import photograph
from recon_images import config, noise
from safetensors.torch import load_file, save_file

from recon.base.errors import UserError
from recon.models import network
from recon.models.adapters import ADAPTERS, REFUSED
from recon.models.load import load
from recon.reconstruct import reconstruct_batch

WEIGHTS = "diffusion_pytorch_model.safetensors"


def instance(folders: Path, name: str) -> Path:
    return write(INSTANCES[name], folders / name)


def changed(folders: Path, name: str, copy: Path, **settings: Any) -> Path:
    """A copy of an instance with other settings in its config.json."""
    shutil.copytree(instance(folders, name), copy)
    found = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(found | settings))
    return copy


def told(folder: Path, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        load(config(folder, **options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_class_that_cannot_do_one_frame_is_refused_by_name(folders: Path, tmp_path: Path, name: str) -> None:
    message = told(changed(folders, "kl-4", tmp_path / "other", _class_name=name))
    assert f"is of class {name}, which can't reconstruct a single frame" in message


def test_unknown_class_is_refused_with_a_list_of_all(folders: Path, tmp_path: Path) -> None:
    message = told(changed(folders, "kl-4", tmp_path / "other", _class_name="UNet2DModel"))
    assert "of class UNet2DModel, expected one of AutoencoderKL, AutoencoderTiny, VQModel" in message
    assert all(name in message for name in ADAPTERS)


@pytest.mark.parametrize(
    ("name", "model_class"),
    [
        ("kl-4", "AutoencoderTiny"),
        ("tiny-4", "AutoencoderKL"),
        ("vq", "AutoencoderKL"),
        ("kl-4", "VQModel"),
        ("wan22", "AutoencoderKLQwenImage"),
    ],
)
def test_weights_of_another_class_are_refused(
    folders: Path, tmp_path: Path, name: str, model_class: str
) -> None:
    """`from_pretrained` compares no classes: it fills what has the same name, and leaves the rest random."""
    message = told(changed(folders, name, tmp_path / "other", _class_name=model_class))
    assert model_class in message


def test_class_that_the_installed_diffusers_lacks_is_refused_with_the_release_that_has_it(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "diffusers", SimpleNamespace(__version__="0.35.2"))
    message = told(instance(folders, "qwen21"))
    expected = "AutoencoderKLQwenImage21 came with diffusers 0.41, but 0.35.2 is installed; pip install "
    assert f"{expected}'diffusers>=0.41'" in message


def test_rae_without_transformers_says_what_to_install(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = instance(folders, "rae")
    monkeypatch.setattr(network, "find_spec", lambda _: None)
    assert "AutoencoderRAE needs the package transformers; pip install transformers" in told(folder)


def test_weights_that_the_config_leaves_out_are_refused(folders: Path, tmp_path: Path) -> None:
    folder = changed(folders, "kl-4", tmp_path / "other", use_quant_conv=False, use_post_quant_conv=False)
    assert "has 4 weights that its AutoencoderKL does not use, e.g. post_quant_conv.bias" in told(folder)


@pytest.mark.parametrize("name", ["flux2", "kl-4"])
def test_flux2s_scaling_of_the_code_may_be_missing_or_left_over(
    folders: Path, tmp_path: Path, name: str
) -> None:
    folder = changed(folders, name, tmp_path / "other")
    tensors = load_file(folder / WEIGHTS)
    scaling = {"bn.running_mean", "bn.running_var", "bn.num_batches_tracked"}
    assert scaling <= set(tensors) or name == "kl-4"
    kept = {key: tensor for key, tensor in tensors.items() if key not in scaling}
    added = load_file(instance(folders, "flux2") / WEIGHTS) if name == "kl-4" else {}
    save_file(kept | {key: added[key] for key in scaling & set(added)}, folder / WEIGHTS, {"format": "pt"})
    image = noise(32, 32)
    fakes = [
        reconstruct_batch(load(config(each)), [image], ["key"])[0]
        for each in (folder, instance(folders, name))
    ]
    assert np.array_equal(*fakes)


@pytest.mark.parametrize("settings", [{"in_channels": 4}, {"out_channels": 4}, {"in_channels": 1}])
def test_model_of_other_channels_is_refused(tmp_path: Path, settings: dict[str, int]) -> None:
    import diffusers

    untyped: Any = diffusers.AutoencoderKL
    untyped(**INSTANCES["kl-4"].settings, **settings).save_pretrained(tmp_path / "other")
    message = told(tmp_path / "other")
    assert "this AutoencoderKL can't reconstruct an RGB image" in message or "decodes to the shape" in message
    assert "channels" in message or "expected (1, 3, 16, 16)" in message


@pytest.mark.parametrize("name", ["cosmos", "vq"])
def test_number_format_that_the_device_lacks_is_told_when_loading(folders: Path, name: str) -> None:
    assert "not implemented for 'BFloat16' on this device; pass --dtype float32" in told(
        instance(folders, name), dtype="bfloat16"
    )


@pytest.mark.parametrize("name", ["tiny-4", "vq", "movq", "dc", "rae", "cosmos", "kvae-video"])
def test_class_without_a_posterior_cannot_be_sampled(folders: Path, name: str) -> None:
    assert "has no posterior; use --posterior mode" in told(instance(folders, name), posterior="sample")


@pytest.mark.parametrize("name", ["flux2", "wan21", "hunyuan-15", "ltx-095", "consistency"])
def test_sample_depends_on_seed_and_key_and_not_on_the_batch(folders: Path, name: str) -> None:
    folder = instance(folders, name)
    image = photograph(64, 64, 0)
    mode = load(config(folder))
    [first, again], other_seed = (
        [load(config(folder, posterior="sample", seed=3)) for _ in range(2)],
        load(config(folder, posterior="sample", seed=4)),
    )
    [one] = reconstruct_batch(first, [image], ["a"])
    assert np.array_equal(one, reconstruct_batch(again, [image], ["a"])[0])
    for other in (mode, other_seed):
        assert not np.array_equal(one, reconstruct_batch(other, [image], ["a"])[0])
    [alike, differing] = reconstruct_batch(first, [image, image], ["a", "b"])
    assert np.abs(alike.astype(int) - one).max() <= 1
    assert not np.array_equal(alike, differing)


@pytest.mark.parametrize("name", ["consistency", "ltx-095"])
def test_decoder_that_draws_noise_gives_each_image_its_own(folders: Path, name: str) -> None:
    autoencoder = load(config(instance(folders, name)))
    image = photograph(64, 64, 0)
    [one, other] = reconstruct_batch(autoencoder, [image, image], ["a", "b"])
    assert not np.array_equal(one, other)
    assert np.abs(reconstruct_batch(autoencoder, [image], ["b"])[0].astype(int) - other).max() <= 1


@pytest.mark.parametrize("size", [(255, 256), (256, 255), (512, 512), (100, 75)])
def test_rae_refuses_every_size_but_its_own(folders: Path, size: tuple[int, int]) -> None:
    autoencoder = load(config(instance(folders, "rae"), tiling_pixels=1 << 18))
    expected = rf"rae reconstructs only images of exactly 256x256 pixels, but 'key' has {size[1]}x{size[0]}"
    with pytest.raises(UserError, match=expected):
        reconstruct_batch(autoencoder, [noise(*size)], ["key"])


@pytest.mark.parametrize("size", [(1, 1), (32, 40), (2, 300)])
def test_image_too_small_for_a_decoder_that_pads_by_reflection_keeps_its_size(
    folders: Path, size: tuple[int, int]
) -> None:
    [fake] = reconstruct_batch(load(config(instance(folders, "ltx2"))), [noise(*size)], ["key"])
    assert fake.shape == (*size, 3)


@pytest.mark.parametrize("name", ["wan21", "cosmos", "svd", "dc"])
def test_channels_last_changes_a_level_at_most(folders: Path, name: str) -> None:
    plain, last = (load(config(instance(folders, name), channels_last=each)) for each in (False, True))
    [one], [other] = (reconstruct_batch(each, [photograph(64, 96, 0)], ["key"]) for each in (plain, last))
    assert np.abs(one.astype(int) - other).max() <= 1


def test_tiles_of_a_film_of_one_frame_join_to_its_image(folders: Path) -> None:
    autoencoder = load(config(instance(folders, "ltx2"), tiling_pixels=1 << 18))
    [fake] = reconstruct_batch(autoencoder, [photograph(520, 600, 0)], ["key"])
    assert fake.shape == (520, 600, 3)
