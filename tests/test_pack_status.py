"""`python -m pack.status`: what is done, what is missing, and the line that packs the rest."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from conftest import run
from pack_runs import ROOT, config, files, pack_rank, write_spoilt
from s3_server import S3Env, new_url

from pack.command import main as pack_main
from pack.plan.array import rank_of_index
from pack.plan.ranks import Rank
from pack.publish.packing import pack
from pack.publish.status import ARRAY, RankStatus, StatusConfig, line, main, told
from pack.storage import open_store
from pack.storage.pins import changed_at
from recon.base.errors import UserError

HOUR = 3600.0
ISO, THEN = "2026-11-30T12:00:00+00:00", datetime(2026, 11, 30, 12, tzinfo=UTC)


def status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, str]:
    """Exit status and text of the command."""
    capsys.readouterr()
    code = run(monkeypatch, main, *arguments)
    return code, capsys.readouterr().out


def test_what_ranks_have_left_is_told_and_packed_by_the_line_that_it_prints(
    photographs: Path,
    packed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    pack_rank(photographs, out, 1, 3)
    before = files(out)
    code, text = status(monkeypatch, capsys, out, "--world_size", 3)
    assert (code, files(out)) == (1, before)
    assert f"{out}: 1 of 3 shards done, 2 missing" in text
    assert " shards/h by the 1 since the start; " in text
    assert [row.split()[:4] for row in text.splitlines()[3:6]] == [
        ["0", "1", "0", "1"],
        ["1", "1", "1", "0"],
        ["2", "1", "0", "1"],
    ]
    words = shlex.split(text.splitlines()[-1])
    assert words == f"sbatch --array=0,2 {ARRAY} --world_size 3 --out {out} --shard_pairs 4 ...".split()
    for index in (0, 2):  # as Slurm starts its tasks
        variables = {"SLURM_ARRAY_TASK_ID": str(index), "SLURM_ARRAY_TASK_COUNT": "2"}
        variables |= {"SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_MAX": "2"}
        known = [sys.executable, "-m", "pack", *words[words.index(ARRAY) + 1 : -1]]
        rest = ["--source", str(photographs), "--autoencoder", "identity"]
        process = subprocess.run([*known, *rest], env=os.environ | variables, cwd=ROOT, capture_output=True)
        assert process.returncode == 0, process.stderr
    assert files(out) == files(packed)
    assert status(monkeypatch, capsys, out) == (0, f"{out} is complete\n")


@pytest.mark.parametrize("place", ["{out}/train", "{out}/train/", "train", "."])
def test_the_line_for_one_of_several_splits_packs_it_as_printed(
    photographs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    place: str,
) -> None:
    out, source = tmp_path / "out", {"source": str(photographs), "autoencoder": "identity"}
    pack(config(photographs, out, rank=1, world_size=3, shard_pairs=2, val_fraction=0.3))
    monkeypatch.chdir(out / "train" if place == "." else out)
    _, text = status(monkeypatch, capsys, place.format(out=out), "--world_size", 3)
    words = shlex.split(text.splitlines()[-1])
    assert words[:2] == ["sbatch", "--array=0,2"]
    known = words[words.index(ARRAY) + 1 : -1]
    assert (Path(known[known.index("--out") + 1])).resolve() == out
    for index in (0, 2):  # as Slurm starts its tasks
        for name, value in {"ID": index, "COUNT": 2, "MIN": 0, "MAX": 2}.items():
            monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))
        rest = [f"--{name}={value}" for name, value in source.items()]
        assert run(monkeypatch, pack_main, *known, *rest) == 0, capsys.readouterr().err
    assert status(monkeypatch, capsys, out) == (
        0,
        f"{out}/train is complete\n{out}/val is complete\n",
    )


def test_many_ranks_are_told_in_few_lines() -> None:
    ranks = [rank_at(rank, int(rank % 1000 == 7), HOUR) for rank in range(100_000)]
    text = text_of(*ranks)
    assert len(text.splitlines()) < 50
    assert re.search(r"^ +99007 +2 +1 +1 ", text, re.MULTILINE) is None  # the 100th that lacks one
    assert re.search(r"^ +39007 +2 +1 +1 ", text, re.MULTILINE)
    assert "... of 100,000 ranks, 100 of them with shards missing" in text


def test_a_bucket_is_asked_too_and_shards_without_a_pair_count_as_done(
    tmp_path: Path,
    s3_env: S3Env,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert s3_env
    source, url = write_spoilt(tmp_path / "source"), new_url()
    for rank in (0, 1):  # of four shards the second has no pair
        pack(config(source, url, rank=rank, world_size=4, shard_pairs=2))
    code, text = status(monkeypatch, capsys, url, "--world_size", "4")
    assert code == 1
    assert f"{url}: 2 of 4 shards done, 2 missing" in text
    assert re.search(r"^ +1 +1 +1 +0 +\d+:\d\d ago", text, re.MULTILINE), text


def test_a_place_where_nothing_was_packed_is_told_with_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, main, tmp_path) == 2
    assert "nothing was packed there" in capsys.readouterr().err


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_stores_tell_when_each_object_was_written(scheme: str, tmp_path: Path) -> None:
    store = open_store(f"{scheme}{tmp_path / 'data'}")
    assert store.times() == {}
    for name in ("b", "a"):
        with store.publish(name) as file:
            file.write(b"data")
        os.utime(tmp_path / "data" / name, (5.5, 5.5 if name == "a" else 4.5))
    (tmp_path / "data/folder").mkdir()
    assert store.times() == {"a": 5.5, "b": 4.5}
    assert store.names() == ["a", "b"]


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"mtime": 3.0}, 3.0),
        ({"LastModified": THEN}, THEN.timestamp()),
        ({"updated": ISO}, THEN.timestamp()),
        ({"updated": ISO.replace("+00:00", "Z")}, THEN.timestamp()),
        ({"Last-Modified": "some day"}, None),
        ({}, None),
    ],
)
def test_other_stores_tell_times_in_their_own_words(facts: dict[str, Any], expected: float | None) -> None:
    assert changed_at(facts) == expected


def rank_at(rank: int, missing: int, *done: float, begun: float | None = None) -> RankStatus:
    return RankStatus(rank=rank, shards=len(done) + missing, done=done, missing=missing, begun=begun)


def text_of(*ranks: RankStatus, now: float = 10 * HOUR) -> str:
    return "\n".join(told(open_store("somewhere"), ranks, now))


def test_the_slowest_rank_tells_when_the_rest_is_ready() -> None:
    quick = rank_at(0, 4, *(hour * HOUR for hour in range(5, 11)))
    slow = rank_at(1, 3, *(hour * HOUR for hour in range(0, 11, 2)))
    text = text_of(quick, slow)
    assert "12 of 19 shards done, 7 missing" in text
    assert re.search(r"^ +0 +10 +6 +4 +0:00 ago +1\.0 +4:00:00$", text, re.MULTILINE)
    assert re.search(r"^ +1 +9 +6 +3 +0:00 ago +0\.5 +6:00:00$", text, re.MULTILINE)
    assert text.endswith("1.1 shards/h by the last 12; 6:00:00 left, until the slowest rank is ready")


def test_few_shards_are_counted_from_the_start() -> None:
    text = text_of(rank_at(0, 6, 9.0, 9.044, begun=0.0), now=10.0)
    assert text.endswith(
        "796.1 shards/h by the 2 since the start; 0:27 left, until the slowest rank is ready"
    )
    first = text_of(rank_at(0, 7, 9.0, begun=0.0), rank_at(1, 7, 9.01, begun=0.0), now=10.0)
    assert first.endswith(
        "799.1 shards/h by the 2 since the start; 1:03 left, until the slowest rank is ready"
    )
    assert text_of(rank_at(0, 6, 9.0, 9.044), now=10.0).endswith("too few shards are done to tell the speed")


def test_many_shards_are_not_counted_from_a_start_long_ago() -> None:
    times = [(100 + hour) * HOUR for hour in range(5)]
    assert "1.0 shards/h by the last 5" in text_of(rank_at(0, 6, *times, begun=0.0), now=104 * HOUR)


def test_a_rank_that_has_not_begun_takes_the_speed_of_the_others() -> None:
    begun = 7 * HOUR
    text = text_of(rank_at(0, 1, 8 * HOUR, 9 * HOUR, 10 * HOUR, begun=begun), rank_at(1, 3, begun=begun))
    assert text.endswith(
        "1.0 shards/h by the 3 since the start; 4:00:00 left, if the missing are dealt evenly"
    )


def test_a_run_that_publishes_nothing_any_more_looks_stopped() -> None:
    times = [HOUR, 1.1 * HOUR, 1.2 * HOUR]
    assert "nothing was published for 8:48:00: it looks stopped" in text_of(
        rank_at(0, 2, *times, begun=0.9 * HOUR)
    )
    assert "stopped" not in text_of(rank_at(0, 2, *times, begun=0.9 * HOUR), now=1.5 * HOUR)
    assert "stopped" not in text_of(rank_at(0, 6, 9.0, 9.044, begun=0.0), now=10.0)


def test_shards_that_came_at_once_tell_no_speed() -> None:
    assert text_of(rank_at(0, 2, HOUR, HOUR)).endswith("too few shards are done to tell the speed")


@pytest.mark.parametrize(
    ("options", "missing", "expected"),
    [
        (
            {"world_size": 16},
            {3, 4, 5, 9},
            f"sbatch --array=3-5,9 {ARRAY} --world_size 16 --out out --codec both ...",
        ),
        ({"world_size": 3}, {0, 1, 2}, f"sbatch --array=0-2 {ARRAY} --out out --codec both ..."),
        (
            {"world_size": 16, "ranks_a_task": 4},
            {3, 4, 5, 15},
            f"sbatch --array=0-1,3 --ntasks=4 {ARRAY} --world_size 16 --out out --codec both ...",
        ),
    ],
)
def test_the_line_names_the_tasks_that_have_shards_missing(
    options: dict[str, int], missing: set[int], expected: str
) -> None:
    assert line(StatusConfig(url="out", **options), missing, "--codec both") == expected
    assert (ROOT / ARRAY).exists()


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, Rank(5, 16)),
        ({"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_ID": "0"}, None),
        ({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_ID": "0"}, Rank(11, 16)),
        ({"RANK": "1", "WORLD_SIZE": "2"}, Rank(11, 16)),
        ({"RANK": "0", "WORLD_SIZE": "4"}, None),  # the index 5 of 4 tasks
        ({"RANK": "0", "WORLD_SIZE": "3"}, None),
        ({"SLURM_ARRAY_TASK_ID": ""}, None),
    ],
)
def test_a_task_of_an_array_with_gaps_has_the_ranks_of_its_index(
    more: Mapping[str, str], expected: Rank | None
) -> None:
    environ = {"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_COUNT": "2", **more}
    if expected:
        assert rank_of_index(environ, 16) == expected
    else:
        with pytest.raises(UserError):
            rank_of_index(environ, 16)


def test_a_world_size_alone_is_refused_where_no_array_tells_the_rank(
    photographs: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="world_size=2 without rank, expected both or neither"):
        pack(config(photographs, tmp_path / "out", world_size=2))
    assert not (tmp_path / "out").exists()
