"""Nodes that were given different options or datasets: told in one line on all ranks, before a step."""

import json
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import fork_server, meeting
from pack_runs import config as pack_config
from torch import multiprocessing
from train_runs import small_config

from pack.publish.packing import pack
from recon.base.cli import _options as all_options
from recon.base.errors import UserError
from train.evaluate import on_ranks
from train.evaluation.robust.robustness import RobustnessConfig
from train.loop import build
from train.loop.config import MAY_DIFFER, TrainConfig
from train.loop.run import train
from train.world.agree import refuse_unlike
from train.world.launch import Launch
from train.world.world import World

REST = "; expected the same options on all nodes of a run"
REFUSED: dict[str, tuple[dict[str, Any], str]] = {  # what rank 1 was given, and the line
    "rate": (
        {"optim.lr": 0.5},
        "optim.lr=0.5 on rank 1 (node1), but optim.lr=0.002 on rank 0 (node0)" + REST,
    ),
    "seed": ({"order.seed": 5}, "order.seed=5 on rank 1 (node1), but order.seed=0 on rank 0 (node0)" + REST),
    "out": ({"out": "other"}, "out='other' on rank 1 (node1), but out='run' on rank 0 (node0)" + REST),
    "data": (
        {"data.train": "other"},
        "data.train='other' on rank 1 (node1), but data.train='nowhere' on rank",
    ),
    "model": (
        {"model.backbone": "resnet18"},
        "model.backbone='resnet18' on rank 1 (node1), but model.backbone=",
    ),
    "epochs": ({"epochs": 3}, "epochs=3 on rank 1 (node1), but epochs=2 on rank 0 (node0)" + REST),
    "filter": (
        {"data.filter": "width > 9"},
        "data.filter='width > 9' on rank 1 (node1), but data.filter=None on",
    ),
    "wait": (
        {"world.timeout_s": 90.0},
        "world.timeout_s=90.0 on rank 1 (node1), but world.timeout_s=100.0 on",
    ),
    "three": (
        {"epochs": 3, "optim.lr": 0.5, "out": "other"},
        "out='other' on rank 1 (node1), but out='run' on rank 0 (node0); optim.lr, epochs differ too" + REST,
    ),
}
MAY: dict[str, Any] = {
    "data.workers": 1,
    "data.threads": 3,
    "data.reads": 5,
    "data.read_ahead_mb": 7,
    "data.decode": "host",
    "data.cache_dir": "cache",
    "data.cache_gb": 3.0,
    "device": "auto",
    "threads": 2,
    "tracker": "wandb",
    "prometheus": "board.prom",
    "profile": 4,
}
UNLIKE = re.compile(
    r"sha256 of the manifest of data='\w{64}' on rank 1 \(node1\), but sha256 of the manifest of "
    r"data='\w{64}' on rank 0 \(node0\); expected the same datasets on all nodes of a run"
)


def changed(config: Any, options: Mapping[str, Any]) -> Any:
    """A config with other values of options that are named as on the command line."""
    for name, value in options.items():
        group, _, inner = name.partition(".")
        config = replace(
            config, **{group: changed(getattr(config, group), {inner: value}) if inner else value}
        )
    return config


def _rank(rank: int, place: dict[str, str], folder: Path) -> None:
    """Starts a run for each case, all in one process; a start's number is that of its store."""
    os.environ.update(place, CUDA_VISIBLE_DEVICES="")
    os.chdir(folder / str(rank))
    socket.gethostname = lambda: f"node{rank}"
    plain = small_config({"train": "nowhere"}, "run")
    here = changed(plain, {"data.train": "data"})
    runs = {name: changed(plain, options) if rank else plain for name, (options, _) in REFUSED.items()}
    runs["may differ"] = changed(plain, MAY) if rank else plain
    runs["unlike data"] = here
    runs["unlike filtered data"] = changed(here, {"data.filter": "width > 9"})
    found = {}
    for number, (name, config) in enumerate(runs.items()):
        launch = Launch(
            rank=rank, size=2, local_rank=rank, local_size=2, joins=True, nodes=1, restarts=number
        )
        try:
            train(config, launch=launch)
        except UserError as error:
            found[name] = str(error)
    (folder / f"{rank}.json").write_text(json.dumps(found | _scored(rank, len(runs))))


