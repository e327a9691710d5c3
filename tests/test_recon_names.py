"""Names of autoencoders: what they mean, under which name they are recorded, and what a wrong one is told."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_files import BLOCKS, TINY, ldm_tensors, random_model, save_tensors, taesd_halves
from hub_server import hub
from recon_images import config, noise

from recon.base.errors import UserError
from recon.models.load import load, load_several
from recon.models.locate import locate
from recon.reconstruct import reconstruct

STEM = "diffusion_pytorch_model"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that save_pretrained wrote."""
    folder = tmp_path_factory.mktemp("model") / "kl"
    random_model("AutoencoderKL", folder, **BLOCKS)
    return folder


def located(name: Path | str, **options: Any) -> str:
    return locate(config(name, **options)).name


@pytest.mark.parametrize("generic", ["vae", "vqvae", "movq"])
def test_folder_with_a_pipelines_name_is_recorded_by_the_folder_above(
    model: Path, tmp_path: Path, generic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(model, tmp_path / "A" / generic)
    assert located(tmp_path / "A" / generic) == "A"
    assert located(f"{tmp_path}/A/{generic}/") == "A"
    assert located(tmp_path / "A", subfolder=generic) == "A"
    monkeypatch.chdir(tmp_path / "A")
    assert located(f"./{generic}") == "A"
    monkeypatch.chdir(generic)
    assert located(".") == "A"


def test_two_models_whose_folders_have_one_name_go_together(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in "AB":
        shutil.copytree(model, tmp_path / name / "vae")
    names = f"{tmp_path}/A/vae,{tmp_path}/B/vae,C={tmp_path}/B/vae"
    assert [one.provenance.autoencoder for one in load_several(config(names))] == ["A", "B", "C"]
    assert [message.endswith("the same weights: their fakes are equal") for message in caplog.messages] == [
        True
    ] * 2
    with pytest.raises(
        UserError, match=r"both recorded as 'A'; leave one out, or give it a name: NAME=.*A/vae"
    ):
        load_several(config(f"{tmp_path}/A/vae,{tmp_path}/A/../A/vae"))


def test_name_of_before_can_be_given_so_that_a_dataset_begun_with_it_goes_on(
    model: Path, tmp_path: Path
) -> None:
    shutil.copytree(model, tmp_path / "A" / "vae")
    before = load(config(tmp_path / "A" / "vae")).provenance
    assert load(config(f"vae={tmp_path}/A/vae")).provenance == replace(before, autoencoder="vae")
    assert (before.autoencoder, before.subfolder, before.revision) == ("A", None, None)


def test_links_keep_the_names_that_they_have(model: Path, tmp_path: Path) -> None:
    (tmp_path / "finetuned").symlink_to(model)
    (tmp_path / "B").mkdir()
    (tmp_path / "B" / "vae").symlink_to(model)
    assert located(tmp_path / "finetuned") == "finetuned"
    assert located(tmp_path / "B" / "vae") == "B"


def test_name_before_an_equals_sign_is_the_recorded_one(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert located(f"mine-v1.2={model}") == "mine-v1.2"
    shutil.copytree(model, tmp_path / "lr=0.1")
    assert located(tmp_path / "lr=0.1") == "lr=0.1"
    monkeypatch.chdir(tmp_path)
    assert located("lr=0.1") == "lr=0.1"
    assert located("x=lr=0.1") == "x"
    assert load(config("small=tiny")).provenance.autoencoder == "small"


def test_folder_named_as_the_null_control_needs_another_name(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "identity" / "vae")
    with pytest.raises(UserError, match="would be recorded as identity, the null control; name it: NAME="):
        load(config(tmp_path / "identity" / "vae"))
    assert located(f"mine={tmp_path}/identity/vae") == "mine"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sd15=tiny", "sd15 is a preset's name; choose another before the ="),
        ("identity=tiny", "identity is a preset's name"),
        ("null=identity", "identity has no other name; leave null= out"),
        ("=tiny", "'=tiny': no such file, and as NAME=PLACE it needs a NAME of letters"),
        ("a b=tiny", "it needs a NAME"),
        ("a/b=tiny", "it needs a NAME"),
        ("mine=", "it needs a NAME of .* and a PLACE"),
        ("", "autoencoder is empty; expected a preset"),
    ],
)
def test_wrong_name_before_an_equals_sign_is_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(config(name))


def renamed(model: Path, to: Path, **names: str) -> Path:
    """A copy of the folder; `names` says what its weights are called."""
    shutil.copytree(model, to, ignore=shutil.ignore_patterns("*.safetensors"))
    for name in names.values():
        shutil.copy(model / f"{STEM}.safetensors", to / name)
    return to


def sharded(model: Path, to: Path, variant: str | None, *, safe: bool) -> Path:
    from diffusers import AutoencoderKL

    loaded = AutoencoderKL.from_pretrained(model, low_cpu_mem_usage=False)
    loaded.save_pretrained(to, variant=variant, max_shard_size="500KB", safe_serialization=safe)
    assert len(list(to.glob("*-of-*"))) > 1
    return to


VARIANTS: dict[str, Callable[[Path, Path], Path]] = {
    "fp16": lambda model, to: renamed(model, to, a=f"{STEM}.fp16.safetensors"),
    "non_ema": lambda model, to: renamed(model, to, a=f"{STEM}.non_ema.safetensors"),
    "beside-onnx": lambda model, to: renamed(model, to, a=f"{STEM}.fp16.safetensors", b="model.onnx"),
    "sharded": lambda model, to: sharded(model, to, None, safe=True),
    "sharded-fp16": lambda model, to: sharded(model, to, "fp16", safe=True),
    "sharded-bin": lambda model, to: sharded(model, to, None, safe=False),
    "sharded-fp16-bin": lambda model, to: sharded(model, to, "fp16", safe=False),
}


def pixels(name: Path | str, **options: Any) -> np.ndarray[Any, Any]:
    [fake] = reconstruct(load(config(name, **options)), [noise(13, 22)], ["key"], 1)
    return fake


@pytest.mark.parametrize("kind", VARIANTS)
def test_variants_and_parts_load_where_the_plain_weights_are_missing(
    model: Path, tmp_path: Path, kind: str
) -> None:
    folder = VARIANTS[kind](model, tmp_path / "model")
    assert np.array_equal(pixels(folder), pixels(model))


def test_plain_weights_come_before_variants_and_a_variant_may_be_named(model: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    folder = renamed(model, tmp_path / "A" / "vae", a=f"{STEM}.safetensors")
    halves = {name: one.to(torch.float16) for name, one in load_file(model / f"{STEM}.safetensors").items()}
    save_file(halves, folder / f"{STEM}.fp16.safetensors")
    plain, variant = load(config(folder)), load(config(folder / f"{STEM}.fp16.safetensors"))
    assert plain.provenance.autoencoder == variant.provenance.autoencoder == "A"
    assert plain.provenance.weights_sha256 == load(config(model)).provenance.weights_sha256
    assert plain.provenance.weights_sha256 != variant.provenance.weights_sha256
    assert not np.array_equal(pixels(folder), pixels(folder / f"{STEM}.fp16.safetensors"))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            [f"{STEM}.fp16.safetensors", f"{STEM}.non_ema.safetensors"],
            "has several variants: give one itself",
        ),
        (["sdxl_vae.safetensors"], "it has sdxl_vae.safetensors: give that file itself"),
        (["model.onnx"], "it has model.onnx .an ONNX export., which can't be loaded"),
        (["diffusion_flax_model.msgpack"], "it has diffusion_flax_model.msgpack .Flax weights."),
        ([f"{STEM}-00001-of-00002.safetensors"], "without their index; fetch the model again"),
        ([], "it has config.json"),
    ],
)
def test_folder_without_loadable_weights_is_told_what_it_has(
    model: Path, tmp_path: Path, names: list[str], message: str
) -> None:
    folder = renamed(model, tmp_path / "model", **{str(number): name for number, name in enumerate(names)})
    with pytest.raises(UserError, match=f"no weights in .*{message}") as caught:
        load(config(folder))
    assert "\n" not in str(caught.value)


