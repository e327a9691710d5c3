"""Evaluation: every image scored once, in its group, whatever the form of the data."""

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import python, run
from hypothesis import given
from hypothesis import strategies as st
from scored_images import SIZES, image_tree, pixels, png, put, untrained  # noqa: F401  # fixtures
from train_data import SIZES as STORED_SIZES
from train_data import make_dataset

from pack.dataset.dataset import iterate_pairs
from recon.base.device import find_device
from recon.base.errors import UserError
from train.evaluate import main
from train.evaluation.evaluate import EvaluateConfig, evaluate
from train.evaluation.figures.scores import OVERALL
from train.evaluation.images import Ready
from train.evaluation.inputs.find import open_source
from train.evaluation.scoring import BATCH_PIXELS, Waiting, by_size, logits_of, score
from train.model.build import build_model
from train.model.config import ModelConfig
from train.window.geometry import centre_crop


def scores_csv(folder: Path) -> list[dict[str, str]]:
    with (folder / "scores.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_folder_tree_is_scored_once_an_image_by_generator(
    tree: Path,
    tmp_path: Path,
    checkpoint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr(
        sys,
        "argv",
        ["x", "--checkpoint", checkpoint, "--data", str(tree), "--out", str(out), "--device", "cpu"],
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    metrics = json.loads((out / "metrics.json").read_text())
    counts = {name: (row["n_real"], row["n_fake"]) for name, row in metrics["groups"].items()}
    assert counts == {"val/gan": (4, 4), "val/ldm": (1, 1)}
    assert (metrics["overall"]["n_real"], metrics["overall"]["n_fake"], metrics["images"]) == (5, 5, 10)
    assert (metrics["backbone"], metrics["crop"]) == ("highpass", None)
    rows = scores_csv(out)
    assert len({row["name"] for row in rows}) == len(rows) == 10
    assert {row["name"]: row["label"] for row in rows}["val/ldm/1_fake/a b.é.png"] == "1"
    right = [(float(row["logit"]) > 0) == (row["label"] == "1") for row in rows]
    assert metrics["overall"]["accuracy"] == pytest.approx(np.mean(right))
    assert capsys.readouterr().out == (out / "table.md").read_text()


def test_a_group_may_be_called_overall(tmp_path: Path, checkpoint: str) -> None:
    for index in range(2):
        put(tmp_path / f"d/overall/{('0_real', '1_fake')[index]}/a.png", png(index))
        put(tmp_path / f"d/other/{('0_real', '1_fake')[index]}/a.png", png(index))
    out = tmp_path / "o"
    evaluate(EvaluateConfig(checkpoint=checkpoint, data=str(tmp_path / "d"), out=str(out), device="cpu"))
    metrics = json.loads((out / "metrics.json").read_text())
    assert sorted(metrics["groups"]) == ["other", "overall"]
    assert (metrics["groups"]["overall"]["n_real"], metrics["overall"]["n_real"]) == (1, 2)


def test_a_table_holds_each_generator_against_all_reals(tmp_path: Path, checkpoint: str) -> None:
    kinds = {"r/1.png": "real", "r/2.png": "real", "f/1.png": "sd", "f/2.png": "flux", "f/3.png": "flux"}
    for index, name in enumerate(kinds):
        put(tmp_path / name, png(index))
    lines = ["filename,typ,extra", *(f"{name},{kind},x" for name, kind in kinds.items())]
    put(tmp_path / "list.csv", "\n".join(lines).encode("utf-8-sig"))
    report = evaluate(EvaluateConfig(checkpoint=checkpoint, data=str(tmp_path / "list.csv"), device="cpu"))
    assert {name: (row.n_real, row.n_fake) for name, row in report.rows.items()} == {
        "flux": (2, 2),
        "sd": (2, 1),
        OVERALL: (2, 3),
    }
    written = scores_csv(Path(checkpoint).parent / f"eval-{tmp_path.name}-list")
    assert [(row["name"], row["group"]) for row in written][1:3] == [("r/2.png", ""), ("f/1.png", "sd")]


def test_batches_score_as_single_images_do(tree: Path, tmp_path: Path, checkpoint: str) -> None:
    single, batched = tmp_path / "single", tmp_path / "batched"
    for out, size in ((single, 1), (batched, 16)):
        evaluate(
            EvaluateConfig(checkpoint=checkpoint, data=str(tree), out=str(out), batch_size=size, device="cpu")
        )
    ones, together = scores_csv(single), scores_csv(batched)
    assert [row["name"] for row in ones] == [row["name"] for row in together]
    logits = [[float(row["logit"]) for row in rows] for rows in (ones, together)]
    np.testing.assert_allclose(logits[0], logits[1], rtol=0, atol=1e-5)  # sums in another order


def test_crops_of_all_sizes_are_scored(tree: Path, tmp_path: Path, checkpoint: str) -> None:
    evaluate(
        EvaluateConfig(checkpoint=checkpoint, data=str(tree), out=str(tmp_path / "o"), crop=12, device="cpu")
    )
    model = build_model(ModelConfig(backbone="highpass")).eval()
    model.load_state_dict(torch.load(checkpoint, weights_only=True)["model"])
    crop = centre_crop(pixels(1, SIZES[1]), 12)
    expected = logits_of(model, crop[None], torch.device("cpu"))[0]
    scores = {row["name"]: float(row["logit"]) for row in scores_csv(tmp_path / "o")}
    assert scores["val/gan/0_real/1.png"] == pytest.approx(expected, abs=1e-5)


def test_an_exif_rotation_is_not_applied_and_grey_becomes_rgb() -> None:
    rotated = Ready(max_pixels=1000).pixels(png(1, (8, 6), orientation=6))
    np.testing.assert_array_equal(rotated, pixels(1, (8, 6)))
    grey = Ready(max_pixels=1000).pixels(png(1, (8, 6), channels=1))
    assert isinstance(grey, np.ndarray)
    assert grey.shape == (8, 6, 3)


def stream(sizes: list[tuple[int, int]]) -> Iterator[Waiting]:
    for index, size in enumerate(sizes):
        yield Waiting(index=index, pixels=np.zeros((*size, 3), np.uint8))


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), max_size=40),
    st.integers(1, 5),
    st.integers(1, 60),
)
def test_batches_hold_every_image_once_with_one_size_and_within_bounds(
    sizes: list[tuple[int, int]], batch_size: int, held: int
) -> None:
    taken = 0

    def counted() -> Iterator[Waiting]:
        nonlocal taken
        for one in stream(sizes):
            taken += one.pixels.shape[0] * one.pixels.shape[1]
            yield one

    seen: list[int] = []
    for batch in by_size(counted(), batch_size, held):
        assert len({image.pixels.shape for image in batch}) == 1
        assert 1 <= len(batch) <= batch_size
        waiting = taken - sum(sizes[index][0] * sizes[index][1] for index in seen)
        assert waiting <= held + 9  # the largest image here
        seen += [image.index for image in batch]
    assert sorted(seen) == list(range(len(sizes)))


