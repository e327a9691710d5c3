"""Whether the nodes of a run are alive, as their launchers see it.

A node that is killed closes its connections, and its ranks are missed at once. One that loses its power or
its network closes nothing: the others would wait for minutes, at most where rank 0 works alone or where
ranks start. So each launcher counts a number of its own up, in the store where all nodes meet. The first one
looks at those of all others, and they at that of the first. Clocks are not compared: what counts is how long
a number stands still here.
"""

import os
import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a node waits for others, in seconds."""

    silence_s: float = 45.0
    """Without a sign of life; after it a node counts as gone."""
    rejoin_s: float = 60.0
    """For enough nodes to come together again after some ranks have ended."""


class Watch:
    """Watches the other nodes of a run, and tells them that this one lives, until it is stopped.

    Args:
        store: of torch, in which the nodes of this run, and of this start of it, meet.
        rank: of this node.
        size: how many nodes there are.
        silence_s: see `Patience`.
    """

    def __init__(self, store: Any, rank: int, size: int, silence_s: float) -> None:
        self._store = store.clone()  # of its own: a connection serves one caller after the other
        end_silent_connections(silence_s)
        self._rank, self._silence_s = rank, silence_s
        others = range(1, size) if rank == 0 else range(1)
        self._told: dict[int, str] = {}
        self._heard = dict.fromkeys(others, time.monotonic())
        self._began = self._looked = time.monotonic()  # of the newest turn, and of the newest that is over
        self._is_lost, self._ended = False, threading.Event()
        threading.Thread(target=self._keep, daemon=True).start()

    def stop(self) -> None:
        """Ends the watch; the others miss this node from now on."""
        self._ended.set()

    def gone(self) -> str | None:
        """Says which nodes are silent for too long; None if none is."""
        now = time.monotonic()
        silent = [other for other, heard in self._heard.items() if now - heard > self._silence_s]
        if not silent:
            return None
        if self._is_lost:
            return "the node where all meet has gone"
        names = [self._told[other].split()[1] if other in self._told else f"node {other}" for other in silent]
        if now - self._looked > self._silence_s / 2:  # nobody can be asked
            names = ["the node where all meet"]
        verb = "has" if len(names) == 1 else "have"
        return f"{', '.join(names)} {verb} not answered for {self._silence_s:.0f} s"

    def _keep(self) -> None:
        turn = 0
        with suppress(RuntimeError):  # the connection has gone
            while not self._ended.is_set():
                turn, self._began = turn + 1, time.monotonic()
                self._store.set(_key(self._rank), f"{turn} {socket.gethostname()}")
                for other in self._heard:
                    self._look(other)
                self._looked = time.monotonic()
                self._ended.wait(min(5.0, self._silence_s / 5))
        self._is_lost = time.monotonic() - self._began < self._silence_s / 2  # else it has become silent

    def _look(self, other: int) -> None:
        if not self._store.check([_key(other)]):  # `get` would wait for it
            return
        told = self._store.get(_key(other)).decode()
        if told != self._told.get(other):
            self._told[other], self._heard[other] = told, time.monotonic()


def _key(rank: int) -> str:
    return f"pairstream/alive/{rank}"


def end_silent_connections(silence_s: float) -> None:
    """Lets the kernel end connections of this process whose other side does not answer for so long.

    torch waits for an answer of its store without a limit, and Linux sends again for a quarter of an hour.
    """
    if sys.platform != "linux":
        return
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # it was closed meanwhile
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                _end_when_silent(socket.socket(fileno=os.dup(int(name))), silence_s)


def _end_when_silent(found: socket.socket, silence_s: float) -> None:
    seconds = max(1, round(silence_s / 5))  # between two questions, where nothing else is sent
    with found:
        if found.family in (socket.AF_INET, socket.AF_INET6) and found.type == socket.SOCK_STREAM:
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(silence_s * 1000))
            found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, seconds)
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, seconds)
