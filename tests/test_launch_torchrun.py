"""How ranks end under launch/torchrun.py: with which status and words, and whether they start again."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from launched import ROOT, gone, launched, until
from patience import PATIENCE_S
from ports import free_ports
from train_data import make_dataset
from train_runs import as_options, small_config

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="needs the parent death signal of Linux"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


def test_a_mistake_is_one_line_and_starts_nothing_again(tmp_path: Path) -> None:
    with launched("mistake", tmp_path) as one:
        assert one.ended() == (2, [f"error: a mistake that each rank finds, in {tmp_path}"])
    assert one.started(1) == []


def test_a_rank_whose_bucket_is_away_waits_for_no_read_that_hangs(tmp_path: Path) -> None:
    with launched("away", tmp_path, max_restarts="0") as one:
        assert one.ended() == (74, ["error: the bucket is away"])


def test_ranks_that_saved_and_left_are_not_started_again(tmp_path: Path) -> None:
    with launched("leave", tmp_path, nproc_per_node="1") as one:
        assert one.ended() == (75, [])
    assert one.started(1) == []


def test_what_is_told_is_the_cause_and_not_who_noticed_it_first(tmp_path: Path) -> None:
    with launched("peer", tmp_path) as one:
        assert one.ended() == (2, ["error: the cause"])


def test_a_killed_rank_starts_all_again_and_in_the_end_is_named(tmp_path: Path) -> None:
    with launched("killed", tmp_path, max_restarts="1") as one:
        status, lines = one.ended()
    assert (status, len(one.started(1))) == (137, 2)
    again = "rank 0 was killed by SIGKILL: all ranks start again, 1 times at most"
    assert lines == [again, "error: rank 0 was killed by SIGKILL"]


def test_a_fault_of_ours_keeps_its_traceback(tmp_path: Path) -> None:
    with launched("broken", tmp_path, max_restarts="0", nproc_per_node="1") as one:
        status, lines = one.ended()
    assert (status, lines[-2:]) == (
        1,
        ["RuntimeError: a fault of ours", "error: rank 0 ended with status 1; see what it wrote above"],
    )


def test_ranks_end_when_their_launcher_is_killed(tmp_path: Path) -> None:
    with launched("wait", tmp_path) as one:
        until(lambda: len(one.started()) == 2)
        time.sleep(0.5)  # until they have attached to it; before that they look for it themselves
        one.send(signal.SIGKILL)
        until(lambda: gone(one.started()))
    assert (tmp_path / "asked").exists()  # SIGTERM: training saves


def test_ranks_whose_launcher_was_killed_while_they_started_end_too(tmp_path: Path) -> None:
    with launched("slow to start", tmp_path, nproc_per_node="1") as one:
        until(one.started)
        one.send(signal.SIGKILL)
        until(lambda: gone(one.started()))


@pytest.mark.parametrize("deed", ["wait", "slow to start"])
def test_ctrl_c_is_one_line_also_while_ranks_start(tmp_path: Path, deed: str) -> None:
    with launched(deed, tmp_path, nproc_per_node="1") as one:
        until(one.started)
        one.send(signal.SIGINT)
        assert one.ended() == (130, ["error: interrupted"])
        until(lambda: gone(one.started()))


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_soak_ctrl_c_at_any_moment_of_a_run_gives_no_traceback(tmp_path: Path) -> None:
    url = make_dataset(tmp_path / "data", pairs=16, shard_pairs=8, size=(40, 40))
    script = str(ROOT / "launch/torchrun.sh")
    for seed in range(20):
        run = small_config({"train": url}, tmp_path / f"run{seed}", epochs=1000)
        environ = os.environ | {"NPROC_PER_NODE": "2", "PYTHON": sys.executable}
        process = subprocess.Popen(
            ["bash", script, *as_options(run)], env=environ, stderr=subprocess.PIPE, text=True
        )
        time.sleep(random.Random(seed).uniform(0, 8))
        process.send_signal(signal.SIGINT)
        try:
            _, said = process.communicate(timeout=20)
        except subprocess.TimeoutExpired:  # Python was about to start, and did not hear of it
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 130, said
        assert "Traceback" not in said, (seed, said)
        assert said.count("error: ") == 1


def two_nodes(port: int) -> list[dict[str, str]]:
    shared = {"nnodes": "2", "nproc_per_node": "1", "rdzv_id": "a", "rdzv_backend": "c10d"}
    shared["rdzv_endpoint"] = f"127.0.0.1:{port}"
    return [shared | {"rdzv_conf": f"is_host={int(node == 0)},last_call_timeout=1"} for node in range(2)]


def test_a_node_that_is_asked_to_leave_takes_the_others_along_at_once(tmp_path: Path) -> None:
    """torchrun would take its rank's 75 for a failure, and wait ten minutes for the first one."""
    first, second = two_nodes(*free_ports(1))
    with launched("wait", tmp_path, "a", **first) as one, launched("wait", tmp_path, "b", **second) as other:
        until(lambda: len(one.started()) == 2)
        other.send(signal.SIGTERM)
        assert (one.ended(), other.ended()) == ((75, []), (75, []))
    assert one.started(1) == []


