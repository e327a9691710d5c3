"""The pictures of a robustness test: one a family, and they show what was found."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from robustness_runs import config_of, run_small
from scored_images import image_tree, png, put, untrained  # noqa: F401  # fixtures

from train.evaluation.figures.scores import OVERALL
from train.evaluation.robust.curves import pictures
from train.evaluation.robust.robustness import robustness


def test_pictures_are_there_and_show_something(tree: Path, tmp_path: Path, checkpoint: str) -> None:
    put(tmp_path / "r/curves-gone.png", b"of an earlier grid")
    run_small(checkpoint, tree, tmp_path / "r")
    pictures = sorted(path.name for path in (tmp_path / "r").glob("*.png"))
    assert pictures == ["curves-chain.png", "curves-jpeg.png", "curves.png"]
    for name in pictures:
        with Image.open(tmp_path / "r" / name) as image:
            assert image.width > 800
            colours = np.asarray(image.convert("RGB")).reshape(-1, 3)
        assert len(np.unique(colours, axis=0)) > 50


def test_one_class_alone_has_its_accuracy_and_dashes(tmp_path: Path, checkpoint: str) -> None:
    for number in range(3):
        put(tmp_path / f"d/1_fake/{number}.png", png(number))
    facts = run_small(checkpoint, tmp_path / "d", tmp_path / "r")
    assert facts["cells"][0]["overall"]["auc"] is None
    assert facts["cells"][0]["overall"]["fake_accuracy"] is not None
    table = (tmp_path / "r/table.md").read_text()
    assert "of all cells: no real images." in table
    assert (tmp_path / "r/curves-jpeg.png").stat().st_size > 5000


def test_a_value_outside_its_interval_is_drawn(tree: Path, tmp_path: Path, checkpoint: str) -> None:
    config = config_of(checkpoint, tree, tmp_path / "r")
    Path(config.grid).write_text("noise:\n- noise: {sigma: 4}")
    odd = []
    for one in robustness(config):
        figures = replace(one.overall, auc=0.5, intervals={"auc": (0.6, 0.7)})
        odd.append(replace(one, report=replace(one.report, rows={OVERALL: figures})))
    assert list(pictures(odd)) == ["curves.png"]
