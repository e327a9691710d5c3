"""Nodes on this machine: network namespaces on a bridge, each with an address, a name, and a link to break.

ip netns          one for each node, and one for the bridge, where the bucket listens
10.99.0.10 + N    node N, whose host name is nodeN; 10.99.0.1 is the bucket
"""

import ctypes
import itertools
import os
import select
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from patience import PATIENCE_S
from served import served

ROOT = Path(__file__).parents[1]
BUCKET_PORT = 9000

_NEW_NET = 0x40000000  # CLONE_NEWNET in linux/sched.h
_NUMBERS = itertools.count()
# Names are looked up in the node's own /etc/hosts alone, and its host name is its own.
_ENTER = """
mount --bind "$1" /etc/hosts && mount --bind /dev/null /etc/resolv.conf || exit
echo "$2" > /proc/sys/kernel/hostname
shift 2
exec "$@"
"""
# Its standard input closes when the process that started it has gone, by whatever end.
_TEAR_DOWN = """
cat > /dev/null
for one in "$@"; do
  while left=$(ip netns pids "$one") && [ -n "$left" ]; do kill -9 $left; sleep .1; done 2> /dev/null
done
for one in "$@"; do ip netns del "$one" 2>/dev/null; done
"""
_SHIFT = """
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *now) {{
  int failed = syscall(SYS_clock_gettime, clock, now);
  if (!failed && clock == CLOCK_REALTIME) now->tv_sec += {};
  return failed;
}}
"""


@cache
def why_not() -> str:
    """Why there can be no such nodes here; empty if there can."""
    if sys.platform != "linux" or os.geteuid() or not shutil.which("ip"):
        return "needs root on Linux, and iproute2"
    name = f"pairstream-try-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"can't make a network namespace: {made.stderr.strip()}"
    ip(f"netns del {name}")
    return ""


def ip(words: str) -> str:
    return subprocess.run(["ip", *words.split()], check=True, capture_output=True, text=True).stdout


@dataclass
class Started:
    """A launcher on a node."""

    process: "subprocess.Popen[bytes]"
    log: Path
    over: float = 0.0
    """When it ended, on the monotonic clock."""

    def __post_init__(self) -> None:
        threading.Thread(target=self._wait, daemon=True).start()

    def _wait(self) -> None:
        self.process.wait()
        self.over = time.monotonic()

    def lines(self) -> list[str]:
        """What it and its ranks have written."""
        return self.log.read_text(errors="replace").splitlines()

    def ended(self) -> tuple[int, list[str]]:
        """Its exit status, and all that it and its ranks wrote."""
        try:
            return self.process.wait(PATIENCE_S), self.lines()
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the node hangs: {self.log.read_text()}") from None


@dataclass
class Nodes:
    """Nodes that run, by number."""

    folder: Path
    names: list[str]
    hub: str
    started: list[Started] = field(default_factory=list)
    struck: float = 0.0
    """When the last fault began, on the monotonic clock."""

    def start(self, number: int, *words: str, **variables: str) -> Started:
        """Starts a launcher on a node: launch/torchrun.sh OPTIONS..., or -m MODULE ARGUMENTS..."""
        command = [str(ROOT / "launch/torchrun.sh"), *words]
        if words[:1] == ("-m",):
            command = [sys.executable, str(ROOT / "launch/torchrun.py"), *words]
        enter = ["ip", "netns", "exec", self.names[number], "unshare", "--uts", "sh", "-c", _ENTER, "sh"]
        log = self.folder / f"node{number}-{len(self.started)}.log"
        environ = os.environ | _environment(number, len(self.names)) | variables
        with log.open("wb") as written:
            process = subprocess.Popen(
                [*enter, str(self.folder / "hosts"), f"node{number}", *command],
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=written,
                start_new_session=True,
            )
        self.started.append(Started(process, log))
        return self.started[-1]

    def pids(self, number: int) -> list[int]:
        """The processes of a node."""
        return list(map(int, ip(f"netns pids {self.names[number]}").split()))

    def kill(self, number: int) -> None:
        """Ends all processes of a node at once, by SIGKILL: the launcher, its rank, that one's worker."""
        self.struck = time.monotonic()
        while pids := self.pids(number):
            for pid in sorted(pids):  # the launcher first
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue

    def link(self, number: int, state: str) -> None:
        """Sets the link of a node ``up`` or ``down``."""
        ip(f"-n {self.hub} link set v{number} {state}")
        self.struck = time.monotonic()

    def bucket(self, number: int, state: str) -> None:
        """Has the bucket's answers to a node get lost (``down``) or not (``up``)."""
        deed = {"down": "add", "up": "del"}[state]
        ip(f"-n {self.hub} route {deed} blackhole {_address(number)}")
        self.struck = time.monotonic()


