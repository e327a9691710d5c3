"""Recipes by name and by file, single fields on top of them, and what is refused."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, get_args

import pytest
from conftest import python

from recon.base.cli import parse, run
from recon.base.errors import UserError
from recon.image.drawing import RESAMPLERS
from train.chains.declared import OPS
from train.chains.parameters import Between
from train.draws.config import BOUNDS, PROBABILITIES, RECIPES, AugmentConfig, Resampler, load_recipe
from train.loop.config import TrainConfig

NAMES = ["aligned-iclr25", "dda", "kornia", "none", "wild"]
FIELDS = [one.name for one in fields(AugmentConfig)]


def parsed(*argv: str) -> AugmentConfig:
    required = ("--out", "runs/one", "--data.train", "data/train")
    config = parse(TrainConfig, [*required, *argv], prog="x", about="", recipes={"augment": RECIPES})
    return config.augment


def refusal(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The one line that the command ends with."""
    required = ("--out", "runs/one", "--data.train", "data/train")
    with pytest.raises(SystemExit) as ended:
        run(TrainConfig, lambda _: 0, [*required, *argv], prog="x", about="", recipes={"augment": RECIPES})
    assert ended.value.code == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    return line


def test_the_recipes_are_those_that_are_documented() -> None:
    assert sorted(path.stem for path in RECIPES.iterdir()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_has_a_head_and_sets_every_field(name: str) -> None:
    text = (RECIPES / f"{name}.yaml").read_text()
    assert text.startswith("# ")
    assert f"--augment {name}" in text
    keys = [line.partition(":")[0] for line in text.splitlines() if line[0] not in "# "]
    assert keys == FIELDS


def test_the_published_recipe_is_the_default() -> None:
    assert load_recipe("aligned-iclr25") == AugmentConfig() == parsed()


@pytest.mark.parametrize("name", NAMES)
def test_a_name_gives_its_recipe_whatever_came_before(name: str) -> None:
    assert parsed("--augment", name) == load_recipe(name)
    assert parsed("--augment.jpeg_p", "0.9", "--augment", "dda", "--augment", name) == load_recipe(name)


def test_the_resamplers_are_pillows() -> None:
    assert get_args(Resampler) == RESAMPLERS


def test_none_leaves_pixels_alone() -> None:
    config = load_recipe("none")
    assert not config.is_photometric
    assert config.window_side == config.crop == 96
    assert (config.flip_p, config.rotate, config.resized_crop_p) == (0.5, False, 0)


def test_dda_is_the_published_table() -> None:
    config = load_recipe("dda")
    assert (config.jpeg_p, config.jpeg_quality) == (0.15, (55, 100))
    jitter = (config.brightness, config.contrast, config.saturation, config.hue)
    assert (config.jitter_p, jitter) == (0.2, (0.4, 0.4, 0.4, 0.175))
    assert config.grey_p == 0.1
    assert min(config.noise_p, config.blur_p, config.sharpen_p) > 0
    assert (config.mix_p, config.frequency_mix_p) == (0.2, 0.2)
    assert config.mix_fake == config.frequency_mix_fake == (0.2, 1.0)
    sizes = {chain.view: (chain.p, chain.steps[0].values["factor"]) for chain in config.chains}
    assert sizes == {2: (1, Between(low=0.2, high=1)), 3: (1, Between(low=1, high=3.5))}


def test_wild_has_the_degradations_of_the_web_and_nothing_else() -> None:
    config = load_recipe("wild")
    assert not config.is_photometric
    chains = {tuple(step.op for step in chain.steps) for chain in config.chains}
    assert {("jpeg",), ("jpeg", "jpeg"), ("webp",), ("avif",), ("resize",), ("resize", "jpeg")} < chains
    assert {step for chain in chains for step in chain} == set(OPS) - {"crop", "square", "highpass"}
    assert sum(chain.p for chain in config.chains) == pytest.approx(0.82)


def test_chains_are_given_on_the_command_line_too() -> None:
    chains = '[{"p": 0.5, "chain": [{"jpeg": {"quality": {"from": 30, "to": 95}}}]}]'
    config = parsed("--augment", "none", "--augment.degrade", chains, "--augment.degrade_side", "0")
    [chain] = config.chains
    assert (chain.p, chain.steps[0].values["quality"]) == (0.5, Between(low=30, high=95))
    assert parsed("--augment", "wild", "--augment.degrade", "[]").chains == ()


def test_kornia_does_nothing_by_our_ops() -> None:
    config = load_recipe("kornia")
    assert not config.is_photometric
    assert [op["name"] for op in config.kornia] == [
        *("ColorJitter", "RandomGrayscale", "RandomErasing", "RandomGaussianNoise"),
        *("RandomGaussianBlur", "RandomJPEG"),
    ]


def test_single_fields_change_a_recipe() -> None:
    found = parsed("--augment", "dda", "--augment.jpeg_p", "0.3", "--augment.jpeg_quality", "[40,90]")
    assert asdict(found) == asdict(load_recipe("dda")) | {"jpeg_p": 0.3, "jpeg_quality": (40, 90)}


def test_a_file_changes_what_it_names(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("jpeg_p: 0.25\nkornia:\n  - {name: RandomErasing, p: 0.1}\n")
    expected = asdict(AugmentConfig()) | {"jpeg_p": 0.25, "kornia": [{"name": "RandomErasing", "p": 0.1}]}
    assert asdict(parsed("--augment", str(path))) == asdict(load_recipe(str(path))) == expected
    assert asdict(parsed("--augment", "none", "--augment", str(path)))["jitter_p"] == 0


@pytest.mark.parametrize("recipe", ["none", "my.yaml", "{jpeg_p: 0.5, jitter_p: 0}"])
def test_a_run_s_file_names_a_recipe(tmp_path: Path, recipe: str) -> None:
    (tmp_path / "my.yaml").write_text("jitter_p: 0\n")
    (tmp_path / "run.yaml").write_text(f"augment: {recipe}\nepochs: 3\n")
    assert parsed("--config", str(tmp_path / "run.yaml")).jitter_p == 0
    assert parsed("--config", str(tmp_path / "run.yaml"), "--augment", "dda") == load_recipe("dda")


def test_a_run_s_file_changes_single_fields_of_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("jitter_p: 0\n")
    run_file = tmp_path / "run.yaml"
    for recipe, base in (("dda", load_recipe("dda")), ("my.yaml", AugmentConfig(jitter_p=0))):
        run_file.write_text(f"augment: {{recipe: {recipe}, crop: 48, jpeg_quality: [40, 60]}}\n")
        expected = asdict(base) | {"crop": 48, "jpeg_quality": (40, 60)}
        assert asdict(parsed("--config", str(run_file))) == expected
        flipped = parsed("--config", str(run_file), "--augment.flip_p", "0.25")
        assert asdict(flipped) == expected | {"flip_p": 0.25}
        assert parsed("--config", str(run_file), "--augment", "none") == load_recipe("none")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("augment: {recipe: ddaa, crop: 48}", "augment=ddaa: expected aligned-iclr25"),
        ("augment: {recipe: 3}", "augment=3: expected aligned-iclr25"),
        ("augment: {recipe: dda, jpeg: 48}", "'jpeg', expected one of crop, views"),
        ("augment: {recipe: dda, crop: x}", "augment.crop=x, expected a whole number"),
        # The parser itself would forget dda here.
        ("augment: dda\naugment.crop: 48", "in one file: write augment: {recipe: dda, crop: ...}"),
        ("augment.crop: 48\naugment: dda", "augment and augment.crop in one file"),
    ],
)
def test_a_run_s_file_loses_neither_recipe_nor_field(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, expected: str
) -> None:
    (tmp_path / "run.yaml").write_text(text)
    assert expected in refusal(capsys, "--config", str(tmp_path / "run.yaml"))


