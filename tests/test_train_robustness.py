"""The robustness test: what train.evaluate finds for degraded files, in one pass and without them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import run
from PIL import Image
from robustness_runs import CELLS, GRID, QUARTERS, cell_of, config_of, rows_of, run_small
from scored_images import image_tree, png, put, untrained  # noqa: F401  # fixtures

from recon.base.errors import UserError
from train.evaluation import images, scored
from train.evaluation.evaluate import EvaluateConfig, evaluate
from train.evaluation.images import Ready, View, ready
from train.evaluation.inputs.find import open_source
from train.evaluation.inputs.source import Lost
from train.evaluation.robust import results
from train.evaluation.robust import robustness as module
from train.evaluation.robust.cells import AS_IS
from train.evaluation.robust.grid import parse_grid
from train.model.normalize import find_normalization
from train.robustness import main


@pytest.fixture(autouse=True)
def _undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures take most of the time of a small run, and have a file of their own."""
    monkeypatch.setattr(results, "pictures", lambda found: {})  # noqa: ARG005


def evaluated(checkpoint: str, data: Path, out: Path) -> dict[str, Any]:
    evaluate(EvaluateConfig(checkpoint=checkpoint, data=str(data), out=str(out), device="cpu", resamples=20))
    facts: dict[str, Any] = json.loads((out / "metrics.json").read_text())
    return facts


def logits(rows: list[dict[str, str]], cell: str | None = None) -> dict[str, str]:
    return {row["name"]: row["logit"] for row in rows if cell is None or row["cell"] == cell}


def test_the_cell_as_is_is_what_train_evaluate_finds(tree: Path, tmp_path: Path, checkpoint: str) -> None:
    facts = run_small(checkpoint, tree, tmp_path / "r")
    whole = evaluated(checkpoint, tree, tmp_path / "e")
    first = facts["cells"][0]
    assert first["cell"] == AS_IS
    for key in ("overall", "groups"):
        assert first[key] == whole[key]
    for key in ("decision", "bootstrap", "images", "rejected", "backbone", "checkpoint", "crop"):
        assert facts[key] == whole[key]
    scores = rows_of(tmp_path / "r/scores.csv")
    as_is = [{name: row[name] for name in row if name != "cell"} for row in scores if row["cell"] == AS_IS]
    assert as_is == rows_of(tmp_path / "e/scores.csv")
    assert len(scores) == 10 * CELLS


def test_each_cell_is_what_train_evaluate_finds_for_degraded_files(
    tree: Path, tmp_path: Path, checkpoint: str
) -> None:
    facts = run_small(checkpoint, tree, tmp_path / "r")
    scores = rows_of(tmp_path / "r/scores.csv")
    for cell in parse_grid(GRID, "x"):
        view = cell.view(1 << 20)
        place = tmp_path / cell.name
        for name in logits(scores):
            with Image.open(tree / name) as image:
                degraded = view.of(np.asarray(image.convert("RGB")), name)
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(degraded).save(place / name, "PNG")
        expected = evaluated(checkpoint, place, tmp_path / f"e-{cell.name}")
        assert cell_of(facts, cell.name)["overall"] == expected["overall"]
        assert logits(scores, cell.name) == logits(rows_of(tmp_path / f"e-{cell.name}/scores.csv"))