def test_part_that_is_missing_or_a_pointer_is_named(model: Path, tmp_path: Path) -> None:
    folder = sharded(model, tmp_path / "model", None, safe=True)
    part = sorted(folder.glob("*-of-*"))[1]
    part.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(UserError, match=f"{part.name} is a Git LFS pointer"):
        load(config(folder))
    part.unlink()
    with pytest.raises(UserError, match=f"lacks {part.name} of the "):
        load(config(folder))


def test_folder_without_config_is_told_which_file_to_give(tmp_path: Path) -> None:
    (tmp_path / "ae.safetensors").touch()
    with pytest.raises(
        UserError, match=r"no config.json in .*; give one of its files itself: ae.safetensors"
    ):
        load(config(tmp_path))


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, without network; the working folder is another, empty one."""
    from huggingface_hub import constants

    cache = tmp_path / "cache"
    (tmp_path / "work").mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path / "work")
    return cache


def in_cache(cache: Path, inside: str = "", branch: str = "main") -> Path:
    """Where the hub's cache has a folder of owner/model."""
    model = cache / "models--owner--model"
    (model / "refs").mkdir(parents=True, exist_ok=True)
    (model / "refs" / branch).write_text(COMMIT)
    return model / "snapshots" / COMMIT / inside


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("owner/model/vae", {}),
        ("owner/model", {"subfolder": "vae"}),
        ("owner/model/vae@main", {}),
        (f"owner/model@{COMMIT}", {"subfolder": "vae"}),
        (f"owner/model/vae@{COMMIT}", {}),
        ("owner/model/vae", {"revision": "main"}),
    ],
)
def test_hub_ids_may_name_folder_and_revision(
    model: Path, offline: Path, name: str, options: dict[str, str]
) -> None:
    shutil.copytree(model, in_cache(offline, "vae"))
    found = load(config(name, **options)).provenance
    assert (found.autoencoder, found.subfolder, found.revision) == ("owner/model", "vae", COMMIT)
    named = load(config(f"mine={name}", **options)).provenance
    assert (named.autoencoder, named.subfolder, named.revision) == ("mine", "vae", COMMIT)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("option", ["subfolder", "revision"])
