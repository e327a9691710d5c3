"""Ranks that have different numbers of CPUs: the first one's number is everybody's, unless one is given."""

from pathlib import Path
from typing import Any

import pytest
from pack_runs import config, files, pack_rank

from pack.publish import packing
from pack.publish.packing import pack
from recon.base.errors import UserError

AUTO: dict[str, Any] = {"autoencoder": "tiny", "threads": 0}


def have(monkeypatch: pytest.MonkeyPatch, cpus: int) -> None:
    """Lets this process run on so many CPUs."""
    for place in ("recon.models.load", "pack.publish.packing"):
        monkeypatch.setattr(f"{place}.available_cpus", lambda: cpus)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("splits", [{}, {"val_fraction": 0.3}], ids=["one", "splits"])
def test_ranks_of_different_cpus_give_the_bytes_of_one_process(
    photographs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    first: int,
    splits: dict[str, Any],
) -> None:
    caplog.set_level("INFO")
    cpus = (1, 2)
    pack(config(photographs, tmp_path / "one", autoencoder="tiny", threads=cpus[first], **splits))
    for rank in (first, 1 - first):
        caplog.clear()
        have(monkeypatch, cpus[rank])
        pack_rank(photographs, tmp_path / "two", rank, 2, **AUTO, **splits)
        told = f"{tmp_path}/two was begun with --threads {cpus[first]}, which this process takes over"
        assert (told in caplog.messages) == (rank != first)
    assert files(tmp_path / "two") == files(tmp_path / "one")


def test_finished_dataset_is_complete_for_a_process_of_other_cpus(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for cpus in (1, 3):
        have(monkeypatch, cpus)
        pack(config(photographs, tmp_path / "out", **AUTO | {"autoencoder": "identity"}))
    assert f"{tmp_path}/out is complete already, nothing to do" in caplog.messages


def test_rank_that_loses_the_race_for_the_claim_takes_the_winners_threads(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other rank, of other CPUs, packs all of its shards just before this one claims."""
    claim, raced = packing.claim, []

    def late(*arguments: Any) -> bool:
        if not raced:
            raced.append(True)
            with monkeypatch.context() as patch:
                have(patch, 1)
                pack_rank(photographs, tmp_path / "two", 1, 2, **AUTO)
        return claim(*arguments)

    have(monkeypatch, 2)
    monkeypatch.setattr(packing, "claim", late)
    pack_rank(photographs, tmp_path / "two", 0, 2, **AUTO)
    pack(config(photographs, tmp_path / "one", autoencoder="tiny", threads=1))
    assert raced
    assert files(tmp_path / "two") == files(tmp_path / "one")


@pytest.mark.parametrize("world", [1, 2], ids=["finished", "unfinished"])
def test_number_that_is_given_and_differs_is_refused_by_name(
    photographs: Path, tmp_path: Path, world: int
) -> None:
    pack_rank(photographs, tmp_path / "out", 0, world, threads=2)
    before = files(tmp_path / "out")
    with pytest.raises(UserError) as error:
        pack_rank(photographs, tmp_path / "out", 0, world, threads=1)
    assert str(error.value) == (
        f"{tmp_path}/out was begun with --threads 2, which its bytes depend on, and this run has "
        "--threads 1; "
        "leave --threads out to use the number found there, or choose another --out or delete it"
    )
    assert files(tmp_path / "out") == before


def test_other_differences_are_not_blamed_on_the_threads(photographs: Path, tmp_path: Path) -> None:
    pack_rank(photographs, tmp_path / "out", 0, 2, threads=2)
    for threads in (0, 1):
        with pytest.raises(UserError, match="unfinished dataset of other images, options or versions"):
            pack_rank(photographs, tmp_path / "out", 0, 2, threads=threads, codec="lossless-png")
