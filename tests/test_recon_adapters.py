"""Every class of autoencoder, as a tiny random model: sizes, the library's bits, batches, number formats."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from adapter_instances import INSTANCES, by_hand, instance_folders, write  # noqa: F401  # a fixture
from conftest import photograph
from recon_images import config

from recon.base.errors import UserError
from recon.image.codec import Pixels
from recon.models.adapters import ADAPTERS
from recon.models.coder import Coder
from recon.models.load import load
from recon.models.presets import PRESETS
from recon.models.types import Autoencoder, image_seed
from recon.reconstruct import reconstruct, reconstruct_batch

SIZES = ((100, 75), (33, 17), (256, 192), (640, 426))
EXACT = (256, 192)
"""A size that no class pads: a multiple of 32."""
ROWS = sorted(INSTANCES)
ANY_SIZE = [name for name in ROWS if name != "rae"]
DTYPES = ("float32", "bfloat16")
ONLY_FLOAT32 = ("cosmos", "vq")
"""Classes with an operation that torch has for a CPU in float32 only: 3D average pooling, cdist."""

Load = Callable[..., Autoencoder]


@pytest.fixture(scope="module")
def loaded(folders: Path) -> Load:
    """Loads an instance by its name and options, each once."""
    known: dict[str, Autoencoder] = {}

    def get(name: str, **options: Any) -> Autoencoder:
        key = f"{name} {sorted(options.items())}"
        if key not in known:
            known[key] = _load_or_skip(name, folders, options)
        return known[key]

    return get


def _load_or_skip(name: str, folders: Path, options: dict[str, Any]) -> Autoencoder:
    try:
        return load(config(write(INSTANCES[name], folders / name), **options))
    except UserError as error:
        if "only supported when avx512" not in str(error):
            raise
        pytest.skip("torch's attention in bfloat16 fails if ATEN_CPU_CAPABILITY is below what this CPU has")


def size_for(name: str, size: tuple[int, int] = EXACT) -> tuple[int, int]:
    return (256, 256) if name == "rae" else size


def images_of(name: str, count: int, size: tuple[int, int] = EXACT) -> list[Pixels]:
    return [photograph(*size_for(name, size), seed) for seed in range(count)]


def _skip_what_torch_lacks(name: str, dtype: str) -> None:
    if name in ONLY_FLOAT32 and dtype != "float32":
        pytest.skip("torch can't do this on a CPU, and test_recon_adapters_wrongs.py says how that is told")


def test_there_is_an_instance_of_every_class() -> None:
    assert {instance.model_class for instance in INSTANCES.values()} == set(ADAPTERS)


def readme_rows() -> dict[tuple[str, int, int], set[str]]:
    """README's table: class, factor and channels of each row, and its presets."""
    text = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    rows = [row for row in cells if len(row) == 5 and row[0].strip("`") in ADAPTERS]
    return {
        (row[0].strip("`"), int(row[1]), int(row[2])): set(row[4].replace("`", "").split(", ")) - {""}
        for row in rows
    }


def test_readmes_table_has_the_rows_that_are_tested_here() -> None:
    tested = {(each.model_class, each.factor, each.channels) for each in INSTANCES.values()}
    assert set(readme_rows()) == tested


def test_every_preset_stands_in_one_row_of_readmes_table() -> None:
    named = [name for presets in readme_rows().values() for name in presets]
    assert len(named) == len(set(named))
    assert set(PRESETS) - {"identity"} <= set(named)


@pytest.mark.parametrize("name", ANY_SIZE)
def test_reconstruction_has_the_size_of_its_image(loaded: Load, name: str) -> None:
    autoencoder = loaded(name)
    assert autoencoder.multiple == autoencoder.provenance.downscale == INSTANCES[name].factor
    images = [photograph(*size, 0) for size in SIZES]
    fakes = reconstruct(autoencoder, images, [str(size) for size in SIZES], 1)
    assert [fake.shape[:2] for fake in fakes] == list(SIZES)


@pytest.mark.parametrize("name", ROWS)
def test_code_has_the_factor_and_the_channels_of_the_published_model(loaded: Load, name: str) -> None:
    instance, autoencoder = INSTANCES[name], loaded(name)
    coder: Coder = autoencoder._coder  # type: ignore[attr-defined]
    height, width = size_for(name)
    with torch.inference_mode():
        code = coder.mode(coder.encode(torch.zeros(1, 3, height, width)))
    film = (1,) if instance.film else ()
    expected = (1, instance.channels, *film, height // instance.factor, width // instance.factor)
    assert tuple(code.shape) == expected
    assert autoencoder.provenance.downscale == instance.factor


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ROWS)
def test_reconstruction_is_the_librarys_own_to_the_bit(
    loaded: Load, folders: Path, name: str, dtype: Any
) -> None:
    _skip_what_torch_lacks(name, dtype)
    autoencoder = loaded(name, dtype=dtype)
    instance = INSTANCES[name]
    [image] = images_of(name, 1, (128, 64))
    x = torch.from_numpy(image).permute(2, 0, 1)[None].contiguous() / 255
    untyped: Any = getattr(diffusers, instance.model_class)
    model = untyped.from_pretrained(
        folders / name, torch_dtype=getattr(torch, dtype), low_cpu_mem_usage=False
    ).eval()
    seed = image_seed(0, "key")
    with torch.inference_mode():
        expected = by_hand(model, instance, x, seed).numpy()
    assert np.array_equal(autoencoder.reconstruct_batch(x.numpy(), [seed]), expected)
    levels = np.rint(expected[0].clip(0, 1) * np.float32(255)).astype(np.uint8).transpose(1, 2, 0)
    assert np.array_equal(reconstruct_batch(autoencoder, [image], ["key"])[0], levels)


@pytest.mark.parametrize("name", ROWS)
def test_batch_differs_from_single_images_by_a_level_at_most(loaded: Load, name: str) -> None:
    autoencoder = loaded(name)
    images, keys = images_of(name, 3, (64, 96)), list("abc")
    together = reconstruct_batch(autoencoder, images, keys)
    for image, key, fake in zip(images, keys, together, strict=True):
        [alone] = reconstruct_batch(autoencoder, [image], [key])
        assert np.abs(alone.astype(int) - fake).max() <= 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ROWS)
def test_reconstruction_repeats_its_bits_whatever_torch_drew_before(
    loaded: Load, name: str, dtype: Any
) -> None:
    _skip_what_torch_lacks(name, dtype)
    autoencoder = loaded(name, dtype=dtype)
    images = images_of(name, 1, (64, 32))
    [first] = reconstruct_batch(autoencoder, images, ["key"])
    torch.rand(1)
    [again] = reconstruct_batch(autoencoder, images, ["key"])
    assert np.array_equal(first, again)
    assert len(np.unique(first)) > 1
