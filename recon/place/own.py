"""Whether the endpoint of a run is this node: tried where the node was told that it is, else by its names.

torch's store on the node where all meet connects to itself by the endpoint, and tries that for two minutes,
with frames of C++ for each attempt.
"""

import errno
import os
import secrets
import socket
import sys
from contextlib import suppress

from recon.base.errors import PeerError, UserError
from recon.place.asking import Asking
from recon.place.node import Node

_HELD: set[int] = set()


def await_own(node: Node, host: str, port: int) -> None:
    """Waits until the endpoint leads to this node, as the name of a service may once the node is ready.

    Raises:
        UserError: this node may not listen at the port.
        PeerError: the port is in use, or the endpoint leads elsewhere until the time is over.
    """
    asking = Asking(node.join_s)
    what = f"this node, {node.rank}, is where all are to meet, but {node.endpoint} does not lead here"
    cure = "give all nodes a name or an address of node 0 in RDZV_ENDPOINT"
    with _listening(node, port) as server:
        while why := _elsewhere(server, host, port, asking.look_s):
            asking.wait(what, why, cure)


def may_be_own(host: str) -> bool:
    """Whether torch takes this node, which has no number, for the one where all meet."""
    from torch.distributed.elastic.rendezvous.utils import _matches_machine_hostname

    try:
        return _matches_machine_hostname(host)
    except socket.gaierror:  # this node's own name has no address
        return False


def read_up_to(connection: socket.socket, count: int) -> bytes:
    """The next bytes that come; fewer where the connection ends."""
    with connection.makefile("rb") as stream:
        return stream.read(count)


def _listening(node: Node, port: int) -> socket.socket:
    """A server at the port as torch's store will be: at all addresses, of IPv6 too."""
    try:
        _hold(port)
        if socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        return socket.create_server(("", port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PeerError(
                f"port {port} of this node, where all are to meet ({node.endpoint}), is in use: by another "
                "program, or by a run that has not ended; end that, or give all nodes another port in "
                "RDZV_ENDPOINT"
            ) from None
        raise UserError(f"can't listen at port {port}: {os.strerror(error.errno or 0)}") from None


def _hold(port: int) -> None:
    """Keeps other launchers from the port as long as this process lives; torch listens seconds later.

    An abstract address of Linux: each network namespace has its own, as with ports, and no file stays.

    Raises:
        OSError: another launcher has the port.
    """
    if sys.platform == "linux" and port not in _HELD:
        holder = socket.socket(socket.AF_UNIX)
        try:
            holder.bind(f"\0pairstream/port/{port}")
        except OSError:
            holder.close()
            raise
        holder.detach()  # it stays open
        _HELD.add(port)


def _elsewhere(server: socket.socket, host: str, port: int, limit_s: float) -> str | None:
    """Why a connection to the endpoint does not arrive at this server; None if it does."""
    word = secrets.token_hex().encode()
    try:
        with socket.create_connection((host, port), timeout=limit_s) as connection:
            connection.sendall(word)
            return None if _arrives(server, word) else "what answers there is not this node"
    except socket.gaierror as error:
        return f"{host} has no address: {error.strerror}"
    except OSError as error:
        return str(error)


def _arrives(server: socket.socket, word: bytes) -> bool:
    """Whether one of the connections that wait begins with this word; others are of nodes that come early."""
    server.settimeout(1)
    try:
        while True:
            found, _ = server.accept()
            with found:
                found.settimeout(1)
                with suppress(OSError):
                    if read_up_to(found, len(word)) == word:
                        return True
    except TimeoutError:  # nobody is left
        return False
