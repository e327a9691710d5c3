"""`python -m recon.fit` learns and writes a diffusers model; the embedded `tiny` is one, and good."""

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recon
from recon.base.errors import UserError
from recon.fit.data import CENTRE_SIDE, centre, load_photographs, random_crops, shrink
from recon.fit.fit import FitConfig, _schedule, fit, measure_psnr, save
from recon.image.codec import Picture, Pixels, encode

TINY = Path(recon.__file__).with_name("tiny")
WEIGHTS = "diffusion_pytorch_model.safetensors"


def picture(height: int, width: int, seed: int = 0) -> Pixels:
    """A smooth coloured ramp with a rectangle, (H, W, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    slopes = rng.uniform(-100, 100, (2, 3))
    levels = 128 + (y[..., None] - 0.5) * slopes[0] + (x[..., None] - 0.5) * slopes[1]
    levels[height // 4 : height // 2, width // 4 : width // 2] += rng.uniform(-60, 60, 3)
    return levels.clip(0, 255).round().astype(np.uint8)


def chequered(height: int, width: int, seed: int = 0) -> Pixels:
    """`picture` with squares of 4 pixels in random greys, which a model's start can't paint."""
    greys = np.random.default_rng(seed).uniform(-60, 60, (height // 4, width // 4, 1))
    levels = picture(height, width, seed) + greys.repeat(4, axis=0).repeat(4, axis=1)
    return levels.clip(0, 255).round().astype(np.uint8)


def store(folder: Path, *pictures: Pixels) -> Path:
    folder.mkdir()
    for index, pixels in enumerate(pictures):
        like = Picture(pixels=pixels, codec="png")
        (folder / f"{index}.png").write_bytes(encode(pixels, like, "png"))
    return folder


def small(tmp_path: Path, **options: Any) -> FitConfig:
    paths = {name: str(tmp_path / name) for name in ("source", "heldout", "out")}
    return FitConfig(**paths | {"steps": 40, "batch_size": 4, "crop": 16, "threads": 1} | options)


def load(folder: Path) -> Any:
    import torch
    from diffusers import AutoencoderKL

    return AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float32, low_cpu_mem_usage=False).eval()


def test_training_raises_the_psnr_and_the_model_loads_as_it_was_saved(tmp_path: Path) -> None:
    photographs = [chequered(64, 48, seed) for seed in range(4)]
    config = small(tmp_path)
    untrained, steps, _ = fit(replace(config, steps=1), photographs)
    assert steps == 1
    trained, steps, _ = fit(config, photographs)
    assert steps == config.steps
    before, after = measure_psnr(untrained, photographs), measure_psnr(trained, photographs)
    assert np.mean(after) > np.mean(before) + 1

    save(trained, config.out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert sorted(path.name for path in Path(config.out).iterdir()) == ["config.json", WEIGHTS]
    assert measure_psnr(load(Path(config.out)), photographs) == measure_psnr(trained, photographs)


def test_training_goes_on_from_a_saved_model(tmp_path: Path) -> None:
    photographs = [picture(64, 48)]
    config = small(tmp_path, lr=1e-9, steps=1)
    save(fit(replace(config, lr=1e-3, steps=20), photographs)[0], config.out)
    saved, fresh = (
        measure_psnr(load(Path(config.out)), photographs),
        measure_psnr(fit(config, photographs)[0], photographs),
    )
    gone_on = measure_psnr(fit(replace(config, start=config.out), photographs)[0], photographs)
    assert gone_on == pytest.approx(saved, abs=0.01)
    assert gone_on != pytest.approx(fresh, abs=0.1)


def test_a_model_starts_by_painting_each_block_in_its_mean_colour(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(40, 216, (12, 16, 3), dtype=np.uint8)
    photo = colours.repeat(8, axis=0).repeat(8, axis=1)
    smooth = [picture(96, 128, seed) for seed in range(8)]
    model, _, _ = fit(small(tmp_path, steps=1, lr=1e-9), smooth)
    assert measure_psnr(model, [photo])[0] > 20
    assert measure_psnr(model, [np.full_like(photo, 90)])[0] > 25


def test_the_same_seed_trains_the_same_weights(tmp_path: Path) -> None:
    config = small(tmp_path, steps=2)
    for seed, out in ((0, "a"), (0, "b"), (1, "c")):
        save(fit(replace(config, seed=seed), [picture(32, 32)])[0], str(tmp_path / out))
    a, b, c = ((tmp_path / out / WEIGHTS).read_bytes() for out in "abc")
    assert a == b != c


def test_training_leaves_torchs_own_random_numbers_alone(tmp_path: Path) -> None:
    import torch

    state = torch.random.get_rng_state()
    fit(small(tmp_path, steps=1), [picture(32, 32)])
    assert torch.equal(state, torch.random.get_rng_state())


def test_time_ends_training_that_has_no_number_of_steps(tmp_path: Path) -> None:
    _, steps, seconds = fit(small(tmp_path, steps=None, minutes=1 / 60), [picture(32, 32)])
    assert steps >= 1
    assert seconds >= 1


def test_saving_keeps_the_other_files_of_the_directory(tmp_path: Path) -> None:
    out = tmp_path / "model"
    out.mkdir()
    (out / "README.md").write_text("card")
    (out / "config.json").write_text("old")
    save(fit(small(tmp_path, steps=1), [picture(32, 32)])[0], str(out))
    assert (out / "README.md").read_text() == "card"
    assert "AutoencoderKL" in (out / "config.json").read_text()


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    shares = np.linspace(0, 1, 201)
    rates = np.array([_schedule(share) for share in shares])
    assert rates[0] < 0.02
    assert rates.max() > 0.99
    assert rates[-1] == 0
    assert (np.diff(rates[3:]) < 0).all()


def test_the_command_prints_the_psnr_of_the_photographs_held_out(tmp_path: Path) -> None:
    store(tmp_path / "source", picture(80, 80))
    store(tmp_path / "heldout", picture(40, 60), picture(300, 280))
    options = ["--source", "source", "--heldout", "heldout", "--out", "new/model", "--steps", "2"]
    command = [sys.executable, "-m", "recon.fit", *options, "--crop", "16", "--batch_size", "2"]
    package = {"PYTHONPATH": str(TINY.parents[1])}
    done = subprocess.run(command, cwd=tmp_path, env=package, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("new/model: 2 steps in ")
    assert done.stdout.endswith(" dB on 2 photographs not trained on\n")
    assert "fit: 2/2 steps" in done.stderr
    load(tmp_path / "new" / "model")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": 60}, "crop=60, expected a multiple of 8"),
        ({"steps": 0}, "steps=0, expected at least 1"),
        ({"minutes": 0}, "minutes=0 and lr=0.001, expected more than 0"),
        ({"scales": ()}, r"scales=\(\), expected factors of 1 or more"),
        ({"start": "nowhere"}, "start=nowhere holds no config.json, expected a model's directory"),
        ({"out": __file__}, "is a file, expected a directory or a new name"),
    ],
)
def test_impossible_options_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        small(tmp_path, **options)


def test_photographs_are_decoded_in_colour_and_bad_ones_named(tmp_path: Path) -> None:
    folder = store(tmp_path / "photos", picture(20, 30), picture(20, 30)[..., :1])
    assert [photo.shape for photo in load_photographs(str(folder))] == [(20, 30, 3)] * 2
    (folder / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"broken\.jpg: not a readable image .*; remove it"):
        load_photographs(str(folder))


def test_a_folder_without_photographs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no images in .*, expected a folder of photographs"):
        load_photographs(str(tmp_path))


def test_large_photographs_are_shrunk_twice_small_ones_kept_and_tiny_ones_refused() -> None:
    shapes = [photo.shape[:2] for photo in shrink([picture(256, 300), picture(127, 300)], 64, (2, 4))]
    assert shapes == [(128, 150), (64, 75), (127, 300)]
    with pytest.raises(UserError, match="crop=64 exceeds a photograph of 100x63; remove it or lower --crop"):
        shrink([picture(63, 100)], 64, (2,))


def test_crops_are_parts_of_the_photographs_half_of_them_mirrored() -> None:
    ramp = np.repeat(np.arange(40, dtype=np.uint8)[None, :, None], 30, axis=0).repeat(3, axis=2)
    crops = random_crops([ramp], 200, 16, np.random.default_rng(0))
    assert crops.shape == (200, 16, 16, 3)
    steps = np.diff(crops[:, 0, :, 0].astype(int), axis=1)
    assert (steps == steps[:, :1]).all()
    assert 60 < (steps[:, 0] == -1).sum() < 140


@pytest.mark.parametrize("size", [(256, 256), (300, 900), (2000, 301), (10, 12)])
def test_centres_have_one_size(size: tuple[int, int]) -> None:
    assert centre(picture(*size)).shape == (CENTRE_SIDE, CENTRE_SIDE, 3)


def test_a_centre_of_the_right_size_is_left_as_it_is() -> None:
    photo = picture(256, 320)
    np.testing.assert_array_equal(centre(photo), photo[:, 32:288])


def test_tiny_is_small_and_its_card_names_its_weights() -> None:
    weights = (TINY / WEIGHTS).read_bytes()
    assert len(weights) <= 3_000_000
    assert hashlib.sha256(weights).hexdigest() in (TINY / "README.md").read_text()


@pytest.mark.parametrize(("name", "floor"), [("astronaut", 25.0), ("coffee", 27.0), ("chelsea", 29.0)])
def test_tiny_reconstructs_photographs_it_never_saw(name: str, floor: float) -> None:
    skimage_data = pytest.importorskip("skimage.data")
    photo: Pixels = getattr(skimage_data, name)()
    assert measure_psnr(load(TINY), [centre(photo)])[0] > floor
