"""Who this process is, by its options or its launcher's variables; the launch scripts for packing."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import run
from pack_runs import ROOT, config, ended, files, start

from pack.base.config import PackConfig
from pack.command import main
from pack.plan.ranks import Rank, find_rank
from recon.base.errors import UserError

ARRAY = {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "5", "SLURM_ARRAY_TASK_COUNT": "4"}
SCRIPT = {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "8", "SLURM_NPROCS": "8"}  # no step
STEP = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "0"}
ONE_NODE = {"RANK": "1", "WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "1"}  # a torchrun that has joined no other
LAUNCHERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, Rank(0, 1)),
        ({"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, Rank(3, 8)),
        ({"NNODES": "1"}, Rank(0, 1)),
        ({"NNODES": "2", "RANK": "3", "WORLD_SIZE": "8"}, Rank(3, 8)),  # by a script of the user's
        (ONE_NODE | {"NNODES": "2", "GROUP_WORLD_SIZE": "2"}, Rank(1, 2)),
        ({"NNODES": "2", "JOB_COMPLETION_INDEX": "1"}, Rank(1, 2)),
        ({"SLURM_PROCID": "2", "SLURM_NTASKS": "4"}, Rank(2, 4)),
        ({"SLURM_PROCID": "0"}, Rank(0, 1)),  # sbatch without --ntasks
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, Rank(0, 1)),
        (STEP | {"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, Rank(0, 8)),
        (STEP | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, Rank(0, 1)),
        ({"SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, Rank(0, 8)),
        # The shell that salloc opens is a step of one task.
        (
            STEP | {"SLURM_STEP_ID": "4294967290", "SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "8"},
            Rank(0, 1),
        ),
        # torchrun within the script of a job
        (SCRIPT | {"RANK": "3", "WORLD_SIZE": "8"}, Rank(3, 8)),
        (ARRAY | {"SLURM_PROCID": "0", "SLURM_STEP_ID": "4294967291"}, Rank(2, 4)),
        ({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "16"}, Rank(1, 2)),
        ({"RANK": "3", "WORLD_SIZE": "8", "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, Rank(3, 8)),
        (ARRAY, Rank(2, 4)),
        (ARRAY | {"SLURM_ARRAY_TASK_MAX": "8"}, Rank(2, 4)),
        (ARRAY | {"SLURM_ARRAY_TASK_ID": "11", "SLURM_ARRAY_TASK_STEP": "2"}, Rank(3, 4)),
        (ARRAY | {"SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, Rank(2, 4)),
        (ARRAY | {"SLURM_PROCID": "1", "SLURM_NTASKS": "8"}, Rank(17, 32)),
        (ARRAY | {"RANK": "1", "WORLD_SIZE": "8", "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, Rank(17, 32)),
    ],
)
def test_rank_is_what_the_launcher_says(environ: dict[str, str], expected: Rank) -> None:
    assert find_rank(environ) == expected


def test_ranks_of_an_array_of_groups_are_all_there_once() -> None:
    found = {
        find_rank(ARRAY | {"SLURM_ARRAY_TASK_ID": str(task), "RANK": str(rank), "WORLD_SIZE": "3"}).rank
        for task in range(5, 9)
        for rank in range(3)
    }
    assert found == set(range(12))


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"RANK": "1"}, "RANK=1 is set, but WORLD_SIZE not"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2 is set, but RANK not"),
        ({"RANK": "one", "WORLD_SIZE": "2"}, "RANK='one', expected a number"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK=2 and WORLD_SIZE=2, expected 0 <= rank < size"),
        ({"SLURM_PROCID": "4", "SLURM_NTASKS": "4"}, "SLURM_PROCID=4 and SLURM_NTASKS=4"),
        ({"SLURM_ARRAY_TASK_ID": "1"}, "SLURM_ARRAY_TASK_COUNT is not set"),
        (
            SCRIPT,
            "SLURM_NTASKS=8, but this process is the job's script, not a task of a step; start it with srun",
        ),
        (SCRIPT | {"SLURM_STEP_ID": "4294967291"}, "SLURM_NTASKS=8, but this process is the job's script"),
        (SCRIPT | {"SLURM_STEP_ID": "batch", "SLURM_STEP_NUM_TASKS": "1"}, "is the job's script, not a task"),
        ({"NNODES": "2"}, "NNODES=2 does not tell which of the nodes this is, and each would pack all"),
        ({"NNODES": "2", "RDZV_ID": "a", "RDZV_ENDPOINT": "node0:29400"}, "NNODES=2 does not tell"),
        ({"NNODES": "1:3"}, "NNODES=1:3 does not tell which of the nodes this is"),
        ({"PET_NNODES": "2"}, "PET_NNODES=2 does not tell which of the nodes this is"),
        (ONE_NODE | {"NNODES": "2"}, "NNODES=2 does not tell which of the nodes this is"),
        ({"JOB_COMPLETION_INDEX": "1", "NNODES": "2:4"}, "NNODES=2:4 does not tell"),
        (ARRAY | SCRIPT, "SLURM_NTASKS=8, but this process is the job's script"),
        (ARRAY | {"SLURM_ARRAY_TASK_ID": "9"}, "SLURM_ARRAY_TASK_ID=9 of 4 tasks from 5 on is no rank"),
        (
            ARRAY | {"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_MAX": "10"},
            "expected an array without gaps",
        ),
        (ARRAY | {"SLURM_ARRAY_TASK_STEP": "4"}, "is no rank: expected an array without gaps; pass --rank"),
    ],
)
def test_variables_that_make_no_sense_are_told_by_name(environ: dict[str, str], message: str) -> None:
    with pytest.raises(UserError) as error:
        find_rank(environ)
    assert message in str(error.value)
    assert "pass --rank and --world_size" in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 1}, "rank=1 without world_size, expected both or neither"),
        ({"world_size": 0}, "world_size=0, expected at least 1"),
        ({"rank": 2, "world_size": 2}, "rank=2 and world_size=2, expected 0 <= rank < world_size"),
        ({"rank": -1, "world_size": 2}, "expected 0 <= rank < world_size"),
        ({"rank": 0, "world_size": 0}, "world_size=0, expected at least 1"),
        ({"quality": 0, "codec": "both"}, "quality=0, expected 1 to 100"),
        ({"quality": 101, "codec": "both"}, "quality=101, expected 1 to 100"),
        ({"quality": 80}, "quality is for codec=both, but codec=match"),
        (
            {"autoencoder": "a,b", "reconstructions": "x"},
            "autoencoder=a,b would be ignored: the reconstructions are ready",
        ),
        ({"buffer_mb": 0}, "buffer_mb=0, expected at least 1"),
        (
            {"layout": "folder", "image_field": "png"},
            "image_field is for layout=webdataset",
        ),
        ({"layout": "tree", "column": "url"}, "column is for layout=table, but layout=tree"),
        ({"layout": "webdataset", "group_column": "class"}, "group_column is for layout=table"),
    ],
)
def test_options_that_make_no_sense_are_told_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        PackConfig(source="photos", out="out", **options)
    assert message in str(error.value)


def test_each_mode_needs_several_autoencoders(photographs: Path, tmp_path: Path) -> None:
    from pack.publish.packing import pack

    with pytest.raises(UserError, match=r"autoencoder_mode=each needs several \(a,b,c\)"):
        pack(config(photographs, tmp_path / "out", autoencoder_mode="each"))
    assert not (tmp_path / "out").exists()


def test_a_number_of_nodes_alone_ends_the_command_before_it_writes(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NNODES", "2")
    words = ["--source", photographs, "--out", tmp_path / "out", "--autoencoder", "identity"]
    assert run(monkeypatch, main, *words) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: NNODES=2 does not tell which of the nodes this is")
    assert "launch/pack.sh" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_options_go_before_the_environment(packed: Path, photographs: Path, tmp_path: Path) -> None:
    alone = ["--rank", 0, "--world_size", 1]
    status, error = ended(
        start(
            photographs, tmp_path / "out", *alone, environment={"RANK": "1", "WORLD_SIZE": "2", "NNODES": "2"}
        )
    )
    assert status == 0, error
    assert files(tmp_path / "out") == files(packed)


def test_wrong_environment_is_one_line_with_status_2(photographs: Path, tmp_path: Path) -> None:
    status, error = ended(start(photographs, tmp_path / "out", environment={"RANK": "1", "WORLD_SIZE": "1"}))
    assert (status, error.count("\n")) == (2, 1)
    assert error.startswith("error: RANK=1 and WORLD_SIZE=1, expected 0 <= rank < size; ")


def test_script_of_several_tasks_that_packs_without_srun_is_refused_and_writes_nothing(
    photographs: Path, tmp_path: Path
) -> None:
    """Slurm calls it task 0 of 8: it would pack an eighth, and the job would end well."""
    status, error = ended(start(photographs, tmp_path / "out", environment=SCRIPT))
    assert (status, error.count("\n")) == (2, 1)
    assert "start it with srun; pass --rank and --world_size, or --rank 0 --world_size 1" in error
    assert not (tmp_path / "out").exists()


def test_launcher_for_slurm_hands_the_cpus_of_a_task_on(tmp_path: Path) -> None:
    srun = tmp_path / "srun"
    srun.write_text("#!/bin/sh\necho $SRUN_CPUS_PER_TASK\n")
    srun.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_SUBMIT_DIR": str(ROOT)}
    done = subprocess.run(
        ["bash", ROOT / "launch/slurm/pack.sbatch"],
        env=environment | {"SLURM_CPUS_PER_TASK": "3"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "3\n"


def launched(script: str, bin_: Path, photographs: Path, out: Path, **environment: str) -> str:
    """Standard error of a launch script, called in a folder that has modules of our names."""
    theirs = bin_ / "theirs"
    theirs.mkdir(exist_ok=True)
    for name in ("pack.py", "recon.py", "torch.py"):
        (theirs / name).write_text("raise SystemExit('run in place of ours')\n")
    given = ["--autoencoder", "identity", "--threads", "2", "--shard_pairs", "4"]
    line = [ROOT / "launch" / script, "--source", photographs, "--out", out, *given]
    common = {name: value for name, value in os.environ.items() if name not in LAUNCHERS}
    common |= {"PYTHON": sys.executable, "PATH": f"{bin_}:{os.environ['PATH']}"}
    done = subprocess.run(
        [*map(str, line)], env=common | environment, cwd=theirs, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_launcher_for_one_machine_packs_by_several_processes(
    packed: Path, photographs: Path, tmp_path: Path
) -> None:
    told = launched("pack.sh", tmp_path, photographs, tmp_path / "out", NPROC_PER_NODE="2")
    assert "rank 0 of 2: 2 of 3 shards" in told
    assert "rank 1 of 2: 1 of 3 shards" in told
    assert files(tmp_path / "out") == files(packed)


def test_launcher_for_slurm_arrays_makes_each_task_a_rank(
    packed: Path, photographs: Path, tmp_path: Path
) -> None:
    srun = tmp_path / "srun"
    srun.write_text('#!/bin/sh\n[ "$1" = --kill-on-bad-exit=0 ] && shift\nexec "$@"\n')
    srun.chmod(0o755)
    array = {"SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_SUBMIT_DIR": str(ROOT)}
    array |= {"SLURM_PROCID": "0", "SLURM_NTASKS": "1"}
    for task, rank in (("2", 1), ("1", 0)):
        told = launched(
            "slurm/pack.sbatch", tmp_path, photographs, tmp_path / "out", **array, SLURM_ARRAY_TASK_ID=task
        )
        assert f"rank {rank} of 2: " in told
    assert files(tmp_path / "out") == files(packed)
