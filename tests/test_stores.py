"""The cheapest of `make stores`: its table, and a server that can't be had."""

import subprocess
from pathlib import Path

import pytest
import run_stores
from store_servers import InstallError, Kind, Plan, install

ABSENT = Kind(name="absent", package="npm:absent@1.0", plan=lambda *_: Plan(port=0, servers=[]))


def test_the_table_has_a_column_for_each_server_and_a_row_for_each_check() -> None:
    checks = list(run_stores.CHECKS)
    columns = {"one": dict.fromkeys(checks, "yes"), "absent": {}}
    head, line, *rows = run_stores.table(columns, {"one": "1.2", "absent": "1.0"}).splitlines()
    assert head == "|  | one 1.2 | absent 1.0 |"
    assert line == "| --- | --- | --- |"
    assert rows == [f"| {name} | yes | not to be had |" for name in checks]


def test_a_server_that_the_registry_lacks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(line: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(line, 1, "", "notice\nnpm error 404 Not Found: absent\n")

    monkeypatch.setattr(subprocess, "run", refuse)
    with pytest.raises(InstallError, match="npm ends with 1: npm error 404 Not Found: absent"):
        install(ABSENT, tmp_path / "absent")
    assert not (tmp_path / "absent/installed").exists()


def test_every_package_has_its_version() -> None:
    assert all(kind.version[0].isdigit() for kind in run_stores.KINDS)
