"""What listens where the nodes of a run are to meet, looked at before torch is asked to."""

import http.server
import os
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from launch_environments import sky
from launched import ROOT
from ports import free_ports
from served import served
from torch.distributed import TCPStore

from recon.base.errors import PeerError, UserError
from recon.place.meeting import _ANSWER, _HELLO, _LINES, local_address
from recon.place.node import Node, find_node
from recon.place.own import may_be_own, read_up_to


def node(port: int, **more: Any) -> Node:
    environ = {"RDZV_ENDPOINT": f"127.0.0.1:{port}", "RDZV_TIMEOUT": "1", **more}
    return find_node({**sky(int(more.pop("number", 1)), 2), **environ}, together=True)


@contextmanager
def answers(answer: bytes | None) -> Iterator[int]:
    """A server that answers the first bytes with these, or says nothing; gives its port."""

    class Answer(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(64)
            if answer is None:
                ended.wait()
            else:
                self.request.sendall(answer)

    ended = threading.Event()
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_address[1]
        ended.set()
        server.shutdown()


@pytest.mark.parametrize("libuv", [True, False])
def test_torchs_store_is_known_by_its_answer(libuv: bool) -> None:
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, use_libuv=libuv)
    assert local_address(node(store.port)) is None
    store.set("still", "there")


@pytest.mark.parametrize("libuv", [True, False])
def test_torchs_store_that_comes_late_still_works_and_knows_what_was_asked(libuv: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(PeerError, match="no answer"):
            local_address(node(port))
        with socket.create_connection(("127.0.0.1", port)) as waits:
            waits.sendall(_HELLO + _LINES)
            late: dict[str, Any] = {"master_listen_fd": os.dup(server.fileno()), "use_libuv": libuv}
            store = TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False, **late)
            answer = read_up_to(waits, 2 * len(_ANSWER))
            assert answer == _ANSWER + _LINES[1:]
            store.set("still", "there")
        assert TCPStore("127.0.0.1", port).get("still") == b"there"


def test_a_server_that_waits_for_a_line_is_refused_as_others_are() -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    with server, served(server), pytest.raises(UserError, match=r"found an answer that begins with b'<"):
        local_address(node(server.server_address[1], RDZV_TIMEOUT="2"))


def test_etcd_is_not_asked_as_torchs_store_is() -> None:
    with answers(b"HTTP/1.1 400 Bad Request\r\n") as port:
        assert local_address(node(port, RDZV_BACKEND="etcd-v2")) is None


def test_a_server_of_another_kind_is_refused() -> None:
    with answers(b"HTTP/1.1 400 Bad Request\r\n") as port, pytest.raises(UserError) as refusal:
        local_address(node(port))
    assert str(refusal.value) == (
        f"what listens at 127.0.0.1:{port} is not where nodes meet: expected torch's store, found an answer "
        "that begins with b'HTTP'; give RDZV_ENDPOINT a free port of the node where all meet"
    )


@pytest.mark.parametrize(("answer", "why"), [(None, "no answer"), (b"", "it closes the connection")])
@pytest.mark.parametrize("unnumbered", [False, True])
def test_a_server_that_says_nothing_is_asked_until_the_time_is_over(
    answer: bytes | None, why: str, unnumbered: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with answers(answer) as port:
        one = node(port)
        if unnumbered:
            hand = {"NNODES": "2", "RDZV_ID": "a", "RDZV_TIMEOUT": "1"}
            one = find_node({**hand, "RDZV_ENDPOINT": f"127.0.0.1:{port}"}, together=True)
        with pytest.raises(PeerError, match=rf"does not answer as nodes do after 1 s \({why}"):
            local_address(one)
    assert capsys.readouterr().err.count("\n") == (answer is not None)  # else the time is over at once


def test_a_port_that_is_in_use_is_told_on_the_node_where_all_meet() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PeerError, match=rf"^port {port} of this node, .* is in use: .*RDZV_ENDPOINT$"):
            local_address(node(port, number="0"))
    assert local_address(node(port, number="0")) is None


def by_hand(endpoint: str, **more: str) -> Node:
    hand = {"NNODES": "2", "RDZV_ID": "a", "RDZV_TIMEOUT": "1", "RDZV_ENDPOINT": endpoint}
    return find_node(hand | more, together=True)


