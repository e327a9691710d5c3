"""``--dry_run``: tells what packing would do, from a few pairs really made, and writes nothing."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import photograph, save
from pack_runs import config, files, interrupted, pack_rank

from pack import command
from pack.pipeline.maker import PairMaker
from pack.publish.dry_run import dry_run
from pack.publish.packing import pack
from pack.shard.writer import ShardWriter
from recon.base.errors import UserError
from recon.base.progress import Progress


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Forty images of 3,000 bytes or so, one of them unreadable."""
    for number in range(40):
        save(tmp_path / f"photos/{number:02}.png", photograph(32, 32, number))
    (tmp_path / "photos/07.png").write_bytes(b"")
    return tmp_path / "photos"


def told(capsys: pytest.CaptureFixture[str], source: Path, out: Path | str, **options: Any) -> dict[str, str]:
    """What a dry run of these options prints, by the word before it."""
    dry_run(config(source, out, dry_run=True, **options))
    lines = capsys.readouterr().out.splitlines()
    return {line[:14].strip(): line[14:] for line in lines if line}


def test_dry_run_tells_images_bytes_shards_and_time_and_writes_nothing(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = told(capsys, source, tmp_path / "out")
    size = sum(path.stat().st_size for path in source.iterdir())
    assert facts["images"] == f"40 of {source}, {size / 1000:.3g} KB"
    assert facts["pairs"] == "40, if none is rejected"
    assert facts["autoencoder"] == "identity"
    assert facts["shards"] == "10 of 4 pairs, the last of 4"
    assert facts["output"] == f"{tmp_path}/out, which is new"
    assert facts["sample"] == "40 pairs made and thrown away"
    assert facts["rejected"] == "1 of the sample: 1x zero bytes"
    assert facts["time"].endswith(" pairs/s)")
    assert not (tmp_path / "out").exists()


def test_expected_bytes_are_about_those_that_are_written(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    amount, unit = told(capsys, source, tmp_path / "out")["bytes"].split()[:2]
    assert unit == "KB"
    pack(config(source, tmp_path / "out"))
    tars = sum(path.stat().st_size for path in (tmp_path / "out").glob("*.tar"))
    assert 0.9 * tars < 1000 * float(amount) < 1.1 * tars


def test_sample_is_a_few_batches_from_all_over_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(200):
        save(tmp_path / f"photos/{number:03}.png", photograph(8, 8, number))
    seen: list[str] = []
    shards = PairMaker.shards

    def watched(maker: PairMaker, asked: Any) -> Iterator[Any]:
        asked = list(asked)
        seen.extend(item.path for _, items in asked for item in items)
        return shards(maker, asked)

    monkeypatch.setattr(PairMaker, "shards", watched)
    facts = told(capsys, tmp_path / "photos", tmp_path / "out", batch_size=2)
    assert facts["sample"] == "36 pairs made and thrown away"  # 9 runs of 2 batches
    assert len(set(seen)) == 36
    assert max(seen) > "170.png"


def test_slow_autoencoder_gets_one_run_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pack.publish.dry_run._LONGEST_S", 0.0)
    for number in range(20):
        save(tmp_path / f"photos/{number:03}.png", photograph(8, 8, number))
    facts = told(capsys, tmp_path / "photos", tmp_path / "out", batch_size=2)
    assert facts["sample"] == "4 pairs made and thrown away"


def test_dry_run_of_a_rank_tells_its_share_and_the_time_of_all(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = told(capsys, source, tmp_path / "out", rank=2, world_size=4)
    assert facts["this process"] == "rank 2 of 4: 2 of these shards"
    assert facts[""].endswith("with 4, if each has a machine or GPU of its own")


def test_dry_run_tells_every_split_and_autoencoder(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"autoencoder": "identity,tiny", "autoencoder_mode": "each", "threads": 1, "limit": 3}
    dry_run(config(source, tmp_path / "out", val_fraction=0.3, **options))
    text = capsys.readouterr().out
    assert "images        3 of train, " in text
    assert "images        3 of val, " in text
    assert text.count("autoencoder   identity (3 pairs), tiny (3 pairs)\n") == 2
    assert not (tmp_path / "out").exists()


def test_dry_run_tells_what_is_done_already_and_leaves_it_alone(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    interrupted(config(source, out), ShardWriter, "add", 13)
    before = files(out)
    assert told(capsys, source, out)["output"] == f"{out}, where 3 of 10 shards are finished"
    assert files(out) == before
    pack(config(source, out))
    assert told(capsys, source, out)["output"] == f"{out}, which is complete: nothing would be done"


@pytest.mark.parametrize("finished", [False, True])
def test_dry_run_refuses_the_output_that_packing_would_refuse(
    packed: Path, photographs: Path, tmp_path: Path, finished: bool
) -> None:
    out = tmp_path / "out"
    if finished:
        shutil.copytree(packed, out)
    else:
        pack_rank(photographs, out, 0, 2)
    before = files(out)
    with pytest.raises(UserError, match="of other images, options or versions"):
        dry_run(config(photographs, out, codec="lossless-png"))
    assert files(out) == before


def test_command_with_dry_run_prints_it(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--source", source, "--out", tmp_path / "out", "--autoencoder", "identity", "--dry_run", "true"]
    monkeypatch.setattr(sys, "argv", ["pack", *map(str, given)])
    with pytest.raises(SystemExit) as end:
        command.main()
    assert not end.value.code
    assert "images        40 of " in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


# Progress


def test_resumed_pairs_count_but_tell_nothing_of_the_rate(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    now = iter([0.0, 20.0, 20.0])
    monkeypatch.setattr("recon.base.progress.time.monotonic", lambda: next(now))
    shown = Progress(total=1000, unit="pairs", what="pack")
    shown.skip(900)
    shown.update(20)
    assert caplog.messages == ["pack: 920/1000 pairs, 1 pairs/s, 1:20 left"]
