"""Whatever ends `pack.index`, it leaves the tars alone or a whole dataset; only a kill leaves indexes."""

import errno
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from conftest import run
from stranger_tars import Members, files, members_of, write_members

from pack import index, verify
from pack.adopt.adopt import adopt
from pack.adopt.config import IndexConfig
from pack.adopt.written import Written
from pack.storage import BusyError, LocalStore
from recon.base.errors import UserError


def members(*numbers: int) -> Members:
    return [one for number in numbers for one in members_of(number)]


def write(folder: Path) -> Path:
    """Two tars of two pairs each, and of a sample that is none."""
    for number in range(2):
        contents = [*members(number, number + 5), members_of(number + 10)[0]]
        write_members(folder / f"{number}.tar", contents)
    return folder


def adopted(folder: Path, *tars: str, **options: Any) -> None:
    urls = [str(folder / tar) for tar in tars] or [str(folder)]
    adopt(IndexConfig(url=urls, name="same", skip_incomplete=True, **options))


@pytest.fixture
def whole(tmp_path: Path) -> dict[str, bytes]:
    """The files of a run that nothing stopped."""
    adopted(write(tmp_path / "whole"))
    return files(tmp_path / "whole")


def publishing(act: Callable[[str, int], None]) -> Any:
    """`LocalStore.publish` that calls `act` with the name and the number of the file, once it is written."""
    publish, count = LocalStore.publish, 0

    @contextmanager
    def acting(self: LocalStore, name: str, **options: bool) -> Iterator[BinaryIO]:
        nonlocal count
        with publish(self, name, **options) as file:
            yield file
            act(name, count)
        count += 1

    return acting


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))])
@pytest.mark.parametrize("at", range(7))
def test_a_run_that_ends_at_any_file_leaves_the_tars_alone_and_is_mended_by_the_next(
    tmp_path: Path,
    whole: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    at: int,
    error: BaseException,
) -> None:
    def fail(_: str, count: int) -> None:
        if count == at:
            raise error

    tars = files(write(tmp_path / "a"))
    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "publish", publishing(fail))
        with pytest.raises((KeyboardInterrupt, UserError)):
            adopted(tmp_path / "a")
    assert files(tmp_path / "a") == tars
    adopted(tmp_path / "a")
    assert files(tmp_path / "a") == whole


def test_an_interrupt_after_the_manifest_leaves_the_dataset(
    tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pack.adopt.adopt._Adoption._report", late)
    with pytest.raises(KeyboardInterrupt):
        adopted(write(tmp_path / "a"))
    assert files(tmp_path / "a") == whole


@pytest.mark.parametrize("contents", [members(0), [("k9.real.jpg", b"")], None])
def test_a_refused_tar_after_a_good_one_leaves_no_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, contents: Members | None
) -> None:
    write_members(tmp_path / "0.tar", members(0, 1))
    if contents is None:
        (tmp_path / "1.tar").write_bytes((tmp_path / "0.tar").read_bytes()[:2000])
    else:
        write_members(tmp_path / "1.tar", contents)
    assert run(monkeypatch, index.main, tmp_path) == 2
    assert files(tmp_path).keys() == {"0.tar", "1.tar"}


@pytest.fixture
def killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two tars, with what a run left that was killed before its manifest."""

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Written, "undo", lambda _: None)
        patch.setattr(Written, "settle", die)
        with pytest.raises(KeyboardInterrupt):
            adopted(write(tmp_path / "killed"))
    found = files(tmp_path / "killed").keys() - {"README.md", "rejected.jsonl"}
    assert found == {f"{number}.{suffix}" for number in range(2) for suffix in ("hints", "parquet", "tar")}
    return tmp_path / "killed"


def test_a_run_after_a_killed_one_gives_the_bytes_of_one_that_was_not(
    killed: Path, whole: dict[str, bytes]
) -> None:
    adopted(killed)
    assert files(killed) == whole


def test_what_a_killed_run_left_of_other_tars_goes(
    killed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    adopted(killed, "1.tar")
    ours = {"1.hints", "1.parquet", "README.md", "dataset.json", "rejected.jsonl"}
    assert files(killed).keys() == {"0.tar", "1.tar"} | ours
    assert run(monkeypatch, verify.main, killed) == 0
    assert capsys.readouterr().out == "2 pairs in 1 shard: every byte agrees\n"


def test_what_a_killed_run_left_goes_with_a_run_that_is_refused(
    killed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (killed / "0.tar").write_bytes((killed / "0.tar").read_bytes()[:2000])
    assert run(monkeypatch, index.main, killed) == 2
    assert files(killed).keys() == {"0.tar", "1.tar", "README.md"}


def test_a_run_whose_files_another_removed_writes_no_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meddle(name: str, _: int) -> None:
        if name == "README.md":
            (tmp_path / "0.parquet").unlink()

    write(tmp_path)
    monkeypatch.setattr(LocalStore, "publish", publishing(meddle))
    with pytest.raises(UserError, match=r"0\.parquet is gone: another process .*run one at a time"):
        adopted(tmp_path)
    assert files(tmp_path).keys() == {"0.tar", "1.tar"}


def test_a_run_that_another_was_faster_than_leaves_the_dataset_of_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meddle(name: str, _: int) -> None:
        if name == "README.md":
            (tmp_path / "dataset.json").write_text("of the other")

    write(tmp_path)
    monkeypatch.setattr(LocalStore, "publish", publishing(meddle))
    with pytest.raises(UserError, match="exists already with other content"):
        adopted(tmp_path)
    assert {"0.parquet", "0.hints", "1.parquet", "1.hints", "dataset.json"} <= files(tmp_path).keys()


def test_sigterm_takes_back_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def end(_: str, count: int) -> None:
        if count == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    tars = files(write(tmp_path))
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(LocalStore, "publish", publishing(end))
    assert run(monkeypatch, index.main, tmp_path, "--skip_incomplete", "true") == 143
    assert files(tmp_path) == tars
    assert signal.getsignal(signal.SIGTERM) is before


def test_lost_hints_name_the_command_that_writes_them_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    adopted(write(tmp_path))
    (tmp_path / "0.hints").unlink()
    assert run(monkeypatch, verify.main, tmp_path) == 1
    assert f"python -m pack.index {tmp_path} --entries writes it anew" in capsys.readouterr().out
    assert run(monkeypatch, index.main, tmp_path, "--entries") == 0
    assert run(monkeypatch, verify.main, tmp_path) == 0


def test_another_option_is_named_and_not_all_of_them(tmp_path: Path) -> None:
    adopted(write(tmp_path))
    with pytest.raises(UserError, match=r"is another: expected max_pixels 10, found \d+; delete it"):
        adopted(tmp_path, max_pixels=10)


def test_one_of_several_ranks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    tars = files(write(tmp_path))
    assert run(monkeypatch, index.main, tmp_path) == 2
    assert "RANK=1 and WORLD_SIZE=2 make this one of several processes" in capsys.readouterr().err
    assert files(tmp_path) == tars


def test_a_run_that_meets_another_takes_nothing_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(name: str, count: int) -> None:
        if count == 2:
            raise BusyError(f"another process is writing {name}")

    write(tmp_path)
    monkeypatch.setattr(LocalStore, "publish", publishing(busy))
    with pytest.raises(BusyError):
        adopted(tmp_path)
    assert {"0.parquet", "0.hints"} <= files(tmp_path).keys()
