"""Where a process runs: each launcher's variables, the command lines and the worlds that follow from them."""

import itertools
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import launch_environments as by
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pack.plan.ranks import Rank, find_rank
from recon.base.errors import UserError
from recon.place.node import find_node
from recon.place.slurm import first_host
from train.world.launch import Launch, find_launch

ROOT = Path(__file__).parents[1]
HAND = {"NNODES": "4", "RDZV_ID": "run7", "RDZV_ENDPOINT": "node0:29400"}
NODES: dict[str, tuple[Mapping[str, str], str, str]] = {  # variables, first line, options of torchrun
    "alone": ({}, "one node, 8 processes", "--standalone --nnodes 1"),
    "by hand": (
        HAND,
        "a node of 4 by NNODES, 8 processes, rendezvous at node0:29400",
        "--nnodes 4 --rdzv-id run7 --rdzv-endpoint node0:29400 --rdzv-conf join_timeout=600",
    ),
    "elastic": (
        HAND | {"NNODES": "2:4", "MAX_RESTARTS": "3"},
        "a node of 2:4 by NNODES, 8 processes, rendezvous at node0:29400",
        "--nnodes 2:4 --max-restarts 3 --rdzv-id run7 --rdzv-endpoint node0:29400",
    ),
    "slurm": (
        by.slurm(2, 4, 1),
        "node 2 of 4 by SLURM_NODEID, 8 processes, rendezvous at gpu03:20795",
        "--nnodes 4 --rdzv-id slurm-17.0 --rdzv-endpoint gpu03:20795 --rdzv-conf join_timeout=600,is_host=0",
    ),
    "the first of slurm": (
        by.slurm(0, 4, 1),
        "node 0 of 4 by SLURM_NODEID, 8 processes, rendezvous at gpu03:20795",
        "--nnodes 4 --rdzv-conf join_timeout=600,is_host=1",
    ),
    "kubeflow": (
        by.kubeflow(1, 2),
        "node 1 of 2 by PET_NODE_RANK, 8 processes, rendezvous at train-node-0-0.train:29500",
        "--nnodes 2 --nproc-per-node auto --rdzv-backend c10d --rdzv-endpoint train-node-0-0.train:29500",
    ),
    "elastic PyTorchJob": (
        {"PET_NNODES": "1:2", "PET_RDZV_ENDPOINT": "job-worker-0:23456", "PET_RDZV_ID": "job"}
        | {"PET_RDZV_BACKEND": "c10d", "PET_MAX_RESTARTS": "10", "PET_NPROC_PER_NODE": "8"},
        "a node of 1:2 by PET_NNODES, 8 processes, rendezvous at job-worker-0:23456",
        "--nnodes 1:2 --nproc-per-node 8 --max-restarts 10 --rdzv-id job",
    ),
    "jobset": (
        by.jobset(3, 4),
        "node 3 of 4 by JOB_COMPLETION_INDEX, 8 processes, rendezvous at train-node-0-0.train:29400",
        "--nnodes 4 --rdzv-id train --rdzv-conf join_timeout=600,is_host=0",
    ),
    "sky": (
        by.sky(1, 2),
        "node 1 of 2 by SKYPILOT_NODE_RANK, 8 processes, rendezvous at 10.0.0.1:29400",
        "--nnodes 2 --rdzv-id sky-2026-11-30-08-00-00-000000_train-1 --rdzv-endpoint 10.0.0.1:29400",
    ),
    "mpirun, one a node": (
        by.open_mpi(1, 2, 1) | {"MASTER_ADDR": "node0"},
        "node 1 of 2 by OMPI_COMM_WORLD_RANK, 8 processes, rendezvous at node0:29400",
        "--nnodes 2 --rdzv-id job@1 --rdzv-endpoint node0:29400",
    ),
}


def pairs(options: list[str]) -> set[tuple[str, str]]:
    return {(name, value) for name, value in itertools.pairwise(options) if name.startswith("--")}


@pytest.mark.parametrize("name", NODES)
def test_a_node_says_what_it_found_and_asks_torchrun_for_it(name: str) -> None:
    environ, told, options = NODES[name]
    node = find_node(environ, together=True)
    assert node.told(8) == told
    assert pairs(options.split()) <= pairs(node.options())
    assert ("--standalone" in node.options()) == (name == "alone")


def test_nodes_reach_each_other_by_the_address_that_the_first_one_sees() -> None:
    assert ("--local-addr", "10.0.0.7") in pairs(find_node(HAND, together=True).options("10.0.0.7"))