def test_unknown_names_list_the_choices(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name in ("ddaa", "./ddaa.yaml", "dda.yaml"):
        assert f"augment={name}: expected {', '.join(NAMES)}, or a YAML file" in refusal(
            capsys, "--augment", name
        )
    (tmp_path / "run.yaml").write_text("augment: ddaa\n")
    assert "augment=ddaa: expected aligned-iclr25" in refusal(capsys, "--config", str(tmp_path / "run.yaml"))
    with pytest.raises(UserError, match=f"augment=ddaa: expected {', '.join(NAMES)}"):
        load_recipe("ddaa")


def test_unknown_parameters_list_the_choices(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    choices = f"expected one of {', '.join(FIELDS)}"
    assert choices in refusal(capsys, "--augment.jpeg", "0.3")
    path = tmp_path / "my.yaml"
    path.write_text("jpeg: 0.3\n")
    line = refusal(capsys, "--augment", str(path))
    assert "'jpeg'" in line
    assert choices in line
    path.write_text("augment: {jpeg: 0.3}\n")
    assert choices in refusal(capsys, "--config", str(path))
    path.write_text("jpeg: 0.3\n")
    with pytest.raises(UserError, match=r"my\.yaml: .*jpeg"):
        load_recipe(str(path))


@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan")])
@pytest.mark.parametrize("name", PROBABILITIES)
def test_probabilities_outside_0_to_1_are_refused(name: str, value: float) -> None:
    with pytest.raises(UserError, match=rf"augment\.{name}={value}, expected a probability in \[0, 1\]"):
        AugmentConfig(**{name: value})  # type: ignore[arg-type]


RANGES = [name for name in BOUNDS if isinstance(getattr(AugmentConfig(), name), tuple)]


@pytest.mark.parametrize("name", RANGES)
def test_ranges_reversed_or_out_of_bounds_are_refused(name: str) -> None:
    least, most = BOUNDS[name]
    for wrong in ((most, least), (least - 1, most), (least, most + 1), (float("nan"), most)):
        with pytest.raises(UserError, match=rf"augment\.{name}=\(.*expected a range \(low, high\)"):
            AugmentConfig(**{name: wrong})  # type: ignore[arg-type]
    if least:
        AugmentConfig(**{"crop": 1, name: (least, most)})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"jpeg_quality": (0, 100)}, r"augment\.jpeg_quality=\(0, 100\), .* 1 <= low <= high <= 100"),
        ({"webp_quality": (30, 101)}, r"augment\.webp_quality=\(30, 101\)"),
        ({"mix_fake": (0.0, 0.8)}, r"augment\.mix_fake=\(0.0, 0.8\), expected a low of 0.05 or more"),
        ({"hue": 0.6}, r"augment\.hue=0.6, expected 0 to 0.5"),
        ({"brightness": -0.1}, r"augment\.brightness=-0.1"),
        ({"cutout_side": 0}, r"augment\.cutout_side=0, expected at least 1"),
        ({"cutout_fill": 256}, r"augment\.cutout_fill=256, expected 0 to 255"),
        ({"pre_crop_side": 0}, r"augment\.pre_crop_side=0, expected at least 1"),
        ({"degrade_side": -1}, r"augment\.degrade_side=-1, expected 0 or more"),
        ({"resized_crop_side": (95, 300)}, r"crop=96 exceeds the resized crop's 95; set resized_crop_p to 0"),
        ({"frequency_mix_fake": (0.0, 0.8)}, r"frequency_mix_fake=\(0.0, 0.8\), expected a low of 0.05"),
        ({"crop": 0}, r"augment\.crop=0, expected at least 1"),
        ({"crop": 257}, r"augment\.crop=257 exceeds the resized crop's 256; set resized_crop_p to 0"),
        ({"kornia": [{"p": 0.5}]}, r"augment\.kornia\[0\]=.*expected \{name: RandomX"),
    ],
)
def test_what_can_t_be_meant_is_refused(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        AugmentConfig(**options)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--augment.jpeg_p", "1.5"], "augment.jpeg_p=1.5, expected a probability in [0, 1]"),
        (["--augment.jpeg_quality", "[0,3]"], "augment.jpeg_quality=(0, 3), expected a range"),
        (["--augment.jpeg_quality", "[50]"], "augment.jpeg_quality"),
        (["--augment.jpeg_quality", "[50.5,60]"], "augment.jpeg_quality"),
        (
            ["--augment", "dda", "--augment.mix_fake", "[0,0.8]"],
            "augment.mix_fake=(0.0, 0.8), expected a low",
        ),
        (["--augment.kornia", "[3]"], "augment.kornia"),
    ],
)
def test_bad_values_end_the_command_with_one_line(
    argv: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert expected in refusal(capsys, *argv)


@pytest.mark.parametrize(
    ("options", "core", "window"),
    [
        ({}, 128, 152),
        ({"jpeg_p": 0}, 96, 120),
        ({"jpeg_p": 0, "webp_p": 0.1}, 128, 152),
        ({"blur_p": 0}, 128, 128),
        ({"crop": 16, "blur_sigma": (0, 1)}, 48, 56),
        ({"jpeg_p": 0, "blur_p": 0}, 96, 96),
    ],
)
def test_the_window_holds_what_its_ops_need(options: dict[str, Any], core: int, window: int) -> None:
    config = AugmentConfig(**options)
    assert (config.core_side, config.window_side) == (core, window)
    # At any phase of JPEG's grid the crop and the two pixels beyond it lie in the core.
    assert core == config.crop or all(phase + config.crop + 4 <= core for phase in range(16))


def test_help_names_the_recipes() -> None:
    result = python("import sys; sys.argv = ['x', '--help']; from train.command import main; main()")
    assert f"--augment RECIPE {', '.join(NAMES)}, or a YAML file" in " ".join(result.stdout.split())
