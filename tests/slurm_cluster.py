"""A Slurm of two nodes on this machine: one slurmctld and two slurmd on loopback, without munge."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from patience import PATIENCE_S
from ports import free_ports

COMMANDS = ("slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel", "sinfo")
NODES = ("n1", "n2")


def is_there() -> bool:
    """Whether Slurm is installed (Debian: slurmctld, slurmd, slurm-client) and may be started."""
    return os.geteuid() == 0 and all(map(shutil.which, COMMANDS))


def _configuration(folder: Path) -> str:
    control, *ports = free_ports(1 + len(NODES))
    host = socket.gethostname()
    lines = {
        **{"ClusterName": "test", "SlurmctldHost": f"{host}(127.0.0.1)", "SlurmctldPort": control},
        **{"AuthType": "auth/none", "CredType": "cred/none", "SlurmUser": getpass.getuser()},
        **{"StateSaveLocation": folder / "state", "SlurmdSpoolDir": folder / "spool-%n"},
        **{"SlurmctldPidFile": folder / "ctld.pid", "SlurmdPidFile": folder / "d-%n.pid"},
        **{"SlurmctldLogFile": folder / "ctld.log", "SlurmdLogFile": folder / "d-%n.log"},
        **{"ProctrackType": "proctrack/linuxproc", "TaskPlugin": "task/none", "SelectType": "select/linear"},
        **{"ReturnToService": 2, "MpiDefault": "none", "SlurmdParameters": "config_overrides"},
    }
    text = [f"{name}={value}" for name, value in lines.items()]
    for name, port in zip(NODES, ports, strict=True):
        text.append(
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=4 RealMemory=1000"
        )
    text.append(f"PartitionName=all Nodes={','.join(NODES)} Default=YES MaxTime=INFINITE State=UP")
    return "\n".join([*text, ""])


@dataclass(frozen=True)
class Slurm:
    """A running cluster."""

    environ: dict[str, str]

    def ask(self, *words: str, **more: str) -> str:
        """What a command of Slurm prints."""
        said = subprocess.run(words, env=self.environ | more, capture_output=True, text=True, check=False)
        assert said.returncode == 0, (words, said.stderr)
        return said.stdout

    def job(self, number: str) -> dict[str, str]:
        """What ``scontrol show job`` tells."""
        shown = self.ask("scontrol", "show", "job", number)
        return dict(word.split("=", 1) for word in shown.split() if "=" in word)

    def until(self, number: str, **state: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not state.items() <= (found := self.job(number)).items():
            assert time.monotonic() < deadline, found
            time.sleep(0.5)


@contextmanager
def slurm(folder: Path) -> Iterator[Slurm]:
    """Context manager: the cluster runs inside."""
    (folder / "state").mkdir()
    (folder / "slurm.conf").write_text(_configuration(folder))
    environ = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
    words = [["slurmctld", "-D", "-i"], *(["slurmd", "-D", "-N", name] for name in NODES)]
    daemons = [
        subprocess.Popen(each, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for each in words
    ]
    cluster = Slurm(environ)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while _idle(environ) < len(NODES):
            assert time.monotonic() < deadline, (folder / "ctld.log").read_text()[-2000:]
            time.sleep(0.5)
        yield cluster
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait()


def _idle(environ: dict[str, str]) -> int:
    """How many nodes are idle; none while the controller does not answer."""
    words = ["sinfo", "--noheader", "--Node", "--format=%T"]
    return (
        subprocess.run(words, env=environ, capture_output=True, text=True, check=False)
        .stdout.split()
        .count("idle")
    )
