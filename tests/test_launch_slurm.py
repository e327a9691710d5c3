"""The scripts for Slurm under a real one of two nodes (Debian: slurmctld slurmd slurm-client)."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pack_runs import files
from patience import PATIENCE_S
from ports import free_ports
from slurm_cluster import Slurm, is_there, slurm
from train_data import make_dataset
from train_runs import as_options, small_config

ROOT = Path(__file__).parents[1]

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(
        not is_there(), reason="needs Slurm and root: apt-get install slurmctld slurmd slurm-client"
    ),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    with slurm(tmp_path_factory.mktemp("slurm")) as started:
        yield started


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_dataset(tmp_path_factory.mktemp("data"), pairs=64, shard_pairs=16, size=(32, 40))


def here() -> dict[str, str]:
    """How ranks meet on nodes whose names are no hosts."""
    (port,) = free_ports(1)
    meet = {"RDZV_ENDPOINT": f"127.0.0.1:{port}", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return meet | {
        "PAIRSTREAM": str(ROOT),
        "PYTHON": sys.executable,
        "NPROC_PER_NODE": "1",
        "OMP_NUM_THREADS": "1",
    }


def until_said(log: Path, words: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not log.exists() or words not in log.read_text():
        assert time.monotonic() < deadline, log.read_text() if log.exists() else "no log"
        time.sleep(0.5)


def submit(cluster: Slurm, folder: Path, *words: str) -> str:
    """The number of a job that sbatch was given, for nodes without GPUs."""
    given = ["--parsable", f"--chdir={folder}", "--gpus-per-node=0", "--cpus-per-task=1"]
    return cluster.ask("sbatch", *given, *words, **here()).strip()


def test_a_job_saves_is_put_back_and_goes_on_and_a_cancelled_one_is_not(
    cluster: Slurm, data: str, tmp_path: Path
) -> None:
    options = as_options(small_config({"train": data}, tmp_path / "run", epochs=2000))
    script, log = str(ROOT / "launch/slurm/train.sbatch"), tmp_path / "log"
    job = submit(cluster, tmp_path, f"--output={log}", script, *options)
    until_said(log, "epoch 1: ")
    assert "node 0 of 2 by SLURM_NODEID, 1 process, rendezvous at 127.0.0.1:" in log.read_text()
    cluster.ask("scancel", "--signal=USR1", job)  # as --signal=USR1@300 does
    cluster.until(job, JobState="PENDING", Restarts="1")
    assert log.read_text().count("asked to end: step ") == 1
    cluster.ask("scontrol", "update", f"JobId={job}", "StartTime=now")  # else it is held for two minutes
    until_said(log, "goes on from ")
    cluster.ask("scancel", job)
    cluster.until(job, JobState="CANCELLED", Restarts="1")


def test_a_mistake_is_not_put_back(cluster: Slurm, tmp_path: Path) -> None:
    script, log = str(ROOT / "launch/slurm/train.sbatch"), tmp_path / "log"
    job = submit(cluster, tmp_path, f"--output={log}", script, "--out", "run", "--data.train", "gone")
    cluster.until(job, JobState="FAILED", Restarts="0", ExitCode="2:0")
    assert log.read_text().count("error: gone/dataset.json not found") == 2  # one a node


def test_tasks_without_torchrun_are_one_run(cluster: Slurm, data: str, tmp_path: Path) -> None:
    options = as_options(small_config({"train": data}, tmp_path / "run", epochs=1))
    words = ["srun", "--nodes=2", "--ntasks-per-node=2", "--overcommit", f"--output={tmp_path / 'log'}"]
    cluster.ask(*words, sys.executable, "-m", "train", *options, **here(), PYTHONPATH=str(ROOT))
    said = (tmp_path / "log").read_text()
    assert said.count("rank 0 of 4 by SLURM_PROCID, rendezvous at 127.0.0.1:") == 1
    assert said.count("epoch 0: 64/64 pairs") == 1


def test_several_tasks_on_a_node_start_no_torchrun(cluster: Slurm, tmp_path: Path) -> None:
    words = ["srun", "--nodes=2", "--ntasks-per-node=2", "--overcommit", f"--output={tmp_path / 'log'}"]
    with pytest.raises(AssertionError):
        cluster.ask(*words, str(ROOT / "launch/torchrun.sh"), "--out", "run", **here())
    assert (tmp_path / "log").read_text().count("on 2 nodes: each would start all ranks of its node") == 4


def test_the_tasks_of_an_array_pack_what_one_process_packs(
    cluster: Slurm, photographs: Path, packed: Path, tmp_path: Path
) -> None:
    script, out = str(ROOT / "launch/slurm/pack.sbatch"), tmp_path / "out"
    given = ["--source", str(photographs), "--out", str(out), "--autoencoder", "identity", "--threads", "2"]
    words = ["--array=3-4", f"--output={tmp_path / 'log-%a'}", script, *given, "--shard_pairs", "4"]
    submit(cluster, tmp_path, *words)
    for task, rank in ((3, 0), (4, 1)):
        until_said(tmp_path / f"log-{task}", f"rank {rank} of 2 by SLURM_ARRAY_TASK_ID")
        until_said(tmp_path / f"log-{task}", f"rank {rank} of 2: ")
    deadline = time.monotonic() + PATIENCE_S
    while not (out / "dataset.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert files(out) == files(packed)