@pytest.mark.parametrize(
    ("variables", "endpoint"),
    [
        ({"RDZV_ENDPOINT": "[::1]"}, "[::1]:29400"),
        ({"RDZV_ENDPOINT": "[fd00::1]:7"}, "[fd00::1]:7"),
        ({"RDZV_ENDPOINT": "", "MASTER_ADDR": "fd00::1", "MASTER_PORT": "7"}, "[fd00::1]:7"),
        ({"RDZV_ENDPOINT": "node_0.train.svc.:7"}, "node_0.train.svc.:7"),
    ],
)
def test_an_endpoint_may_be_an_address_of_ipv6_in_brackets(variables: dict[str, str], endpoint: str) -> None:
    assert find_node(HAND | variables, together=True).endpoint == endpoint


def test_a_node_s_number_goes_with_the_number_of_nodes() -> None:
    found = find_node(HAND | {"PET_NODE_RANK": "0", "NODE_RANK": "0"}, together=True)
    assert (found.rank, found.is_host) == (0, True)
    assert find_node({"NODE_RANK": "0", "NNODES": "1"}, together=True).nodes == "1"
    assert find_node(HAND | {"PET_NODE_RANK": "0", "NNODES": "2:4"}, together=True).rank is None


@pytest.mark.parametrize(
    ("variables", "conf"),
    [
        ({}, "join_timeout=600,last_call_timeout=30"),
        ({"RDZV_TIMEOUT": "20"}, "join_timeout=20,last_call_timeout=20"),
    ],
)
def test_enough_nodes_wait_for_more_no_longer_than_for_too_few(variables: dict[str, str], conf: str) -> None:
    found = find_node(HAND | {"NNODES": "1:2"} | variables, together=True)
    assert ("--rdzv-conf", conf) in pairs(found.options())


UNNUMBERED = ("by hand", "elastic", "elastic PyTorchJob")


@pytest.mark.parametrize("name", UNNUMBERED)
def test_nodes_that_have_no_number_can_not_share_the_packing(name: str) -> None:
    with pytest.raises(UserError, match=r"does not tell which of the nodes this is, and each would pack all"):
        find_node(NODES[name][0], together=False)


@pytest.mark.parametrize("name", [name for name in NODES if name not in UNNUMBERED])
def test_nodes_that_pack_need_no_place_to_meet(name: str) -> None:
    node = find_node(NODES[name][0], together=False)
    assert "--standalone" in node.options()
    assert "rendezvous" not in node.told(8)