def test_name_and_option_must_not_say_the_same(option: str) -> None:
    with pytest.raises(UserError, match=f"names the {option} .*, and --{option} x; leave one out"):
        load(config("owner/model/vae@main", **{option: "x"}))


def test_branch_of_a_preset_is_resolved_to_its_commit_and_recorded(
    model: Path, offline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recon.models import locate as module
    from recon.models.presets import Preset

    preset = Preset(
        id="owner/model", revision="main", model_class="AutoencoderKL", factor=2, millions=1, note="a branch"
    )
    monkeypatch.setitem(module.PRESETS, "branch", preset)
    shutil.copytree(model, in_cache(offline))
    assert load(config("branch")).provenance.revision == COMMIT


def test_folder_with_the_owners_name_does_not_hide_the_hub(model: Path, offline: Path) -> None:
    shutil.copytree(model, in_cache(offline))
    Path("owner").mkdir()
    assert load(config("owner/model")).provenance.revision == COMMIT
    shutil.copytree(model, "owner/model")
    found = load(config("owner/model")).provenance
    assert (found.autoencoder, found.revision) == ("model", None)
    with pytest.raises(
        UserError, match=r"'owner/model/vae' is no directory, .*local folder owner/model has conf"
    ):
        load(config("owner/model/vae"))  # the model is local, so its folder is not looked for on the hub


@pytest.mark.usefixtures("offline")
def test_misspelt_path_is_told_what_the_folder_has() -> None:
    Path("models/FLUX.1-dev").mkdir(parents=True)
    with pytest.raises(UserError, match=r"can't be reached .* \(the local folder models has FLUX.1-dev\)"):
        load(config("models/FLUX.1-deb"))
    with pytest.raises(UserError, match="is no directory, no file and no hub id"):
        load(config("models/ae.safetensors"))


@pytest.mark.parametrize("kind", VARIANTS)
def test_variants_and_parts_load_from_the_hubs_cache_without_network(
    model: Path, offline: Path, kind: str
) -> None:
    VARIANTS[kind](model, in_cache(offline, "vae"))
    assert np.array_equal(pixels("owner/model/vae"), pixels(model))


def test_cache_without_weights_and_no_network_is_one_clear_line(model: Path, offline: Path) -> None:
    renamed(model, in_cache(offline, "vae"), a="model.onnx")
    with pytest.raises(
        UserError, match=r"no weights in owner/model, .* it has model.onnx .*can't be asked"
    ) as told:
        load(config("owner/model/vae"))
    assert "\n" not in str(told.value)


@pytest.fixture
def serving(offline: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, list[str]]]:
    """The folder that a hub on this machine serves as owner/model, and what it was asked."""
    from huggingface_hub import constants

    served = offline.parent / "served"
    with hub(served, COMMIT) as (address, asked):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace("https://huggingface.co", address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield served / "owner/model", asked


@pytest.mark.parametrize("kind", ["plain", *VARIANTS])
def test_only_the_chosen_weights_are_fetched_from_the_hub(
    model: Path, serving: tuple[Path, list[str]], kind: str
) -> None:
    served, asked = serving
    if kind == "plain":
        folder = renamed(model, served / "vae", a=f"{STEM}.safetensors", b=f"{STEM}.fp16.safetensors")
    else:
        folder = VARIANTS[kind](model, served / "vae")
    (folder / f"{STEM}.msgpack").touch()
    assert np.array_equal(pixels("owner/model/vae"), pixels(model))
    assert load(config("owner/model/vae")).provenance.revision == COMMIT
    fetched = {Path(path).name for path in asked if "/resolve/" in path}
    unwanted = {f"{STEM}.msgpack", "model.onnx"} | (
        {f"{STEM}.fp16.safetensors"} if kind == "plain" else set()
    )
    assert fetched == {path.name for path in folder.iterdir()} - unwanted


def test_single_file_is_fetched_from_the_hub(serving: tuple[Path, list[str]], tmp_path: Path) -> None:
    kl = random_model("AutoencoderKL", tmp_path / "saved", **BLOCKS)
    save_tensors(ldm_tensors(kl), serving[0] / "ae.safetensors")
    found = load(config("owner/model/ae.safetensors")).provenance
    assert (found.autoencoder, found.subfolder, found.revision) == ("owner/model", "ae.safetensors", COMMIT)
    assert np.array_equal(pixels("owner/model/ae.safetensors"), pixels(tmp_path / "saved"))


def test_both_halves_of_a_pair_are_fetched_from_the_hub(
    serving: tuple[Path, list[str]], tmp_path: Path
) -> None:
    tiny = random_model("AutoencoderTiny", tmp_path / "saved", **TINY)
    for half, tensors in taesd_halves(tiny).items():
        save_tensors(tensors, serving[0] / f"taesd_{half}.safetensors")
    assert np.array_equal(pixels("owner/model/taesd_decoder.safetensors"), pixels(tmp_path / "saved"))


def test_model_without_config_is_told_what_it_has(model: Path, serving: tuple[Path, list[str]]) -> None:
    shutil.copytree(model, serving[0] / "vae")
    (serving[0] / "ae.safetensors").touch()
    expected = "give the autoencoder's folder in the name, one of owner/model/vae, owner/model/ae.safetensors"
    with pytest.raises(UserError, match=expected):
        load(config("owner/model"))
    with pytest.raises(UserError, match="the hub has no such model; expected a preset"):
        load(config("owner/other"))
    (serving[0] / "vae" / f"{STEM}.safetensors").rename(serving[0] / "vae" / "model.onnx")
    with pytest.raises(UserError, match=r"no weights in owner/model, subfolder vae, .* it has model.onnx"):
        load(config("owner/model/vae"))


def test_hub_cache_of_the_environment_is_used(model: Path, tmp_path: Path) -> None:
    """As a user sets it: HF_HOME, and HF_HUB_OFFLINE for a machine without network."""
    shutil.copytree(model, in_cache(tmp_path / "hub"))
    script = (
        "import json, sys\n"
        "from recon.models.config import ReconstructionConfig\n"
        "from recon.models.locate import locate\n"
        "found = locate(ReconstructionConfig(autoencoder='owner/model'))\n"
        "print(json.dumps([found.name, found.revision]))\n"
    )
    variables = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", script], env=variables, capture_output=True, text=True, check=True
    )
    assert json.loads(ended.stdout) == ["owner/model", COMMIT]
