"""How autoencoders run: several at once, where, laid out how, and whatever else is in their batch."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recon_images import config, noise

import recon
from recon.base.device import find_device
from recon.base.errors import UserError
from recon.models.load import load, load_several
from recon.models.network import Network
from recon.models.types import Autoencoder
from recon.place.ranks import local_rank
from recon.reconstruct import reconstruct_batch

TINY = Path(recon.__file__).with_name("tiny")


@pytest.fixture(scope="module")
def tiny() -> Autoencoder:
    return load(config("tiny"))


def photographs(count: int) -> list[Any]:
    """Smooth images with some grain, 120x184."""
    y, x = np.mgrid[:120, :184] / 30
    waves = [128 + 90 * (np.sin(x + index) * np.cos(y))[..., None] for index in range(count)]
    grain = [noise(120, 184, 3, index) / 16 for index in range(count)]
    return [np.clip(wave + dots, 0, 255).astype(np.uint8) for wave, dots in zip(waves, grain, strict=True)]


@pytest.mark.parametrize("posterior", ["mode", "sample"])
def test_reconstruction_in_a_batch_is_within_a_level_of_that_alone(posterior: Any) -> None:
    """Kernels depend on the batch's size: 1 level of 255, in at most 1 of 10,000 values (14 of a million)."""
    autoencoder = load(config("tiny", posterior=posterior))
    images, keys = photographs(8), list("abcdefgh")
    alone = [reconstruct_batch(autoencoder, [one], [key])[0] for one, key in zip(images, keys, strict=True)]
    for count in range(2, 9):
        fakes = reconstruct_batch(autoencoder, images[:count], keys[:count])
        difference = np.abs(np.stack(fakes).astype(int) - np.stack(alone[:count]))
        assert difference.max() <= 1
        assert (difference > 0).mean() <= 1e-4


def test_reconstruction_does_not_depend_on_place_or_neighbours_in_a_batch_of_one_size(
    tiny: Autoencoder,
) -> None:
    images, keys = photographs(5), list("abcde")
    fakes = reconstruct_batch(tiny, images[:4], keys[:4])
    turned = reconstruct_batch(tiny, images[4:0:-1], keys[4:0:-1])
    for index in (1, 2, 3):
        assert np.array_equal(fakes[index], turned[4 - index])


def test_channels_last_is_recorded_and_changes_at_most_a_level(tiny: Autoencoder) -> None:
    last = load(config("tiny", channels_last=True))
    assert (tiny.provenance.channels_last, last.provenance.channels_last) == (False, True)
    [one], [other] = (reconstruct_batch(each, photographs(1), ["key"]) for each in (tiny, last))
    assert np.abs(one.astype(int) - other).max() <= 1


def test_compiler_that_fails_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no g++\nand more")

    monkeypatch.setattr(torch, "compile", fail)
    with pytest.raises(UserError, match=r"--compile doesn't work here: no g\+\+; install a C") as caught:
        load(config("tiny", compile=True))
    assert "\n" not in str(caught.value)


@pytest.mark.soak
@pytest.mark.timeout(1500)
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # torch's own
def test_compiled_autoencoder_reconstructs_within_a_level(tiny: Autoencoder) -> None:
    compiled = load(config("tiny", compile=True))
    assert compiled.provenance.compiled
    for count in (1, 3):
        images, keys = photographs(count), list("abc")[:count]
        fakes = [np.stack(reconstruct_batch(each, images, keys)).astype(int) for each in (tiny, compiled)]
        assert np.abs(fakes[0] - fakes[1]).max() <= 1


def allocator_error() -> RuntimeError:
    """What torch raises on this machine where the CPU's memory doesn't suffice."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    return caught.value


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), allocator_error()])
def test_memory_that_runs_out_halves_the_batch_and_a_single_image_is_told_what_helps(
    error: RuntimeError, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load(config("tiny"))
    assert isinstance(loaded, Network)
    encode = loaded._model.encode
    fits = 2

    def small(x_BCHW: torch.Tensor) -> Any:
        if len(x_BCHW) > fits:
            raise error
        return encode(x_BCHW)

    monkeypatch.setattr(loaded._model, "encode", small)
    images, keys = photographs(5), list("abcde")
    assert len(reconstruct_batch(loaded, images, keys)) == 5
    fits = 0
    with pytest.raises(UserError, match=r"1 x 184x120 pixels don't fit into memory; lower --tiling_pixels"):
        reconstruct_batch(loaded, images, keys)


def test_a_fault_that_speaks_of_memory_is_not_taken_for_a_lack_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load(config("tiny"))
    assert isinstance(loaded, Network)

    def fail(x_BCHW: torch.Tensor) -> Any:  # noqa: ARG001
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(loaded._model, "encode", fail)
    with pytest.raises(RuntimeError, match="illegal memory access") as caught:
        reconstruct_batch(loaded, photographs(2), ["a", "b"])
    assert not isinstance(caught.value, UserError)


def test_several_autoencoders_load_in_the_order_of_their_names(tmp_path: Path) -> None:
    shutil.copytree(TINY, tmp_path / "other")
    loaded = load_several(config(f"tiny, {tmp_path / 'other'},identity"))
    assert [one.provenance.autoencoder for one in loaded] == ["tiny", "other", "identity"]
    assert [one.provenance.autoencoder for one in load_several(config("identity"))] == ["identity"]


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        ("tiny,identity, tiny", {}, "has 'tiny' twice"),
        ("tiny,,identity", {}, "has an empty name"),
        (f"tiny,{TINY}", {}, "'tiny' and .* are both recorded as 'tiny'; leave one out"),
        ("identity,sd-nowhere", {}, "autoencoder 'sd-nowhere' of identity,sd-nowhere: .* is no directory"),
        (
            "tiny,identity",
            {"posterior": "sample"},
            "autoencoder 'identity' of tiny,identity: .* no posterior",
        ),
        (
            "tiny,identity",
            {"subfolder": "vae"},
            "--subfolder is for one autoencoder, but tiny,identity names 2",
        ),
        ("tiny,identity", {"revision": "main"}, "--revision is for one autoencoder"),
    ],
)
def test_several_autoencoders_that_do_not_go_together_are_one_clear_line(
    names: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load_several(config(names, **options))


@pytest.mark.parametrize(
    ("told", "rank"),
    [
        ({}, 0),
        ({"LOCAL_RANK": "3"}, 3),
        ({"SLURM_LOCALID": "2"}, 2),
        ({"LOCAL_RANK": "1", "SLURM_LOCALID": "2"}, 1),
    ],
)
def test_local_rank_is_what_the_launcher_tells(
    told: dict[str, str], rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOCAL_RANK", "SLURM_LOCALID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert local_rank() == rank


def test_processes_of_a_machine_share_its_gpus_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch, "empty", lambda *_, **__: torch.zeros(1))
    assert [str(find_device("auto", rank)) for rank in (0, 3, 5)] == ["cuda:0", "cuda:3", "cuda:1"]
    assert str(find_device("cuda", 2)) == "cuda:2"
    assert str(find_device("cuda:1", 2)) == "cuda:1"
    assert str(find_device("cpu", 2)) == "cpu"
