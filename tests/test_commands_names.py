"""Names that are not UTF-8, and streams that are not: no command loses its work to them."""

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_lines import LINES, main_of, signals_stay, write_places
from conftest import run

from recon.base.errors import UserError
from recon.base.paths import print_any_text
from recon.models.config import ReconstructionConfig
from recon.models.locate import locate
from train.output.boards import Prometheus
from train.output.tensorboard import TensorBoard

ODD = "caf\udce9"
"""The name of a file on disk whose bytes are no UTF-8."""
WORK = [
    ("pack", "photos"),
    ("pack", "out"),
    ("pack.audit", "packed"),
    ("pack.index", "theirs"),
    ("pack.preview", "packed"),
    ("recon", "photos"),
    ("train", "out"),
    ("train.bench", "out.json"),
    ("train.calibrate", "tree"),
    ("train.compare", "out"),
    ("train.evaluate", "tree"),
    ("train.export", "out"),
    ("train.report", "out.md"),
    ("train.robustness", "out"),
    ("train.score", "out.json"),
]
"""A line or two of each command that writes."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole places; what is written goes elsewhere, but for the calibration and the index."""
    folder = tmp_path_factory.mktemp("places") / ODD
    write_places(folder)
    return folder


@pytest.fixture(autouse=True)
def _signals_stay() -> Iterator[None]:
    yield from signals_stay()


def argv(command: str, whole: str, base: Path, out: Path) -> list[str]:
    [line] = [one for one in LINES if (one.command, one.whole) == (command, whole)]
    return line.argv(base / whole if line.is_read else out / whole, base, out / "new")


@pytest.mark.parametrize(("command", "whole"), WORK)
def test_a_command_works_below_a_folder_that_is_not_utf_8(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, whole: str
) -> None:
    out = tmp_path / ODD
    more = ["--prometheus", out / "out/of.prom"] if command == "train" else []
    assert run(monkeypatch, main_of(command), *argv(command, whole, base, out), *more) == 0
    if command == "train":
        assert [path.parent for path in tmp_path.rglob("events.*")] == [out / "out/tensorboard"]
    if command == "pack.audit":
        assert json.loads((out / "new/audit.json").read_bytes())["urls"] == [str(base / "packed")]


def test_tensorboard_writes_below_such_a_folder_and_leaves_no_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    (tmp_path / ODD).mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    board = TensorBoard(tmp_path / ODD / "tensorboard", 0)
    board.add({"train/loss": 0.5}, 1)
    board.close()
    [file] = (tmp_path / ODD / "tensorboard").iterdir()
    assert b"train/loss" in file.read_bytes()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_weights_below_such_a_folder_are_refused_by_that_name(base: Path, tmp_path: Path) -> None:
    config = ReconstructionConfig(autoencoder=str(base / "model"))
    with pytest.raises(UserError, match=r"caf\\xe9/model is not UTF-8, so its weights can't be read; rename"):
        locate(config)
    (tmp_path / "model").symlink_to(base / "model")
    assert locate(ReconstructionConfig(autoencoder=str(tmp_path / "model"))).folder == tmp_path / "model"


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", b"caf\\xe9 \\u2013 \\ud800 gr\\xfcn"),
        ("latin-1", b"caf\\xe9 \\u2013 \\ud800 gr\xfcn"),
        ("utf-8", b"caf\\xe9 \xe2\x80\x93 \\ud800 gr\xc3\xbcn"),
    ],
)
def test_a_stream_prints_what_it_can_not_encode_as_an_escape(encoding: str, shown: bytes) -> None:
    out = io.BytesIO()
    stream = io.TextIOWrapper(out, encoding)
    print_any_text(stream, io.StringIO(), None)  # those without an encoding are left alone
    stream.write(f"{ODD} \N{EN DASH} \ud800 grün")
    stream.flush()
    assert out.getvalue() == shown


def test_a_table_with_dashes_and_names_is_printed_on_a_stream_of_ascii(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = base / "eval2/scores.csv"
    group = scores.read_bytes().replace(b",gan,", b",gr\xc3\xbcn,")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "scores.csv").write_bytes(group)
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, "ascii"))
    places = [tmp_path / name for name in ("one", "two")]
    assert run(monkeypatch, main_of("train.compare"), *places, "--resamples", "5") == 0
    sys.stdout.flush()
    assert b"\\u2013" in out.getvalue()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out := io.BytesIO(), "ascii"))
    assert run(monkeypatch, main_of("train.evaluate"), *argv("train.evaluate", "tree", base, tmp_path)) == 0
    sys.stdout.flush()
    assert b"| gan |" in out.getvalue()


def test_gauges_go_into_no_pipe(tmp_path: Path) -> None:
    pytest.importorskip("prometheus_client")
    (tmp_path / "pipe.prom").symlink_to("/dev/null")
    with pytest.raises(UserError, match=r"prometheus=.*pipe\.prom is a pipe, a socket or a device"):
        Prometheus(str(tmp_path / "pipe.prom"), "run")