def _address(number: int) -> str:
    return f"10.99.0.{10 + number}"


def _environment(number: int, count: int) -> dict[str, str]:
    """The variables by which a node is found, among `count`, of which node 0 keeps the rendezvous."""
    place = {"SKYPILOT_NODE_RANK": str(number), "SKYPILOT_NUM_NODES": str(count)}
    place |= {"RDZV_ID": "job", "RDZV_ENDPOINT": "node0:29400", "NPROC_PER_NODE": "1"}
    place |= {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    return place | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests")))}


def shifted_clock(folder: Path, shift_s: int) -> dict[str, str]:
    """Variables by which a process sees the time of day shifted, and other clocks as they are.

    It needs a C compiler. Debian's libfaketime 0.9.10 can't do that: Python's sleep fails under it.
    """
    source, library = folder / "shift.c", folder / "shift.so"
    source.write_text(_SHIFT.format(shift_s))
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return {"LD_PRELOAD": str(library)}


@contextmanager
def nodes(folder: Path, count: int) -> Iterator[Nodes]:
    """Context manager: the nodes are there inside; at the end all that runs on them is killed."""
    prefix = f"pairstream-{os.getpid()}-{next(_NUMBERS)}"
    hub, names = f"{prefix}-hub", [f"{prefix}-{number}" for number in range(count)]
    guard = subprocess.Popen(
        ["sh", "-c", _TEAR_DOWN, "sh", *names, hub], stdin=subprocess.PIPE, start_new_session=True
    )
    bed = Nodes(folder, names, hub)
    try:
        _connect(hub, names)
        hosts = ["127.0.0.1 localhost", "10.99.0.1 bucket"]
        hosts += [f"{_address(number)} node{number}" for number in range(count)]
        (folder / "hosts").write_text("\n".join([*hosts, ""]))
        yield bed
    finally:
        guard.communicate()  # closes its standard input
        for each in bed.started:
            each.process.wait()


def _connect(hub: str, names: list[str]) -> None:
    """Makes the namespaces, and a bridge that joins them."""
    ip(f"netns add {hub}")
    ip(f"-n {hub} link add name bridge0 type bridge")
    ip(f"-n {hub} addr add 10.99.0.1/24 dev bridge0")
    for number, name in enumerate(names):
        ip(f"netns add {name}")
        ip(f"-n {hub} link add name v{number} type veth peer name eth0 netns {name}")
        ip(f"-n {hub} link set v{number} master bridge0 up")
        ip(f"-n {name} addr add {_address(number)}/24 dev eth0")
        ip(f"-n {name} link set eth0 up")
        ip(f"-n {name} link set lo up")
    ip(f"-n {hub} link set bridge0 up")
    ip(f"-n {hub} link set lo up")


@contextmanager
def _inside(name: str) -> Iterator[None]:
    """Context manager: this thread is in a network namespace; sockets that it opens stay there."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net", "rb") as before, open(f"/run/netns/{name}", "rb") as there:
        assert libc.setns(there.fileno(), _NEW_NET) == 0, os.strerror(ctypes.get_errno())
        try:
            yield
        finally:
            assert libc.setns(before.fileno(), _NEW_NET) == 0


@contextmanager
def bucket_at(hub: str, server: tuple[str, int]) -> Iterator[str]:
    """Context manager: a server of this machine can be reached by all nodes, at the URL that it gives."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(server) as there:
                _copy(self.request, there)

    with _inside(hub):
        proxy = socketserver.ThreadingTCPServer(("10.99.0.1", BUCKET_PORT), Handler)
    proxy.daemon_threads = True
    proxy.block_on_close = False  # a connection that was cut lasts until the end
    with served(proxy):
        yield f"http://10.99.0.1:{BUCKET_PORT}"


def _copy(one: socket.socket, other: socket.socket) -> None:
    """Hands what comes from each of two sockets to the other one, until one of them ends."""
    while True:
        for ready in select.select([one, other], [], [])[0]:
            try:
                data = ready.recv(65_536)
                (other if ready is one else one).sendall(data)
            except OSError:
                return
            if not data:
                return


def until(happens: Callable[[], object], *running: Started) -> None:
    """Waits until something is so, while some launchers run."""
    deadline = time.monotonic() + PATIENCE_S
    while not happens():
        for each in running:
            assert each.process.poll() is None, each.log.read_text()
        assert time.monotonic() < deadline, [each.log.read_text() for each in running]
        time.sleep(0.05)
