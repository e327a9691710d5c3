"""Which rank a process is by its launcher's variables, and what is refused instead of trained on a part."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recon.base.errors import UserError
from train.command import _job
from train.loop.config import DataConfig, TrainConfig
from train.world.launch import Launch, find_launch
from train.world.stop import StopFlag

ROOT = Path(__file__).parents[1]
MEET = {"MASTER_ADDR": "node0", "MASTER_PORT": "29500"}
TORCHRUN = {
    **MEET,
    **{"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "GROUP_WORLD_SIZE": "2"},
    **{"TORCHELASTIC_RUN_ID": "run7", "TORCHELASTIC_RESTART_COUNT": "3"},
}


def test_torchrun_tells_all() -> None:
    assert find_launch(TORCHRUN) == Launch(
        rank=5, size=8, local_rank=1, local_size=4, joins=True, nodes=2, job="run7", restarts=3
    )


def test_jobs_that_torchrun_has_no_name_for_are_not_one_job() -> None:
    assert find_launch(TORCHRUN | {"TORCHELASTIC_RUN_ID": "none"}).job is None


@pytest.mark.parametrize(
    "environ",
    [
        {},
        dict.fromkeys(TORCHRUN, ""),
        {"NNODES": "1"},
        {"SLURM_NTASKS": "8"},  # a shell of salloc
        {"SLURM_PROCID": "0", "SLURM_NTASKS": "1"},
        {"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "1"},
        {"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": ""},
    ],
)
def test_a_process_on_its_own_is_the_first_of_one(environ: dict[str, str]) -> None:
    assert find_launch(environ) == Launch()


def test_torchrun_within_a_slurm_step_goes_first() -> None:
    slurm = {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}
    assert find_launch(TORCHRUN | slurm) == find_launch(TORCHRUN)


def test_ranks_that_were_started_by_hand_are_alone_on_their_nodes() -> None:
    launch = find_launch(MEET | {"RANK": "1", "WORLD_SIZE": "2"})
    assert launch == Launch(rank=1, size=2, joins=True)


@pytest.mark.parametrize(
    ("environ", "complaint"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2 is set, but RANK, MASTER_ADDR, MASTER_PORT not"),
        ({"RANK": "0", **MEET}, "RANK=0 is set, but WORLD_SIZE not"),
        ({"RANK": "0", "WORLD_SIZE": "", **MEET}, "RANK=0 is set, but WORLD_SIZE not"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "RANK=0 is set, but MASTER_ADDR, MASTER_PORT not"),
        (
            {"RANK": "0", "WORLD_SIZE": "2"} | MEET | {"MASTER_PORT": "99999"},
            "MASTER_PORT=99999, expected a port",
        ),
        ({"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "a"}, "RANK=0 is set, but MASTER_PORT not"),
        ({"LOCAL_RANK": "1"}, "LOCAL_RANK=1 is set, but RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT not"),
        ({**TORCHRUN, "RANK": "two"}, "RANK='two', expected a number"),
        ({**TORCHRUN, "WORLD_SIZE": "8.0"}, "WORLD_SIZE='8.0', expected a number"),
        ({**TORCHRUN, "LOCAL_RANK": "x"}, "LOCAL_RANK='x', expected a number"),
        ({**TORCHRUN, "MASTER_PORT": "http"}, "MASTER_PORT='http', expected a number"),
        ({**TORCHRUN, "TORCHELASTIC_RESTART_COUNT": "x"}, "TORCHELASTIC_RESTART_COUNT='x', expected"),
        ({**TORCHRUN, "RANK": "8"}, "RANK=8 and WORLD_SIZE=8, expected 0 <= rank < size"),
        ({**TORCHRUN, "RANK": "-1"}, "RANK=-1 and WORLD_SIZE=8"),
        ({**TORCHRUN, "LOCAL_RANK": "4"}, "LOCAL_RANK=4 and LOCAL_WORLD_SIZE=4"),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, "SLURM_NTASKS=4, but this process is the job's script"),
        (
            {"SLURM_PROCID": "1", "SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "2"},
            "SLURM_PROCID=1 of SLURM_STEP_NUM_TASKS=2, but no RANK: .* launch/torchrun.sh",
        ),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "many"}, "SLURM_NTASKS='many', expected a number"),
        ({"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"}, "of OMPI_COMM_WORLD_SIZE=2"),
        ({"PMI_RANK": "0", "PMI_SIZE": "2"}, "of PMI_SIZE=2"),
        ({"PMI_RANK": "1"}, "PMI_SIZE is not set, expected a number"),
        ({"NNODES": "2"}, "NNODES=2, but no RANK: this process would train alone; start launch/torchrun.sh"),
        ({"NNODES": "1:2"}, "NNODES=1:2, but no RANK"),
        ({"PET_NNODES": "2"}, "PET_NNODES=2, but no RANK"),
    ],
)
def test_half_a_launch_is_refused(environ: dict[str, str], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as refusal:
        find_launch(environ)
    assert "\n" not in str(refusal.value)


@given(
    st.dictionaries(st.sampled_from(sorted(TORCHRUN)), st.sampled_from(["", "0", "1", "2", "x", "-1", "1.5"]))
)
def test_any_variables_are_a_launch_or_one_line(environ: dict[str, str]) -> None:
    try:
        launch = find_launch(environ)
    except UserError as error:
        assert re.search(r"; start |expected", str(error))  # noqa: PT017 - either outcome is right
    else:
        assert 0 <= launch.rank < launch.size
        assert launch.joins or launch.size == 1


@pytest.mark.parametrize(
    "variables", [{"WORLD_SIZE": "2"}, {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}, {"RANK": "two"}]
)
def test_the_command_ends_before_it_writes(tmp_path: Path, variables: dict[str, str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "train", f"--out={tmp_path / 'run'}", "--data.train=gone"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | variables,
        check=False,
    )
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert ended.stderr.startswith(f"error: {next(iter(variables))}")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("more", "warned"),
    [
        ({"TORCHELASTIC_MAX_RESTARTS": "3"}, True),
        ({"TORCHELASTIC_MAX_RESTARTS": "0"}, False),
        ({"TORCHELASTIC_MAX_RESTARTS": "3", "GROUP_WORLD_SIZE": "1"}, False),
        ({"TORCHELASTIC_MAX_RESTARTS": "3", "RESUME": "auto"}, False),
    ],
)
def test_restarts_on_many_nodes_without_resume_are_warned_of(
    more: dict[str, str], warned: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in (TORCHRUN | {"RANK": "0", "LOCAL_RANK": "0"} | more).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("train.loop.run.train", lambda *_, **__: None)
    monkeypatch.setattr(StopFlag, "ignore", lambda _: None)  # this process goes on
    config = TrainConfig(out="a", data=DataConfig(train="b"), resume=more.get("RESUME", "never"))
    assert _job(config, StopFlag()) == 0
    assert ("MAX_RESTARTS without --resume auto" in caplog.text) == warned