def test_large_images_go_alone() -> None:
    side = int((BATCH_PIXELS / 1.5) ** 0.5)
    assert [len(batch) for batch in by_size(stream([(side, side)] * 3), 16)] == [1, 1, 1]


def test_scoring_puts_the_model_in_eval_mode() -> None:
    model = build_model(ModelConfig(backbone="highpass")).train()
    images = list(stream([(8, 8)] * 2))
    scored = list(score(model, images, batch_size=4, device=torch.device("cpu")))
    assert not model.training
    assert [place for places, _ in scored for place in places] == [0, 1]
    assert len({logit for _, logits_B in scored for logit in logits_B.tolist()}) == 1  # no dropout


def test_only_a_lack_of_memory_is_told_as_one() -> None:
    def score_with(error: RuntimeError) -> None:
        def fail(x_B3HW: torch.Tensor) -> torch.Tensor:  # noqa: ARG001
            raise error

        logits_of(fail, np.zeros((1, 8, 8, 3), np.uint8), torch.device("cpu"))  # type: ignore[arg-type]

    with pytest.raises(UserError, match=r"1 image\(s\) of 8x8 exceed the memory of cpu; pass --crop N"):
        score_with(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    with pytest.raises(RuntimeError, match="illegal memory access") as caught:
        score_with(RuntimeError("CUDA error: an illegal memory access was encountered"))
    assert not isinstance(caught.value, UserError)


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(UserError, match="device 'abacus' can't be used"):
        find_device("abacus")


def bad_inputs(folder: Path, checkpoint: str) -> dict[str, tuple[list[str], str]]:
    """Options and what the one line must say, by case."""
    good = put(folder / "good/0_real/a.png", png(1)).parent.parent
    cut = put(folder / "cut/0_real/a.png", png(1)[:-30]).parent.parent
    put(folder / "stray/0_real/a.png", png(1))
    stray = put(folder / "stray/b.png", png(1)).parent
    (folder / "empty").mkdir()
    text = put(folder / "list.csv", b"filename,typ\ngone.png,real\n")
    columns = put(folder / "columns.csv", b"photo,kind\na.png,real\n")
    short = put(folder / "short.csv", b"filename,typ\na.png\n")
    twice = put(folder / "twice.csv", b"filename,typ\na.png,real\n./a.png,sd\n")
    doubled = put(folder / "doubled.csv", b"filename,typ,typ\na.png,real,sd\n")
    wide = put(folder / "wide.csv", b"filename,typ\na.png,real,sd\n")
    none = put(folder / "none.csv", b"filename,typ\n")
    binary = put(folder / "binary.csv", b"\xff\xfe\x00")
    other = folder / "other.pt"
    content = torch.load(checkpoint, weights_only=True)
    content["config"]["model"]["backbone"] = "res18nodown"
    torch.save(content, other)
    with_model = ["--checkpoint", checkpoint, "--data"]
    return {
        "nothing": ([*with_model, str(folder / "gone")], "found nothing, expected a packed dataset"),
        "another file": ([*with_model, str(other)], "found a file of another kind"),
        "empty": ([*with_model, str(folder / "empty")], "holds no image"),
        "stray": ([*with_model, str(stray)], "1 of 2 images lie in no folder that says real or fake"),
        "cut": ([*with_model, str(cut)], "1 of 1 images can't be scored; the first is 0_real/a.png: broken"),
        "bomb": (
            [*with_model, str(good), "--max_pixels", "255"],
            "0_real/a.png: 16x16 exceeds max_pixels=255",
        ),
        "no file": ([*with_model, str(text)], "the first is gone.png: can't be read: No such file"),
        "columns": ([*with_model, str(columns)], "name that of the paths by --path_column"),
        "short row": ([*with_model, str(short)], "row 1 has 1 cells, expected 2"),
        "doubled column": ([*with_model, str(doubled)], "it has 2 columns typ"),
        "extra cell": ([*with_model, str(wide)], "row 1 has 3 cells, expected 2"),
        "twice": ([*with_model, str(twice)], "names a.png in 2 rows; keep one of them"),
        "no row": ([*with_model, str(none)], "holds no image"),
        "binary": ([*with_model, str(binary)], "can't be read as CSV in UTF-8"),
        "crop": ([*with_model, str(good), "--crop", "0"], "crop=0, expected at least 1"),
        "no checkpoint": (["--checkpoint", "gone.pt", "--data", str(good)], "gone.pt not found"),
        "other model": (["--checkpoint", str(other), "--data", str(good)], "checkpoint of another model"),
    }


def test_bad_input_is_one_line_and_status_2(
    tmp_path: Path, checkpoint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for case, (options, complaint) in bad_inputs(tmp_path, checkpoint).items():
        out = tmp_path / f"out-{case}"
        assert (case, run(monkeypatch, main, *options, "--out", out)) == (case, 2)
        error = capsys.readouterr().err
        assert complaint in error, (case, error)
        assert "Traceback" not in error
        assert not out.exists() or not list(out.iterdir()), case


def test_diverged_weights_are_refused_and_nothing_is_written(
    tree: Path, tmp_path: Path, checkpoint: str
) -> None:
    content: dict[str, Any] = torch.load(checkpoint, weights_only=True)
    content["model"]["fc.bias"].fill_(float("nan"))
    torch.save(content, tmp_path / "nan.pt")
    with pytest.raises(UserError, match="10 of 10 logits are not finite"):
        evaluate(EvaluateConfig(checkpoint=str(tmp_path / "nan.pt"), data=str(tree), out=str(tmp_path / "o")))
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("module", ["train.evaluate", "train.report"])
def test_help_answers_without_heavy_imports(module: str) -> None:
    code = (
        f"import sys; sys.argv = ['x', '--help']; from {module} import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'sklearn', 'matplotlib', 'diffusers'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert f"python -m {module}" in answer.stdout


@pytest.mark.parametrize("module", ["train.evaluate", "train.calibrate"])
def test_a_mistake_in_the_data_is_told_before_torch_is_imported(module: str) -> None:
    script = (
        f"import sys; from {module} import main\n"
        "sys.argv = ['x', '--checkpoint', 'gone.pt', '--data', 'gone']\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 2\n"
        "assert 'torch' not in sys.modules"
    )
    answer = python(script)
    assert answer.returncode == 0, answer.stderr
    assert "data=gone: found nothing" in answer.stderr


def test_a_packed_dataset_gives_both_halves_of_every_pair_in_groups_by_a_column(tmp_path: Path) -> None:
    url = make_dataset(tmp_path, pairs=3, shard_pairs=2)
    pairs = list(iterate_pairs(url))
    for column, expected in (("group", "real"), ("autoencoder", "given"), ("height", None)):
        source = open_source(url + "/", column)
        assert source.total == 6
        heights = [str(STORED_SIZES[number][0]) for number in range(3)]
        groups = [expected] * 3 if expected else heights
        assert [(image.name, image.group, image.label, image.data) for image in source.images()] == [
            image
            for pair, group in zip(pairs, groups, strict=True)
            for image in (
                (f"{pair.key}.real", group, 0, pair.real),
                (f"{pair.key}.fake", group, 1, pair.fake),
            )
        ]