@pytest.mark.parametrize(
    ("environ", "complaint"),
    [
        ({"NNODES": "4", "PET_NNODES": "2"}, "NNODES=4, but PET_NNODES=2, expected the same; unset one"),
        ({"NPROC_PER_NODE": "4", "PET_NPROC_PER_NODE": "8"}, "NPROC_PER_NODE=4, but PET_NPROC_PER_NODE=8"),
        (by.slurm(0, 4, 1) | {"NNODES": "2"}, "NNODES=2, but SLURM_STEP_NUM_TASKS=4, expected the same"),
        (by.sky(0, 4) | {"NNODES": "5:6"}, "NNODES=5:6, but SKYPILOT_NUM_NODES=4"),
        (
            by.slurm(9, 4, 8),
            "SLURM_PROCID=9 of SLURM_STEP_NUM_TASKS=32 on 4 nodes: each would start all ranks",
        ),
        (by.open_mpi(0, 1, 8), "OMPI_COMM_WORLD_SIZE=8 on 1 node: each would start all ranks of its node"),
        ({"JOB_COMPLETION_INDEX": "3"}, "set NNODES to the job's completions"),
        (by.kubernetes(0, 2), "NNODES=2 needs RDZV_ID"),
        (by.kubernetes(0, 2) | {"RDZV_ID": "a"}, "NNODES=2 needs RDZV_ENDPOINT"),
        ({"NNODES": "4:2"}, "NNODES=4:2, expected a number of nodes, or MIN:MAX"),
        ({"SLURM_PROCID": "0", "SLURM_NNODES": "4"}, "SLURM_NNODES=4, but this process is the job's script"),
        (by.sky(4, 4), "SKYPILOT_NODE_RANK=4 and SKYPILOT_NUM_NODES=4, expected 0 <= rank < size"),
        ({"SKYPILOT_NODE_RANK": "0"}, "SKYPILOT_NUM_NODES is not set, expected a number"),
        (HAND | {"RDZV_TIMEOUT": "0"}, "RDZV_TIMEOUT=0, expected seconds"),
        (HAND | {"RDZV_TIMEOUT": "9" * 20}, "expected seconds, at most 9999999"),
        (HAND | {"NODE_TIMEOUT": "45 s"}, "NODE_TIMEOUT=45 s, expected seconds"),
        (HAND | {"REJOIN_TIMEOUT": "0"}, "REJOIN_TIMEOUT=0, expected seconds"),
        (HAND | {"MAX_RESTARTS": "9" * 20}, "expected a number, at most 999999"),
        ({"NNODES": "9" * 20}, "expected a number of nodes, or MIN:MAX"),
        (
            {"RDZV_ENDPOINT": "h:1", "RDZV_ID": "a"},
            "RDZV_ENDPOINT is set, but not NNODES",
        ),
        ({"RANK": "1", "WORLD_SIZE": "2"}, "RANK=1 and WORLD_SIZE=2 say that this process is a rank"),
        (HAND | {"RDZV_ENDPOINT": "h:"}, "RDZV_ENDPOINT=h:, expected HOST:PORT of one of the nodes"),
        (HAND | {"RDZV_ENDPOINT": ":29400"}, "RDZV_ENDPOINT=:29400, expected HOST:PORT"),
        (HAND | {"RDZV_ENDPOINT": "h:99999"}, "RDZV_ENDPOINT=h:99999, expected HOST:PORT"),
        (HAND | {"RDZV_ENDPOINT": "a..b:29400"}, "RDZV_ENDPOINT=a..b:29400, expected HOST:PORT"),
        (HAND | {"RDZV_ENDPOINT": "h" * 70 + ":29400"}, "expected HOST:PORT of one of the nodes"),
        (
            HAND | {"RDZV_ENDPOINT": "::1"},
            "RDZV_ENDPOINT=::1, expected HOST:PORT of one of the nodes, and [",
        ),
        (HAND | {"RDZV_ENDPOINT": "fe80::1:29400"}, "RDZV_ENDPOINT=fe80::1:29400, expected HOST:PORT"),
        (HAND | {"RDZV_ENDPOINT": "[node0]:29400"}, "RDZV_ENDPOINT=[node0]:29400, expected HOST:PORT"),
        (HAND | {"RDZV_ENDPOINT": "http://foo:29400"}, "RDZV_ENDPOINT=http://foo:29400, expected HOST:PORT"),
        (HAND | {"RDZV_ENDPOINT": "foo bar:29400"}, "RDZV_ENDPOINT=foo bar:29400, expected HOST:PORT"),
        (HAND | {"NODE_RANK": "1"}, "NODE_RANK=1 is not read: set PET_NODE_RANK=1, and NNODES to a n"),
        ({"NODE_RANK": "1"}, "NODE_RANK=1 is not read"),
        (by.sky(1, 2) | {"NODE_RANK": "0"}, "NODE_RANK=0, but SKYPILOT_NODE_RANK=1, expected the same"),
        ({"PET_NODE_RANK": "1"}, "PET_NODE_RANK=1, but PET_NNODES is not set; set both"),
        (
            by.kubeflow(0, 2) | {"JOB_COMPLETION_INDEX": "1"},
            "JOB_COMPLETION_INDEX=1, but PET_NODE_RANK=0, expected the same",
        ),
        (HAND | {"RDZV_BACKEND": "foo"}, "RDZV_BACKEND=foo, expected c10d, etcd, etcd-v2"),
    ],
)
def test_contradictions_are_one_line(environ: Mapping[str, str], complaint: str) -> None:
    with pytest.raises(UserError) as refusal:
        find_node(environ, together=True)
    assert complaint in str(refusal.value)
    assert "\n" not in str(refusal.value)


GROUPS: dict[str, Callable[[int, int, int], Mapping[str, str]]] = {
    "slurm": by.slurm,
    "ray": by.ray,
    "torchrun": by.torchrun,
    "mpirun": lambda rank, nodes, each: by.open_mpi(rank, nodes, each) | {"MASTER_ADDR": "node0"},
}


@pytest.mark.parametrize("name", GROUPS)
@given(nodes=st.integers(1, 4), per_node=st.integers(1, 4))
def test_processes_find_one_world_in_which_each_has_its_own_place(
    name: str, nodes: int, per_node: int
) -> None:
    found = [find_launch(GROUPS[name](rank, nodes, per_node)) for rank in range(nodes * per_node)]
    if len(found) > 1:
        assert [one.rank for one in found] == list(range(len(found)))
        assert {(one.size, one.joins, one.local_size) for one in found} == {(len(found), True, per_node)}
        assert [one.local_rank for one in found] == [rank % per_node for rank in range(len(found))]
        assert len({(one.endpoint, one.job) for one in found}) == 1
    packing = [find_rank(GROUPS[name](rank, nodes, per_node)) for rank in range(nodes * per_node)]
    assert packing == [Rank(rank, len(found)) for rank in range(len(found))]


