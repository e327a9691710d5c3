"""What can't be written is found out before the work; a table is printed even if writing it then fails."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from broken_places import MARK, failing
from command_lines import LINES, Line, main_of, signals_stay, write_places
from conftest import run
from s3_server import READER, S3Env

from pack.base.writable import check_writable, write_file
from pack.storage import LocalStore
from recon.base.errors import UserError

WORK = {
    "pack.audit": "pack.inspect.audit.command.audit",
    "pack.preview": "pack.inspect.preview.contact_sheet",
    "recon.fit": "recon.fit.fit.fit",
    "train.bench": "train.bench.stages.Bench.round",
    "train.compare": "train.evaluation.figures.comparison.compare",
    "train.evaluate": "train.evaluation.scored.scored_parts",
    "train.export": "train.detector.exported.weights_bytes",
    "train.report": "train.reports.command.contents_of",
    "train.robustness": "train.evaluation.scored.scored_parts",
    "train.score": "train.detector.photographs.read_pixels",
}
"""By command: what must not be called once its result can't be written."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("places")
    write_places(folder)
    return folder


@pytest.fixture(autouse=True)
def _signals_stay() -> Iterator[None]:
    yield from signals_stay()


@pytest.mark.parametrize("line", [one for one in LINES if one.command in WORK and not one.is_read], ids=str)
def test_an_output_that_can_not_be_made_is_found_out_before_the_work(
    line: Line,
    base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(WORK[line.command], _begun)
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").write_text("what")
    for place in (tmp_path / "gone", tmp_path / "file", tmp_path / ("x" * 300)):
        out = place if line.kind == "folder" else place / f"out{Path(line.whole).suffix}"
        argv = line.argv(out, base, tmp_path / "new")
        assert run(monkeypatch, main_of(line.command), *argv) == 2
        assert str(place) in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "gone"]


@pytest.mark.parametrize("line", [one for one in LINES if one.kind == "file"], ids=str)
def test_a_file_may_have_the_longest_name_that_there_is(
    line: Line, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suffix = Path(line.whole).suffix
    longest = ".html" if suffix == ".md" else suffix  # the page beside a report
    out = tmp_path / f"{'x' * (255 - len(longest))}{suffix}"
    assert run(monkeypatch, main_of(line.command), *line.argv(out, base, tmp_path / "new")) == 0
    assert out.stat().st_size
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("option", ["--help", "--print_config"])
def test_what_can_not_be_printed_is_told(option: str) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "pack.audit", option]
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, cwd=Path(__file__).parents[1], text=True
        )
    assert (done.returncode, done.stderr) == (
        2,
        "error: can't print: no space left where standard output goes\n",
    )


def _begun(*_: Any, **__: Any) -> Any:
    raise AssertionError("the work has begun")


@pytest.mark.parametrize("command", ["train.evaluate", "train.robustness"])
def test_a_read_only_folder_of_the_checkpoint_is_told_with_the_option_that_names_another(
    command: str,
    base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("train.evaluation.scored.scored_parts", _begun)
    (tmp_path / MARK).mkdir()
    checkpoint = shutil.copy(base / "run/best.pt", tmp_path / MARK / "best.pt")
    with failing(errno.EROFS, "writing"):
        argv = ["--checkpoint", checkpoint, "--data", base / "tree", "--device", "cpu"]
        assert run(monkeypatch, main_of(command), *argv) == 2
    line = capsys.readouterr().err
    assert "Read-only file system; results go beside the checkpoint, unless --out names another" in line


@pytest.mark.parametrize("command", ["train.evaluate", "train.robustness"])
def test_the_table_is_printed_even_if_the_disk_is_full_then(
    command: str,
    base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    publish = LocalStore.publish

    @contextmanager
    def full(store: LocalStore, name: str, **options: Any) -> Iterator[Any]:
        with publish(store, name, **options) as file:
            if name == "scores.csv":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            yield file

    monkeypatch.setattr(LocalStore, "publish", full)
    [line] = [one for one in LINES if (one.command, one.kind) == (command, "folder")]
    assert run(monkeypatch, main_of(command), *line.argv(tmp_path / "out", base, tmp_path)) == 2
    said = capsys.readouterr()
    assert "| AUC |" in said.out
    assert said.err.startswith("error: disk full while writing ")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["scores.part-000000.json"]  # to go on


def test_a_bucket_without_permission_is_found_out_before_the_first_image(
    base: Path, s3_env: S3Env, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    s3_env.use(READER)
    monkeypatch.setattr("train.evaluation.scored.scored_parts", _begun)
    out = f"{s3_env.url}/results"
    argv = ["--checkpoint", base / "run/best.pt", "--data", base / "tree", "--out", out, "--device", "cpu"]
    assert run(monkeypatch, main_of("train.evaluate"), *argv) == 2
    assert f"no permission for {out}/can-be-written.probe" in capsys.readouterr().err


def test_a_file_of_results_is_written_whole_into_folders_that_are_made(tmp_path: Path) -> None:
    write_file(str(tmp_path / "a/b/c"), b"whole")
    assert (tmp_path / "a/b/c").read_bytes() == b"whole"
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    check_writable(str(tmp_path / "link"))  # a file takes the place of a link
    with pytest.raises(UserError, match=r"link is a link that leads nowhere, expected a folder"):
        check_writable(str(tmp_path / "link/c"))
    with pytest.raises(UserError, match=r"null: it is a pipe, a socket or a device; name a file"):
        write_file("/dev/null", b"")
