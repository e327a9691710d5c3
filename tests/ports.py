"""Ports for servers that others must know before they listen."""

import os
import random
import socket
from contextlib import ExitStack, suppress

GRPC = 10_000
"""A SeaweedFS service's gRPC port lies this far above its HTTP port."""

_FIRST, _LAST = 12_000, 22_000
_WORKERS = 16


def free_ports(count: int) -> list[int]:
    """Ports of loopback that are free together with those 10,000 above.

    All lie below the range from which the kernel gives ports to clients, so that they stay free; each
    of pytest's parallel workers has a part of them to itself.
    """
    found: list[int] = []
    with ExitStack() as taken:
        for port in random.Random(os.urandom(8)).sample(_share(), 500):
            with suppress(OSError):
                for number in (port, port + GRPC):
                    one = taken.enter_context(socket.socket())
                    one.bind(("127.0.0.1", number))
                found.append(port)
            if len(found) == count:
                return found
    raise RuntimeError("no free ports")


def _share() -> range:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    width = (_LAST - _FIRST) // _WORKERS
    first = _FIRST + worker % _WORKERS * width
    return range(first, first + width)
