"""A robustness test that is killed goes on, ranks share it, and either way the files are the same bytes."""

import json
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from forked import fork_server, meeting
from killed_parts import Killed, kill_after
from robustness_runs import CELLS, config_of, contents, run_forked, run_small
from scored_images import image_tree, png, put, untrained  # noqa: F401  # fixtures

from train.evaluation import scored
from train.evaluation.robust import results
from train.evaluation.robust.robustness import robustness
from train.evaluation.work import parts
from train.evaluation.work.parts import publish_part


@pytest.fixture
def hurt(tree: Path) -> Path:
    put(tree / "val/gan/0_real/cut.png", png(1)[:-30])
    return tree


@pytest.mark.parametrize("after", [0, 2, 5])
def test_killed_after_any_part_it_goes_on_there_and_writes_the_same_files(
    hurt: Path, tmp_path: Path, checkpoint: str, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    monkeypatch.setattr(results, "pictures", lambda found: {})  # noqa: ARG005  # two ranks draw them below
    run_small(checkpoint, hurt, tmp_path / "whole")
    monkeypatch.setattr(parts, "PART", 2 * CELLS)  # two images
    published = kill_after(after, monkeypatch)
    out, ready = tmp_path / "o", scored.ready
    with pytest.raises(Killed):
        run_small(checkpoint, hurt, out)
    monkeypatch.setattr(scored, "publish_part", publish_part)
    seen: list[int] = []

    def noted(*arguments: Any) -> Any:
        for number, found in ready(*arguments):
            seen.append(number)
            yield number, found

    monkeypatch.setattr(scored, "ready", noted)
    run_small(checkpoint, hurt, out)
    assert seen == [number for number in range(11 * CELLS) if number // (2 * CELLS) not in published]
    assert contents(out) == contents(tmp_path / "whole")


def test_parts_of_another_grid_are_not_taken(
    tree: Path, tmp_path: Path, checkpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def publish(*arguments: Any) -> None:
        publish_part(*arguments)
        raise Killed

    config = config_of(checkpoint, tree, tmp_path / "o")
    text = Path(config.grid).read_text()
    Path(config.grid).write_text(text.replace("sigma: 4", "sigma: 5"))
    monkeypatch.setattr(scored, "publish_part", publish)
    with pytest.raises(Killed):
        robustness(config)
    monkeypatch.setattr(scored, "publish_part", publish_part)
    Path(config.grid).write_text(text)
    robustness(config)
    run_small(checkpoint, tree, tmp_path / "whole")
    assert contents(tmp_path / "o") == contents(tmp_path / "whole")


def test_two_ranks_write_the_files_of_one(hurt: Path, tmp_path: Path, checkpoint: str) -> None:
    facts = run_small(checkpoint, hurt, tmp_path / "one")
    config = config_of(checkpoint, hurt, tmp_path / "two")
    options = ["--checkpoint", checkpoint, "--data", str(hurt), "--out", str(tmp_path / "two")]
    options += ["--device", "cpu", "--grid", config.grid, "--resamples", "20"]
    files = [tmp_path / f"{rank}.out" for rank in range(2)]
    with meeting() as place:
        ranks: list[BaseProcess] = []
        for rank in range(2):
            own = place | {
                "RANK": str(rank),
                "WORLD_SIZE": "2",
                "LOCAL_RANK": str(rank),
                "LOCAL_WORLD_SIZE": "2",
            }
            arguments = (options, str(files[rank]), own)
            ranks.append(fork_server().Process(target=run_forked, args=arguments))  # type: ignore[attr-defined]
            ranks[-1].start()
        for one in ranks:
            one.join()
    told = [(file.read_text(), file.with_suffix(".err").read_text()) for file in files]
    assert [one.exitcode for one in ranks] == [0, 0], told
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    assert json.loads((tmp_path / "two/robustness.json").read_text()) == facts
    assert (told[0][0], told[1][0]) == ((tmp_path / "one/table.md").read_text(), "")
