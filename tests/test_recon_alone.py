"""Commands of one process, started as one of several: each would do all the work and write the same files."""

import sys
from importlib import import_module

import pytest

LINES = (
    "pack.audit a",
    "pack.index a",
    "pack.preview a",
    "pack.upgrade a",
    "recon.folder --source a --out b --autoencoder identity",
    "train.calibrate --checkpoint a --data b",
    "train.compare a b",
    "train.export --checkpoint a --out b",
    "train.report --run a --evaluation b --out c.md",
    "train.score a b.png",
)


@pytest.mark.parametrize("line", LINES)
def test_command_of_one_process_refuses_to_be_one_of_several(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(sys, "argv", line.split())
    with pytest.raises(SystemExit) as end:
        import_module(line.split()[0]).main()
    assert end.value.code == 2
    assert "RANK=1 and WORLD_SIZE=2 make this one of several processes" in capsys.readouterr().err
