"""Damage does not end an evaluation, and neither does a kill: it goes on, with the same files."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from killed_parts import Killed, kill_after
from ports import free_ports
from scored_images import image_tree, png, put, save_untrained, untrained  # noqa: F401  # fixtures
from train_data import make_dataset

from pack.storage import open_store
from recon.base.cpus import ahead
from recon.base.errors import UserError
from train.evaluation import scored
from train.evaluation.evaluate import EvaluateConfig, evaluate, tell
from train.evaluation.inputs.find import open_source
from train.evaluation.inputs.source import ImageSource, Listed, Lost
from train.evaluation.scoring import BATCH_PIXELS, Waiting, score, threads_for
from train.evaluation.work import parts
from train.evaluation.work.parts import publish_part, published_part
from train.evaluation.work.threads import single_threads
from train.model.build import build_model
from train.model.config import ModelConfig

FILES = ("scores.csv", "table.md", "rejected.jsonl")


@pytest.fixture
def hurt(tree: Path) -> Path:
    """The tree of ten images, and four more: cut, empty, too large, a link to nothing."""
    put(tree / "val/gan/0_real/cut.png", png(1)[:-30])
    put(tree / "val/gan/0_real/empty.png", b"")
    put(tree / "val/gan/1_fake/large.png", png(1, (40, 40)))
    (tree / "val/gan/1_fake/gone.png").symlink_to(tree / "nowhere.png")
    return tree


def config_of(checkpoint: str, data: Path, out: Path, **options: Any) -> EvaluateConfig:
    return EvaluateConfig(checkpoint=checkpoint, data=str(data), out=str(out), device="cpu", **options)


def names_of(out: Path) -> list[str]:
    with (out / "scores.csv").open(newline="", encoding="utf-8") as file:
        return [row["name"] for row in csv.DictReader(file)]


def contents(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in FILES if (out / name).exists()}


def test_what_is_damaged_is_counted_by_cause_listed_and_told_last(
    hurt: Path, tmp_path: Path, checkpoint: str, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "o"
    with caplog.at_level("INFO"):
        tell(config_of(checkpoint, hurt, out, max_pixels=1000))
    lines = [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]
    assert {line["name"].rpartition("/")[2]: line["kind"] for line in lines} == {
        "cut.png": "unreadable",
        "empty.png": "unreadable",
        "large.png": "too large",
        "gone.png": "missing",
    }
    assert "40x40 exceeds max_pixels=1000" in next(line["cause"] for line in lines if "large" in line["name"])
    assert len(names_of(out)) == 10
    facts = json.loads((out / "metrics.json").read_text())
    assert (facts["images"], facts["rejected"]) == (10, {"unreadable": 2, "too large": 1, "missing": 1})
    told = "cored 10 of 14 images; left out 4 (2 unreadable, 1 "
    assert told in (out / "table.md").read_text()
    assert told in caplog.messages[-1]
    assert sorted(path.name for path in out.iterdir()) == sorted([*FILES, "metrics.json"])  # no part is left


def test_images_too_small_for_the_normalisation_are_left_out(tree: Path, tmp_path: Path) -> None:
    path = save_untrained(tmp_path / "small.pt", backbone="res18nodown", normalize="residue3")
    put(tree / "val/gan/1_fake/dot.png", png(1, (1, 1)))
    evaluate(config_of(path, tree, tmp_path / "o"))
    [line] = (tmp_path / "o/rejected.jsonl").read_text().splitlines()
    assert json.loads(line)["kind"] == "too small"


def test_more_damage_than_allowed_stops_and_the_next_run_looks_again(
    hurt: Path, tmp_path: Path, checkpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PART", 2)
    out = tmp_path / "o"
    with pytest.raises(
        UserError, match=r"\d of 14 images can't be scored, more than max_rejected=0.1 allows"
    ):
        evaluate(config_of(checkpoint, hurt, out, max_rejected=0.1))
    put(hurt / "val/gan/0_real/cut.png", png(1))
    put(hurt / "val/gan/0_real/empty.png", png(2))
    evaluate(config_of(checkpoint, hurt, out, max_rejected=0.1))
    assert len(names_of(out)) == 13
    with pytest.raises(UserError, match="max_rejected=2"):
        config_of(checkpoint, hurt, out, max_rejected=2.0)


def test_the_images_of_a_damaged_pair_are_left_out_and_no_other(tmp_path: Path, checkpoint: str) -> None:
    url = make_dataset(tmp_path / "d", pairs=4, shard_pairs=4)
    tar = Path(url) / "shard-000000.tar"
    data = bytearray(tar.read_bytes())
    data[data.index(b"IDAT") + 20] ^= 1
    tar.write_bytes(data)
    evaluate(config_of(checkpoint, Path(url), tmp_path / "o"))
    lines = [json.loads(line) for line in (tmp_path / "o/rejected.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    assert all("CRC-32 of real differs" in line["cause"] for line in lines)
    assert {line["kind"] for line in lines} == {"unreadable"}
    assert len(names_of(tmp_path / "o")) == 6


@pytest.mark.parametrize("after", range(7))
def test_killed_after_any_part_an_evaluation_goes_on_there_and_writes_the_same_files(
    hurt: Path, tmp_path: Path, checkpoint: str, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    evaluate(config_of(checkpoint, hurt, tmp_path / "whole"))
    monkeypatch.setattr(parts, "PART", 2)
    published = kill_after(after, monkeypatch)
    out = tmp_path / "o"
    with pytest.raises(Killed):
        evaluate(config_of(checkpoint, hurt, out))
    assert len(published) == after
    monkeypatch.setattr(scored, "publish_part", publish_part)
    read: list[int] = []
    monkeypatch.setattr(scored, "ready", lambda source, blocks, how: noted(read, source, blocks, how))
    evaluate(config_of(checkpoint, hurt, out))
    assert read == [place for place in range(14) if place // 2 not in published]
    assert contents(out) == contents(tmp_path / "whole")
    assert not list(out.glob("scores.part-*"))


def test_parts_of_a_killed_evaluation_of_other_data_with_equal_names_are_not_taken(
    tmp_path: Path, checkpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place, seed in (("a", 1), ("b", 2)):
        put(tmp_path / place / "0_real/1.png", png(seed))
    evaluate(config_of(checkpoint, tmp_path / "b", tmp_path / "whole"))

    def publish(*arguments: Any) -> None:
        publish_part(*arguments)
        raise Killed

    out = tmp_path / "o"
    monkeypatch.setattr(scored, "publish_part", publish)
    with pytest.raises(Killed):
        evaluate(config_of(checkpoint, tmp_path / "a", out))
    monkeypatch.setattr(scored, "publish_part", publish_part)
    evaluate(config_of(checkpoint, tmp_path / "b", out))
    assert contents(out)["scores.csv"] == contents(tmp_path / "whole")["scores.csv"]


def noted(read: list[int], *arguments: Any) -> Iterator[Any]:
    from train.evaluation.images import ready

    for place, found in ready(*arguments):
        read.append(place)
        yield place, found


def test_parts_of_another_detector_are_not_taken(tree: Path, tmp_path: Path) -> None:
    source = open_source(str(tree))
    [part] = parts.parts_of(source)
    store = open_store(str(tmp_path / "o"))
    outcomes = [0.1 + number for number in range(9)] + [Lost(kind="missing", cause="x")]
    publish_part(store, part, "mine", outcomes)
    assert published_part(store, part, "mine") == outcomes
    assert published_part(store, part, "yours") is None
    put(tmp_path / "o" / part.name, b"{")
    with pytest.raises(UserError, match=r"part-000000\.json can't be read .*remove it"):
        published_part(store, part, "mine")


@pytest.mark.parametrize("blocks", [None, [3, 3, 1, 5, 8]])
def test_parts_hold_every_image_once_and_cut_no_block(
    blocks: list[int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PART", 4)
    listed = [Listed(str(number), "g", 0, "") for number in range(20)]
    source = ImageSource(kind="", listed=listed, read=lambda first, count: [], blocks=blocks)  # noqa: ARG005
    found = parts.parts_of(source)
    cut = [block for part in found for block in part.blocks]
    assert [count for _, count in cut] == (blocks or [1] * 20)
    assert [place for first, count in cut for place in range(first, first + count)] == list(range(20))
    assert all(part.count >= 4 for part in found[:-1])


def test_two_ranks_write_the_table_of_one(hurt: Path, tmp_path: Path, checkpoint: str) -> None:
    evaluate(config_of(checkpoint, hurt, tmp_path / "one"))
    script = (
        "from train.evaluation.work import parts; parts.PART = 2\nfrom train.evaluate import main; main()\n"
    )
    options = [
        "--checkpoint",
        checkpoint,
        "--data",
        str(hurt),
        "--out",
        str(tmp_path / "two"),
        "--device",
        "cpu",
    ]
    [port] = free_ports(1)
    ranks = []
    for rank in range(2):
        own = {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": 2}
        own |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
        env = os.environ | {name: str(value) for name, value in own.items()}
        ranks.append(
            subprocess.Popen(
                [sys.executable, "-c", script, *options],
                env=env,
                cwd=Path(__file__).parents[1],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    told = [rank.communicate() for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], told
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    assert told[0][0] == (tmp_path / "one/table.md").read_text()
    assert told[1][0] == ""


def test_work_ahead_keeps_the_order_and_its_bound() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        while taken < 40:
            taken += 1
            yield taken

    with single_threads(3) as pool:
        for place, found in enumerate(ahead(pool, lambda item: -item, items(), 4), 1):
            assert found == -place
            assert taken <= place + 4


def test_side_by_side_images_of_all_sizes_come_in_order_with_the_scores_that_they_have_alone() -> None:
    model = build_model(ModelConfig(backbone="highpass")).eval()
    threads = torch.get_num_threads()
    sides = [24, 40, 24, 1100, 24, 17, 40, 24]
    images = [
        Waiting(index=place, pixels=np.full((side, 16 if side < 999 else 1000, 3), side % 256, np.uint8))
        for place, side in enumerate(sides)
    ]
    assert threads_for(1100 * 1000, 2) == 2
    assert threads_for(24 * 16, 2) == 1
    assert threads_for(BATCH_PIXELS, 1) == 1
    try:
        torch.set_num_threads(2)
        cpu = torch.device("cpu")
        found = [
            (place, logit)
            for places, logits_B in score(model, images, batch_size=4, device=cpu)
            for place, logit in zip(places, logits_B.tolist(), strict=True)
        ]
        alone = [next(score(model, [image], batch_size=4, device=cpu))[1].item() for image in images]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert [place for place, _ in found] == list(range(len(sides)))
    assert [logit for _, logit in found] == alone
    assert found[0][1] == found[2][1] == found[4][1] == found[7][1]