def test_tasks_of_srun_are_the_ranks_of_a_run_without_torchrun() -> None:
    found = find_launch(by.slurm(9, 2, 8))
    assert found == Launch(
        rank=9,
        size=16,
        local_rank=1,
        local_size=8,
        joins=True,
        job="slurm-17.0",
    )
    assert found.told == "rank 9 of 16 by SLURM_PROCID, rendezvous at gpu03:20795"
    assert find_launch(by.ray(9, 2, 8)).told == "rank 9 of 16 by RANK, rendezvous at 10.0.0.1:41234"
    assert find_launch({}).told is None


def test_a_machine_s_tasks_of_mpirun_meet_on_it() -> None:
    endpoints = {find_launch(by.open_mpi(rank, 1, 4)).endpoint for rank in range(4)}
    assert len(endpoints) == 1
    assert (endpoints.pop() or "").startswith("127.0.0.1:")


@pytest.mark.parametrize("pods", [by.kubeflow(1, 2), by.jobset(1, 2), by.sky(1, 2), by.open_mpi(1, 2, 1)])
def test_pods_and_machines_that_train_without_torchrun_are_refused(pods: Mapping[str, str]) -> None:
    with pytest.raises(UserError, match=r"=1 of [A-Z_]+=2, but no RANK: .* launch/torchrun\.sh"):
        find_launch(pods)


@pytest.mark.parametrize(
    "pods", [by.kubeflow, by.kubernetes, by.sky, lambda rank, nodes: by.slurm(rank, nodes, 1)]
)
def test_worlds_of_their_own_on_each_node_are_refused_but_pack_together(
    pods: Callable[[int, int], Mapping[str, str]],
) -> None:
    apart = [by.torchrun(rank, 1, 2) | pods(node, 3) for node in range(3) for rank in range(2)]
    for one in apart:
        with pytest.raises(UserError, match=r"of [A-Z_]+=3, but this torchrun has joined no other"):
            find_launch(one)
    assert [find_rank(one) for one in apart] == [Rank(rank, 6) for rank in range(6)]
    joined = by.torchrun(5, 3, 2) | pods(2, 3)
    assert find_launch(joined).rank == find_rank(joined).rank == 5


@pytest.mark.parametrize("nodes", [by.sky(1, 3), by.slurm(1, 3, 1)], ids=["sky", "slurm"])
def test_a_node_goes_on_alone_where_that_was_allowed(nodes: Mapping[str, str]) -> None:
    alone = by.torchrun(0, 1, 2) | nodes
    assert find_launch(alone | {"NNODES": "1:3"}).size == 2
    with pytest.raises(UserError, match="has joined no other"):
        find_launch(alone | {"NNODES": "2:3"})


def test_pods_of_an_indexed_job_pack_their_part() -> None:
    assert [find_rank(by.kubernetes(rank, 16)) for rank in range(16)] == [
        Rank(rank, 16) for rank in range(16)
    ]
    with pytest.raises(UserError, match=r"set NNODES to the job's completions; pass --rank"):
        find_rank({"JOB_COMPLETION_INDEX": "3"})


def test_a_run_knows_every_size_that_it_may_have() -> None:
    assert find_launch(by.torchrun(0, 2, 4) | {"NNODES": "2:4"}).sizes == (8, 12, 16)
    assert find_launch(by.torchrun(0, 2, 4) | {"PET_NNODES": "1:2"}).sizes == (4, 8)
    assert find_launch(by.ray(0, 2, 4) | {"NNODES": "2:4"}).sizes == ()


@pytest.mark.parametrize(
    ("hosts", "first"),
    [
        ("node7", "node7"),
        ("gpu[03-07,11],login", "gpu03"),
        ("a[2,4]b[01-02]-ib,c", "a2b01-ib"),
        ("alone,gpu[1-2]", "alone"),
    ],
)
def test_the_first_host_of_slurm_s_list(hosts: str, first: str) -> None:
    assert first_host(hosts) == first


def test_the_scripts_print_what_they_would_do(tmp_path: Path) -> None:
    (tmp_path / "launch").symlink_to(ROOT / "launch")
    environ = {"PATH": os.environ["PATH"], "DRY_RUN": "1", **by.sky(1, 2)}
    for script, line in {
        "torchrun.sh": "--nnodes 2 --nproc-per-node auto",
        "pack.sh": "--standalone",
    }.items():
        words = [str(ROOT / "launch" / script), "--out", "a b"]
        said = subprocess.run(words, env=environ, cwd=tmp_path, capture_output=True, text=True, check=True)
        told, command = said.stdout.splitlines()
        assert told.startswith("node 1 of 2 by SKYPILOT_NODE_RANK, auto processes")
        assert command.startswith(f"torchrun {line}")
        assert command.endswith(f"-m {'pack' if script == 'pack.sh' else 'train'} --out 'a b'")
