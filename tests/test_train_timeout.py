"""Ranks that hang, work alone, do not come, or end: how long the others wait, and what they say."""

import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import meeting
from torch import multiprocessing
from train_ranks import fork_server

from recon.base.errors import PeerError, UserError
from train.loop.build import check_sizes
from train.loop.config import DataConfig, TrainConfig
from train.order.config import OrderConfig
from train.world.config import WorldConfig
from train.world.launch import Launch
from train.world.world import World, _tell_unknown, open_world

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

SHORT = WorldConfig(timeout_s=1, join_timeout_s=30, alone_timeout_s=30)
LONG_S = 2.5  # longer than a step's timeout


def late(world: World) -> None:
    """Rank 0 works alone for longer than a step may take; then rank 1 hangs."""
    world.from_first(lambda: time.sleep(LONG_S) or b"")
    world.any(False)
    if world.rank:
        time.sleep(LONG_S)
    world.any(False)


def ends(world: World) -> None:
    world.any(False)
    if world.rank:
        os._exit(1)
    while True:
        world.add_up(torch.zeros(1))


def _rank(rank: int, job: Any, place: dict[str, str], folder: Path) -> None:
    os.environ.update(place)
    launch = Launch(rank=rank, size=2, local_rank=rank, local_size=2, joins=True)
    try:
        with open_world("cpu", launch, SHORT) as world:
            job(world)
    except PeerError as error:
        (folder / f"{rank}.txt").write_text(str(error))


@pytest.mark.parametrize(
    ("job", "told"),
    [
        (late, "rank 0 stops: another rank has not answered for 1 s (world.timeout_s; 30 s where rank 0"),
        (ends, "rank 0 stops: another rank ended; see its error"),
    ],
    ids=["hangs", "ends"],
)
def test_a_rank_that_hangs_or_ends_is_noticed_in_one_line(tmp_path: Path, job: Any, told: str) -> None:
    fork_server()
    with meeting() as place:
        ranks = multiprocessing.start_processes(
            _rank, (job, place, tmp_path), nprocs=2, join=False, start_method="forkserver"
        )
        for process in ranks.processes:
            process.join()
    found = (tmp_path / "0.txt").read_text()
    assert found.startswith(told)
    assert "\n" not in found


def test_ranks_that_do_not_come_are_waited_for_no_longer_than_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    launch = Launch(rank=0, size=2, joins=True, endpoint="127.0.0.1:0")
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")
    words = r"^rank 0 stops: not all 2 ranks have come within 1 s \(world.join_timeout_s\)"
    with pytest.raises(PeerError, match=words), open_world("cpu", launch, WorldConfig(join_timeout_s=1)):
        pass


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"timeout_s": 0}, "world.timeout_s=0"),
        ({"timeout_s": 1000}, "world.alone_timeout_s=900.0, expected more than 0, the second no less"),
        ({"join_timeout_s": 0}, "world.join_timeout_s=0, expected more than 0"),
        ({"timeout_s": 60}, "world.timeout_s=60, expected more than data.deadline_s=60.0"),
    ],
)
def test_timeouts_that_make_no_sense_are_refused(options: dict[str, float], told: str) -> None:
    with pytest.raises(UserError) as refusal:
        TrainConfig(out="out", data=DataConfig(train="data"), world=WorldConfig(**options))
    assert told in str(refusal.value)


def test_lanes_must_suit_every_number_of_nodes_that_a_run_may_have() -> None:
    launch = Launch(rank=0, size=8, local_size=4, sizes=(8, 12, 16))
    check_sizes(OrderConfig(lanes=192, global_batch=48), launch)
    with pytest.raises(
        UserError, match=r"^NNODES=2:4 lets the run go on with 3, but global_batch=64 is not a mul"
    ):
        check_sizes(OrderConfig(lanes=192, global_batch=64), launch)
    with pytest.raises(UserError, match=r"^NNODES=3, but lanes=8 is not a multiple of the world size 12"):
        check_sizes(OrderConfig(lanes=8, global_batch=48), Launch(size=8, local_size=4, sizes=(12,)))
    with pytest.raises(UserError, match=r"^lanes=20 is not a multiple of the world size 8"):
        check_sizes(OrderConfig(lanes=20, global_batch=16), launch)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "h" * 300])
def test_a_name_without_an_address_is_told_before_ranks_wait_for_it(
    capsys: pytest.CaptureFixture[str], host: str
) -> None:
    _tell_unknown(host, 30)
    _tell_unknown("127.0.0.1", 30)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"MASTER_ADDR={host} has no address yet (")
    assert line.endswith("), asking for 30 s")