@pytest.mark.parametrize("notices", [True, False])
def test_a_mistake_that_one_node_finds_ends_all_with_its_status_and_text(
    tmp_path: Path, notices: bool
) -> None:
    if not notices:
        (tmp_path / "waits").touch()
    nodes = [node | {"max_restarts": "3"} for node in two_nodes(*free_ports(1))]
    with (
        launched("mistake of one", tmp_path, "a", **nodes[0]) as one,
        launched("mistake of one", tmp_path, "b", **nodes[1]) as other,
    ):
        ends = [each.ended() for each in (one, other)]
    told = sorted(line for _, lines in ends for line in lines if line.startswith("error: "))
    found = "a mistake that rank 1 alone finds"
    assert told == sorted([f"error: {found}", f"error: {socket.gethostname()}: {found}"])
    assert [status for status, _ in ends] == [2, 2]
    assert one.started(1) == []


def test_a_node_whose_rendezvous_has_died_ends_in_one_line(tmp_path: Path) -> None:
    first, second = two_nodes(*free_ports(1))
    with launched("wait", tmp_path, "a", **first) as one, launched("wait", tmp_path, "b", **second) as other:
        until(lambda: len(one.started()) == 2)
        (killed,) = tmp_path.glob("started-0-0-*")
        os.kill(int(killed.name.split("-")[3]), signal.SIGKILL)
        one.send(signal.SIGKILL)
        until(lambda: not one.process.is_alive())
        time.sleep(0.5)  # the other one asks for nodes that want to join
        (tmp_path / "killed").touch()
        status, lines = other.ended()
    # The server that it was forked from imported torch without TORCH_CPP_LOG_LEVEL: it warns here.
    assert (status, sum(line.startswith("error: ") for line in lines)) == (69, 1)
    assert not [line for line in lines if "Traceback (most recent" in line]


def test_a_node_that_waits_in_vain_says_for_whom() -> None:
    (port,) = free_ports(1)
    environ = {"PATH": os.environ["PATH"], "SKYPILOT_NODE_RANK": "1", "SKYPILOT_NUM_NODES": "2"}
    environ |= {
        "RDZV_ENDPOINT": f"127.0.0.1:{port}",
        "RDZV_ID": "a",
        "RDZV_TIMEOUT": "1",
        "NPROC_PER_NODE": "1",
    }
    environ |= {"PYTHON": sys.executable}
    words = ["bash", str(ROOT / "launch/torchrun.sh"), "--out", "a"]
    ended = subprocess.run(words, env=environ, capture_output=True, text=True, check=False)
    first, last = ended.stderr.splitlines()
    assert first == f"node 1 of 2 by SKYPILOT_NODE_RANK, 1 process, rendezvous at 127.0.0.1:{port}"
    assert last.startswith(f"error: 127.0.0.1:{port} does not listen after 1 s")
    assert ended.returncode == 69