def test_a_node_without_a_number_waits_for_an_endpoint_that_is_not_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (port,) = free_ports(1)
    assert local_address(by_hand(f"127.0.0.1:{port}")) is None  # torch listens there next
    monkeypatch.setattr("recon.place.meeting.may_be_own", lambda _: False)
    with pytest.raises(PeerError, match=rf"^127\.0\.0\.1:{port} does not listen after 1 s \(.* refused\)"):
        local_address(by_hand(f"127.0.0.1:{port}"))
    assert local_address(by_hand(f"127.0.0.1:{port}", RDZV_BACKEND="etcd")) is None  # no node has it


def test_a_name_without_an_address_is_no_node_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(*_rest: Any, **_more: Any) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert not may_be_own("no.such.host")
    assert may_be_own(socket.gethostname())


@pytest.mark.parametrize(
    ("failure", "why"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name not known"), "127.0.0.1 has no address: Name not known"),
        (TimeoutError("timed out"), "timed out"),
    ],
)
def test_the_first_node_is_told_that_the_endpoint_leads_elsewhere(
    failure: OSError, why: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*_rest: Any, **_more: Any) -> socket.socket:
        raise failure

    monkeypatch.setattr(socket, "create_connection", refused)
    (port,) = free_ports(1)
    with pytest.raises(PeerError) as refusal:
        local_address(node(port, number="0"))
    what = f"this node, 0, is where all are to meet, but 127.0.0.1:{port} does not lead here"
    assert str(refusal.value) == (
        f"{what} after 1 s ({why}); give all nodes a name or an address of node 0 in RDZV_ENDPOINT"
    )
    assert capsys.readouterr().err == f"{what} yet ({why}), asking for 1 s\n"


@pytest.mark.parametrize("early", [b"", b"asks as torch does"])
def test_the_first_node_knows_itself_among_nodes_that_come_early(
    monkeypatch: pytest.MonkeyPatch, early: bytes
) -> None:
    connect, others = socket.create_connection, []

    def together(where: tuple[str, int], timeout: float) -> socket.socket:
        others.append(connect(where, timeout))
        others[-1].sendall(early)
        others[-1].shutdown(socket.SHUT_WR)
        return connect(where, timeout)

    monkeypatch.setattr(socket, "create_connection", together)
    assert local_address(node(*free_ports(1), number="0")) is None
    assert len(others) == 1
    others[0].close()


def test_the_first_node_knows_another_that_answers_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.create_connection
    with answers(b"another") as port:
        monkeypatch.setattr(
            socket, "create_connection", lambda _, timeout: connect(("127.0.0.1", port), timeout)
        )
        with pytest.raises(PeerError, match=r"does not lead here after 1 s \(what answers there is not this"):
            local_address(node(*free_ports(1), number="0"))


@pytest.mark.skipif(sys.platform != "linux", reason="needs an abstract address of Linux")
def test_of_two_first_nodes_that_start_together_the_late_one_is_told_before_torch_listens() -> None:
    (port,) = free_ports(1)
    late = (
        "import os; from recon.place.meeting import local_address; from recon.place.node import find_node; "
        "local_address(find_node(os.environ, together=True))"
    )
    variables = {"RDZV_ENDPOINT": f"127.0.0.1:{port}", **sky(0, 2)}
    assert local_address(node(port, number="0")) is None  # nobody listens yet
    ended = subprocess.run(
        [sys.executable, "-c", late], env=os.environ | variables, capture_output=True, text=True, check=False
    )
    assert f"PeerError: port {port} of this node, where all are to meet" in ended.stderr
    assert local_address(node(port, number="0")) is None


def test_help_needs_no_other_node() -> None:
    environ = {"PATH": os.environ["PATH"], "PYTHON": sys.executable, "NNODES": "2"}
    script = str(ROOT / "launch/torchrun.sh")
    for words, status, found in ((["--help"], 0, "usage: python -m train"), ([], 2, "needs RDZV_ID")):
        ended = subprocess.run(
            ["bash", script, *words], env=environ, capture_output=True, text=True, check=False
        )
        assert ended.returncode == status
        assert found in ended.stdout + ended.stderr
