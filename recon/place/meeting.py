"""Whether the nodes of a run can meet at their endpoint, looked at before torch is asked to.

torch's client waits without a limit for a server of another kind, and a port that is in use is, in its words,
a node that can't be reached.
"""

import socket
import struct

from recon.base.errors import UserError
from recon.place.asking import Asking
from recon.place.node import Node
from recon.place.own import await_own, may_be_own, read_up_to

# What a client of torch's TCPStore says first, and its question for a sign of life: torch/csrc/distributed/
# c10d/TCPStoreBackend.hpp. The answer is the number that the question ends with.
_VALIDATE, _PING = 0, 13
_MAGIC, _NUMBER = 0x3C85F7CE, 0x70616972
_HELLO = struct.pack("=BIBI", _VALIDATE, _MAGIC, _PING, _NUMBER)
# Ends a line, for servers that answer lines. To torch's store, which may only be late, it is another _PING.
_LINES = b"\r\n\r\n\n"
_ANSWER = struct.pack("=I", _NUMBER)


class _OtherServerError(Exception):
    """What listens is no store of torch."""


def local_address(node: Node) -> str | None:
    """Waits for the node where all meet to listen; returns the address that it sees of this one.

    Not all clusters can look up the names of nodes, as those of Kubernetes' pods.

    Raises:
        UserError: something else listens there.
        PeerError: nothing listens there, or what listens does not answer; or, on the node where all meet,
            the port is in use, or the endpoint leads elsewhere.
    """
    host, _, port = (node.endpoint or "").rpartition(":")
    if not host:
        return None
    host = host.strip("[]")
    if node.is_host:
        await_own(node, host, int(port))
        return None
    asking, is_usual = Asking(node.join_s), False
    while True:
        try:
            return _asked(host, int(port), asking.look_s, hello=node.backend == "c10d")
        except _OtherServerError as error:
            what, why = f"what listens at {node.endpoint} does not answer as nodes do", str(error)
        except socket.gaierror as error:  # a new pod's name may take a while
            what, why = f"{host} has no address", str(error.strerror)
        except OSError as error:
            if node.backend != "c10d" or (node.rank is None and may_be_own(host)):
                return None
            what, why = f"{node.endpoint} does not listen", str(error)
            is_usual = True  # that it will, later, is what is expected
        cure = "is that node running, and does nothing else listen there?"
        asking.wait(what, why, cure, is_usual=is_usual)


def _asked(host: str, port: int, limit_s: float, *, hello: bool) -> str | None:
    """Connects to where all nodes meet; returns this node's address as it is seen there.

    With `hello`, it is to be torch's store, and gives a sign of life.

    Raises:
        UserError: what listens speaks something else.
        _OtherServerError: it says nothing, as a node that only starts, or closes the connection, as a proxy
            before such a node.
        OSError: nothing listens.
    """
    with socket.create_connection((host, port), timeout=limit_s) as connection:
        if hello:
            _greet(connection, f"{host}:{port}")
        address: str = connection.getsockname()[0]
    return None if address.startswith("127.") or address == "::1" else address


def _greet(connection: socket.socket, where: str) -> None:
    try:
        connection.sendall(_HELLO)
        try:
            answer = read_up_to(connection, len(_ANSWER))
        except TimeoutError:
            connection.sendall(_LINES)
            connection.settimeout(1)
            answer = read_up_to(connection, len(_ANSWER))
    except OSError as error:
        raise _OtherServerError(f"no answer ({error})") from None
    if not answer:
        raise _OtherServerError("it closes the connection")
    if answer != _ANSWER:
        raise UserError(
            f"what listens at {where} is not where nodes meet: expected torch's store, found an answer that "
            f"begins with {answer!r}; give RDZV_ENDPOINT a free port of the node where all meet"
        )
