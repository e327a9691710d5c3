"""``python -m pack.finish``: completes what many processes packed, from nothing but the output."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from pack_runs import config, files, interrupted, pack_rank, write_spoilt
from s3_server import S3Env

from pack.publish import finish, finish_command
from pack.publish.packing import pack
from pack.storage import LocalStore, open_store
from recon.base.errors import UserError


def status(monkeypatch: pytest.MonkeyPatch, url: object) -> int:
    """Exit status of the command."""
    monkeypatch.setattr(sys, "argv", ["pack.finish", str(url)])
    with pytest.raises(SystemExit) as end:
        finish_command.main()
    return int(end.value.code or 0)


def unfinished(out: Path, source: Path, shard_pairs: int = 4) -> None:
    """A dataset with all shards, whose last rank was killed before it completed it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pack.publish.packing.finish", lambda *_: [])
        pack(config(source, out, shard_pairs=shard_pairs))
    assert not (out / "dataset.json").exists()


def test_finish_completes_a_dataset_of_which_all_shards_are_there(
    packed: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unfinished(tmp_path / "out", photographs)
    shutil.move(tmp_path / "out", tmp_path / "elsewhere")  # it needs neither source nor place
    assert status(monkeypatch, tmp_path / "elsewhere") == 0
    assert files(tmp_path / "elsewhere") == files(packed)


def test_finish_names_the_shards_that_are_missing_and_leaves_the_rest_alone(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pack_rank(photographs, tmp_path / "out", 3, 8, shard_pairs=1)  # shards 3 of 11
    before = files(tmp_path / "out")
    assert status(monkeypatch, tmp_path / "out") == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path}/out lacks 10 of 11 shards (shard-000000, shard-000001, shard-000002, "
        "shard-000004, shard-000005, ...); run python -m pack again for them, then python -m pack.finish\n"
    )
    assert files(tmp_path / "out") == before


@pytest.mark.parametrize("gone", ["tar", "parquet"])
def test_shard_without_its_tar_or_index_is_missing(
    photographs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    gone: str,
) -> None:
    unfinished(tmp_path / "out", photographs)
    (tmp_path / f"out/shard-000001.{gone}").unlink()
    assert status(monkeypatch, tmp_path / "out") == 2
    assert "lacks 1 of 3 shards (shard-000001); " in capsys.readouterr().err


@pytest.mark.parametrize("method", ["publish", "remove"])
@pytest.mark.parametrize("at", range(4))
def test_finishing_that_was_stopped_anywhere_is_completed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, at: int
) -> None:
    source = write_spoilt(tmp_path / "photos")
    pack(config(source, tmp_path / "one", shard_pairs=2))
    unfinished(tmp_path / "out", source, shard_pairs=2)
    with monkeypatch.context() as patch:
        patch.setattr("pack.publish.finish.put", stopping(finish.put, at if method == "publish" else 9))
        patch.setattr(LocalStore, "remove", stopping(LocalStore.remove, at if method == "remove" else 9))
        try:
            finish_command.finish_store(open_store(str(tmp_path / "out")))
        except KeyboardInterrupt:
            stopped = True
        else:
            stopped = False
    assert stopped == (at < 3)  # rejected.jsonl, card, manifest; two markers, the claim
    assert status(monkeypatch, tmp_path / "out") == 0
    assert files(tmp_path / "out") == files(tmp_path / "one")


def stopping(function: Any, at: int) -> Any:
    """`function`, with KeyboardInterrupt in place of its call number `at`."""
    calls = iter(range(1000))

    def call(*arguments: Any, **options: Any) -> Any:
        if next(calls) == at:
            raise KeyboardInterrupt
        return function(*arguments, **options)

    return call


def test_rejections_of_a_finishing_that_was_stopped_do_not_stay_when_they_are_none(
    packed: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unfinished(tmp_path / "out", photographs)
    (tmp_path / "out/rejected.jsonl").write_text("{}\n")
    assert status(monkeypatch, tmp_path / "out") == 0
    assert files(tmp_path / "out") == files(packed)


def test_finish_completes_all_splits(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(config(photographs, tmp_path / "one", val_fraction=0.4))
    with monkeypatch.context() as patch:
        patch.setattr("pack.publish.packing.finish", lambda *_: [])
        pack(config(photographs, tmp_path / "out", val_fraction=0.4))
    assert status(monkeypatch, f"{tmp_path}/out/") == 0
    assert files(tmp_path / "out") == files(tmp_path / "one")


def test_finish_leaves_a_complete_dataset_alone(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Path(shutil.copytree(packed, tmp_path / "out"))
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert status(monkeypatch, out) == 0
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_finish_works_on_a_url(
    packed: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch, s3_env: S3Env
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("pack.publish.packing.finish", lambda *_: [])
        pack(config(photographs, s3_env.url))
    assert status(monkeypatch, s3_env.url) == 0
    store = open_store(s3_env.url)
    assert {name: store.read(name) for name in store.names()} == files(packed)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "holds neither dataset.json nor plan.json: nothing was packed there"),
        ("12345", "plan.json is not of this version of pack"),
        ("{}", "plan.json is not of this version of pack"),
    ],
)
def test_finish_without_a_claim_that_it_knows_is_one_line_with_status_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    content: str | None,
    message: str,
) -> None:
    if content is not None:
        (tmp_path / "plan.json").write_text(content)
    assert status(monkeypatch, tmp_path) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error


def test_finish_tells_that_no_image_became_a_pair_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(3):
        (tmp_path / f"photos/{number}.jpg").write_bytes(b"")
    unfinished(tmp_path / "out", tmp_path / "photos")
    assert status(monkeypatch, tmp_path / "out") == 2
    assert "none of 3 images became a pair: 3x zero bytes" in capsys.readouterr().err
    assert files(tmp_path / "out") == {}


def test_finish_completes_a_split_behind_one_that_lacks_shards(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("pack.publish.packing.finish", lambda *_: [])
        pack(config(photographs, tmp_path / "out", val_fraction=0.4))
    (tmp_path / "out/train/shard-000000.tar").unlink()
    assert status(monkeypatch, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.count("error: ") == 1
    assert f"{tmp_path}/out/train lacks 1 of " in error
    assert (tmp_path / "out/val/dataset.json").exists()


def test_damaged_index_is_named(photographs: Path, tmp_path: Path) -> None:
    unfinished(tmp_path / "out", photographs)
    (tmp_path / "out/shard-000002.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(UserError, match=r"shard-000002\.parquet is damaged; delete it and run"):
        finish_command.finish_store(open_store(str(tmp_path / "out")))


def test_claim_says_what_is_written(photographs: Path, tmp_path: Path) -> None:
    assert interrupted(config(photographs, tmp_path / "out"), LocalStore, "publish", 1)
    claim = json.loads((tmp_path / "out/plan.json").read_text())
    assert (claim["name"], claim["split"], claim["shards"]) == ("photos", None, 3)
    assert claim["provenance"]["autoencoder"]["autoencoder"] == "identity"
    assert not {"rank", "world_size", "dry_run", "buffer_mb"} & claim["provenance"]["options"].keys()