def test_each_image_is_read_and_decoded_once(
    tree: Path, tmp_path: Path, checkpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    decode = images.decode

    def counted(data: bytes, **options: Any) -> Any:
        decoded.append(len(data))
        return decode(data, **options)

    monkeypatch.setattr(images, "decode", counted)
    run_small(checkpoint, tree, tmp_path / "r")
    assert len(decoded) == 10


def test_views_are_made_a_few_ahead_of_the_model(tree: Path) -> None:
    made: list[str] = []

    def of(pixels: Any, name: str) -> Any:
        made.append(name)
        return pixels

    source = open_source(str(tree))
    how = Ready(max_pixels=1 << 20, threads=2, views=[View(text=str(n), of=of) for n in range(7)])
    taken = []
    for number, found in ready(source, source.places(), how):
        assert not isinstance(found, Lost)
        taken.append(number)
        assert len(made) <= len(taken) + 2 * how.threads
    assert taken == list(range(70))
    assert sorted(made) == sorted(one.name for one in source.listed for _ in range(7))


def test_the_table_has_a_row_for_each_cell_and_the_csv_one_for_each_group_too(
    tree: Path, tmp_path: Path, checkpoint: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    config = config_of(checkpoint, tree, tmp_path / "r")
    words = ("--checkpoint", checkpoint, "--data", tree, "--out", config.out, "--grid", config.grid)
    assert run(monkeypatch, main, *words, "--resamples", 20, "--device", "cpu") == 0
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "r/table.md").read_text()
    facts = json.loads((tmp_path / "r/robustness.json").read_text())
    names = [cell["cell"] for cell in facts["cells"]]
    assert [line.split(" | ")[0] for line in printed.splitlines()[2 : 2 + CELLS]] == [f"| {n}" for n in names]
    rows = rows_of(tmp_path / "r/robustness.csv")
    assert [(row["cell"], row["group"]) for row in rows] == [
        (name, group) for name in names for group in ("val/gan", "val/ldm", "")
    ]
    for row in rows:
        cell = cell_of(facts, row["cell"])
        figures = cell["groups"][row["group"]] if row["group"] else cell["overall"]
        assert (int(row["real"]), int(row["fake"])) == (figures["n_real"], figures["n_fake"])
        assert float(row["auc"]) == figures["auc"]
        if row["group"] != "val/ldm":  # it has one photograph
            ends = float(row["balanced_accuracy_low"]), float(row["balanced_accuracy_high"])
            assert ends == tuple(figures["intervals"]["balanced_accuracy"])
    chain = next(row for row in rows if row["cell"] == QUARTERS[0])
    assert (chain["family"], chain["op"], chain["x"]) == ("chain", "resize+jpeg", "0.25")
    assert chain["parameters"] == "factor=0.25 resampler=box; quality=75 subsampling=4:2:0"
    assert chain["curve"] == "resampler=box"


@pytest.fixture
def _needs_five(monkeypatch: pytest.MonkeyPatch) -> None:
    """The normalisation needs 5x5 pixels, as ``residue3`` does, whose detectors are larger."""
    chosen = replace(find_normalization("resnet"), min_side=5)
    monkeypatch.setattr(scored, "find_normalization", lambda name: chosen)  # noqa: ARG005


@pytest.mark.usefixtures("_needs_five")
def test_a_view_too_small_for_the_normalisation_is_lost_in_its_cell_alone(
    tmp_path: Path, checkpoint: str
) -> None:
    put(tmp_path / "d/0_real/a.png", png(0, (24, 24)))
    put(tmp_path / "d/1_fake/a.png", png(1, (24, 24)))
    put(tmp_path / "d/1_fake/small.png", png(2, (12, 24)))
    facts = run_small(checkpoint, tmp_path / "d", tmp_path / "r", max_rejected=0.0)
    assert (facts["images"], facts["rejected"]) == (3, {})
    by_cell = {cell["cell"]: cell["left_out"] for cell in facts["cells"]}
    assert {name: lost for name, lost in by_cell.items() if lost} == {
        one: {"too small": 1} for one in QUARTERS
    }
    lines = [json.loads(line) for line in (tmp_path / "r/rejected.jsonl").read_text().splitlines()]
    assert [(line["name"], line["cell"]) for line in lines] == [("1_fake/small.png", one) for one in QUARTERS]
    assert lines[0]["cause"].startswith("6x3, the model's normalisation needs")
    counts = [cell_of(facts, name)["overall"]["n_fake"] for name in (AS_IS, *QUARTERS)]
    assert counts == [2, 1, 1]
    assert "Left out: images that can't be scored in that cell" in (tmp_path / "r/table.md").read_text()


@pytest.mark.usefixtures("_needs_five")
def test_a_cell_that_no_image_has_a_score_in_has_dashes_with_a_reason(
    tmp_path: Path, checkpoint: str
) -> None:
    for number, half in enumerate(("0_real", "1_fake")):
        put(tmp_path / f"d/gan/{half}/a.png", png(number, (8, 8)))
    facts = run_small(checkpoint, tmp_path / "d", tmp_path / "r")
    quarter = cell_of(facts, QUARTERS[0])
    assert (quarter["overall"]["auc"], quarter["left_out"]) == (None, {"too small": 2})
    table = (tmp_path / "r/table.md").read_text()
    assert "no image of this cell has a score" in table


def test_what_is_damaged_is_listed_once_and_counts_against_the_limit(
    tree: Path, tmp_path: Path, checkpoint: str
) -> None:
    put(tree / "val/gan/0_real/cut.png", png(1)[:-30])
    facts = run_small(checkpoint, tree, tmp_path / "r")
    assert (facts["images"], facts["rejected"]) == (10, {"unreadable": 1})
    [line] = (tmp_path / "r/rejected.jsonl").read_text().splitlines()
    assert json.loads(line)["cell"] is None
    rows = rows_of(tmp_path / "r/robustness.csv")
    assert [row["left_out"] for row in rows[:3]] == ["1", "0", "1"]
    with pytest.raises(UserError, match="1 of 11 images can't be scored, more than max_rejected"):
        run_small(checkpoint, tree, tmp_path / "s", max_rejected=0.05)
    assert not list((tmp_path / "s").glob("*"))


def test_a_view_larger_than_the_limit_is_lost_in_its_cell(
    tree: Path, tmp_path: Path, checkpoint: str
) -> None:
    config = config_of(checkpoint, tree, tmp_path / "r", max_pixels=400)
    Path(config.grid).write_text("double:\n- resize: {factor: 2, resampler: box}")
    module.robustness(config)
    facts = json.loads((tmp_path / "r/robustness.json").read_text())
    assert cell_of(facts, "double")["left_out"] == {"too large": 10}
    assert facts["images"] == 10


def test_images_without_labels_and_diverged_weights_are_refused_in_one_line(
    tree: Path, tmp_path: Path, checkpoint: str
) -> None:
    put(tmp_path / "plain/a.png", png(1))
    with pytest.raises(UserError, match=r"1 of 1 images of .*plain have no label.*pass --label"):
        run_small(checkpoint, tmp_path / "plain", tmp_path / "r")
    content: dict[str, Any] = torch.load(checkpoint, weights_only=True)
    content["model"]["fc.bias"].fill_(float("nan"))
    torch.save(content, tmp_path / "nan.pt")
    with pytest.raises(UserError, match="80 of 80 logits are not finite"):
        run_small(str(tmp_path / "nan.pt"), tree, tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_groups_may_be_called_like_cells(tmp_path: Path, checkpoint: str) -> None:
    for group in (AS_IS, "jpeg quality=90"):
        for number, half in enumerate(("0_real", "1_fake")):
            put(tmp_path / f"d/{group}/{half}/a.png", png(number + len(group)))
    facts = run_small(checkpoint, tmp_path / "d", tmp_path / "r")
    assert sorted(facts["cells"][0]["groups"]) == sorted([AS_IS, "jpeg quality=90"])


def test_the_default_folder_names_the_grid_the_data_and_the_crop() -> None:
    config = module.RobustnessConfig(checkpoint="runs/a/best.pt", data="x/val", grid="my/own.yaml", crop=64)
    assert module.out_of(config) == "runs/a/robustness-own-x-val-crop64"