def _scored(rank: int, starts: int) -> dict[str, str]:
    """What ranks that score images together say of options that differ; "scored" if they begin."""
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE="2")
    os.environ["GROUP_WORLD_SIZE"] = "1"
    plain, found = RobustnessConfig(checkpoint="best.pt", data="photos", device="cpu"), {}
    unlike: dict[str, dict[str, Any]] = {"grid": {"grid": "dda"}, "batch": {"batch_size": 3}}
    unlike["scored"] = {"threads": 3, "device": "auto"}
    for number, (name, options) in enumerate(unlike.items(), starts):
        os.environ["TORCHELASTIC_RESTART_COUNT"] = str(number)
        try:
            on_ranks(changed(plain, options) if rank else plain, lambda *_: None)
            found[name] = "scored"
        except UserError as error:
            found[name] = str(error)
    return found


@pytest.fixture(scope="module")
def told(photographs: Path, packed: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """What each of two ranks said of each case."""
    folder = tmp_path_factory.mktemp("unlike")
    (folder / "0").mkdir()
    (folder / "0/data").symlink_to(packed)
    pack(pack_config(photographs, folder / "1/data", shard_pairs=6))
    fork_server()
    with meeting() as place:
        start: Any = multiprocessing.start_processes  # type: ignore[attr-defined]
        start(_rank, (place, folder), nprocs=2, start_method="forkserver")
    left = {str(path.relative_to(folder)) for path in folder.glob("*/*")}
    assert left == {"0/data", "1/data"}, "a run that was refused wrote something"
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("case", REFUSED)
def test_an_option_that_differs_is_told_alike_on_all_ranks_before_anything_is_written(
    told: list[dict[str, str]], case: str
) -> None:
    assert told[0][case] == told[1][case]
    assert told[0][case].startswith(REFUSED[case][1])
    assert "\n" not in told[0][case]


def test_options_of_a_node_may_differ(told: list[dict[str, str]]) -> None:
    assert MAY.keys() == MAY_DIFFER.keys()
    for one in told:  # which is the next thing that a run finds out
        assert one["may differ"].startswith("nowhere/dataset.json not found"), one["may differ"]


@pytest.mark.parametrize("case", ["unlike data", "unlike filtered data"])
def test_one_path_that_is_another_dataset_on_another_node_is_told(
    told: list[dict[str, str]], case: str
) -> None:
    assert told[0][case] == told[1][case]
    assert UNLIKE.fullmatch(told[0][case]), told[0][case]


def test_ranks_that_score_images_together_have_the_same_options(told: list[dict[str, str]]) -> None:
    for one in told:
        assert one["grid"] == "grid='dda' on rank 1 (node1), but grid='standard' on rank 0 (node0)" + REST
        assert one["batch"] == "batch_size=3 on rank 1 (node1), but batch_size=16 on rank 0 (node0)" + REST
        assert one["scored"] == "scored"


class Eight:
    """Eight ranks on two nodes, as this process sees them; counts what is exchanged."""

    size = 8

    def __init__(self, values: list[int]) -> None:
        self.values, self.exchanged = values, 0

    def gather_objects(self, mine: Any) -> list[Any]:
        self.exchanged += 1
        if isinstance(mine, bytes):
            return [bytes([value]) for value in self.values]
        return [(f"node{rank // 4}", {"lr": str(value)}) for rank, value in enumerate(self.values)]


def test_all_ranks_of_a_node_are_named_in_one_line() -> None:
    with pytest.raises(UserError) as refusal:
        refuse_unlike(Eight([1, 1, 1, 1, 2, 2, 2, 2]), {"lr": 1}, what="options")  # type: ignore[arg-type]
    assert str(refusal.value).startswith(
        "lr=2 on ranks 4, 5, 6, 7 (node1), but lr=1 on rank 0 (node0); expected"
    )


def test_ranks_that_agree_exchange_one_hash() -> None:
    ranks = Eight([1] * 8)
    refuse_unlike(ranks, {"lr": 1}, what="options")  # type: ignore[arg-type]
    assert ranks.exchanged == 1


def test_one_process_exchanges_nothing() -> None:
    alone = Eight([1])
    alone.size = 1
    refuse_unlike(alone, {"lr": 1}, what="options")  # type: ignore[arg-type]
    assert alone.exchanged == 0


def test_every_option_is_compared_or_named_among_those_that_may_differ(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = {name for name, kind in all_options(TrainConfig) if not is_dataclass(kind)}
    compared: dict[str, Any] = {}
    monkeypatch.setattr(build, "refuse_unlike", lambda _, facts, what: compared.update(facts))  # noqa: ARG005
    world = World(rank=0, size=1, local_rank=0, local_size=1, device=torch.device("cpu"))
    build.agree_on_options(small_config({"train": "data"}, "run"), world)
    assert {one.name for one in fields(TrainConfig)} <= {name.partition(".")[0] for name in names}
    assert compared.keys() == (names - MAY_DIFFER.keys()) | {"device found"}
    assert MAY_DIFFER.keys() <= names
