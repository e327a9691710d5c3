"""How a launcher finds out that other nodes have gone, whatever their clocks say."""

import socket
import sys
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from launched import until
from torch.distributed import DistNetworkError, PrefixStore, Store, TCPStore  # type: ignore[attr-defined]
from torch.distributed.elastic.agent.server.api import RunResult, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure
from torch.distributed.elastic.rendezvous import api as rendezvous
from torch.distributed.elastic.rendezvous import dynamic_rendezvous as torchs

from recon.launcher import agent, clocks
from recon.launcher.watch import Watch, end_silent_connections


@pytest.fixture
def store() -> Store:
    return PrefixStore("round 0", TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False))


def test_a_node_is_heard_of_again_and_again_until_it_stops(store: Store) -> None:
    first, second, third = (Watch(store, rank, 3, 0.5) for rank in range(3))
    for watch, other in ((first, 1), (first, 2), (second, 0), (third, 0)):
        for _ in range(2):
            before = watch._heard[other]
            until(lambda watch=watch, other=other, before=before: watch._heard[other] > before)
    for watch in (first, second, third):
        watch.stop()


def test_a_silent_node_is_named_or_numbered_if_it_never_came(store: Store) -> None:
    first, second = Watch(store, 0, 3, 2.0), Watch(store, 1, 3, 2.0)
    until(lambda: first._told)
    second.stop()
    both = f"{socket.gethostname()}, node 2 have not answered for 2 s"
    until(lambda: first.gone() == both)
    first.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_the_kernel_ends_connections_that_are_silent_for_too_long() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as one,
    ):
        end_silent_connections(45)
        assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 45_000
        assert one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        one.sendall(b"it still works")


class Holder:
    """The part of torch's holder of the nodes' common state that looks for dead ones."""

    def __init__(self, *nodes: str) -> None:
        timeout = torchs.RendezvousTimeout()
        self._settings = torchs.RendezvousSettings(
            "job", 2, 2, timeout, keep_alive_interval=timedelta(seconds=5), keep_alive_max_attempt=3
        )
        self._state = torchs._RendezvousState()
        self._dead_nodes: list[Any] = []
        self._state.participants = {self.node(name): 0 for name in nodes}

    @staticmethod
    def node(name: str) -> Any:
        return torchs._NodeDesc(name, 1, 0)

    def beats(self, name: str, seconds_ahead: float) -> None:
        beat = datetime.now(UTC) + timedelta(seconds=seconds_ahead)
        self._state.last_heartbeats[self.node(name)] = beat

    def living(self) -> set[str]:
        clocks._sanitize(self)
        return {node.addr for node in self._state.participants}


@pytest.mark.parametrize("ahead_s", [-600, 600])
def test_a_node_lives_while_its_time_goes_on_whatever_it_is(
    monkeypatch: pytest.MonkeyPatch, ahead_s: float
) -> None:
    now = 1000.0
    monkeypatch.setattr(clocks.time, "monotonic", lambda: now)
    holder = Holder("one", "other")
    for _ in range(10):
        now += 5
        holder.beats("one", 0)
        holder.beats("other", ahead_s)
        assert holder.living() == {"one", "other"}
    kept = dict(holder._state.last_heartbeats)
    for _ in range(2):
        now += 7
        assert holder.living() == {"one", "other"}
    assert holder._state.last_heartbeats == kept  # what is written back is each node's own time
    holder.beats("one", 0)
    now += 2
    assert holder.living() == {"one"}


@pytest.mark.parametrize(
    ("nodes", "waiting", "again"), [("1:2", 1, True), ("1:2", 0, False), ("2", 1, False)], ids=str
)
def test_ranks_that_left_for_a_node_that_comes_start_again_and_others_do_not(
    monkeypatch: pytest.MonkeyPatch, nodes: str, waiting: int, again: bool
) -> None:
    """Another launcher has seen the node first: its ranks were asked to end, and these went with them."""
    left = RunResult(state=WorkerState.FAILED, failures={0: ProcessFailure(0, 1, 75, "none")})
    monkeypatch.setattr(LocalElasticAgent, "_monitor_workers", lambda *_: left)
    monkeypatch.setattr(agent.time, "sleep", lambda _: None)
    least, most = int(nodes[0]), int(nodes[-1])
    settings = SimpleNamespace(min_nodes=least, max_nodes=most)
    group: Any = SimpleNamespace(spec=SimpleNamespace(rdzv_handler=SimpleNamespace(settings=settings)))
    one = agent._Agent.__new__(agent._Agent)
    one._watch, one._lost, one._waiting, one._remaining_restarts = None, False, lambda: waiting, 3
    assert (one._monitor_workers(group).state is WorkerState.HEALTHY) == again
    assert one._remaining_restarts == (3 if again else 0)


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (WorkerState.HEALTHY, "a node joins: all ranks save, end, and start again with it\n"),
        (WorkerState.FAILED, ""),
    ],
)
def test_ranks_that_are_asked_to_end_for_a_node_that_joins_are_told_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], state: WorkerState, told: str
) -> None:
    monkeypatch.setattr(LocalElasticAgent, "_restart_workers", lambda *_: None)
    group: Any = SimpleNamespace(state=state)
    agent._Agent._restart_workers(agent._Agent.__new__(agent._Agent), group)
    assert capsys.readouterr().err == told


@pytest.mark.parametrize(("restarts", "told"), [(3, "MAX_RESTARTS starts nothing again without it"), (0, "")])
def test_restarts_that_the_node_where_all_meet_took_along_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], restarts: int, told: str
) -> None:
    ended = RunResult(state=WorkerState.FAILED, failures={0: ProcessFailure(0, 1, 69, "none")})
    monkeypatch.setattr(LocalElasticAgent, "_monitor_workers", lambda *_: ended)
    group: Any = SimpleNamespace(spec=SimpleNamespace(max_restarts=restarts))
    one = agent._Agent.__new__(agent._Agent)
    one._watch, one._lost, one._remaining_restarts = None, True, 0
    one._monitor_workers(group)
    error = capsys.readouterr().err
    assert told in error
    assert bool(error) == bool(told)


class Barrier:
    """A launcher whose ranks are done, as one of two, while the other lives until it was asked so often."""

    def __init__(self, store: Store, lives: int) -> None:
        self.asked, self.lives, self.store = 0, lives, store
        self._worker_group = SimpleNamespace(store=store, group_world_size=2)
        self._watch = self

    def gone(self) -> str | None:
        self.asked += 1
        return "it has gone" if self.asked > self.lives else None


def test_ranks_of_other_nodes_are_waited_for_while_these_live(
    monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    monkeypatch.setattr(agent.time, "sleep", lambda _: None)
    one: Any = Barrier(store, lives=5)
    agent._Agent._exit_barrier(one)
    assert one.asked == 6
    other: Any = Barrier(store, lives=5)  # the second to come
    agent._Agent._exit_barrier(other)
    assert other.asked == 0


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (rendezvous.RendezvousTimeoutError(), "the nodes did not come together: too few came in time"),
        (rendezvous.RendezvousClosedError(), "the nodes did not come together: the run has ended on another"),
        (rendezvous.RendezvousConnectionError("a\nb"), "the nodes did not come together: the node where all"),
        (
            rendezvous.RendezvousStateError("a\nb"),
            "the nodes did not come together: RendezvousStateError: a b",
        ),
        (DistNetworkError("a\nb"), "the nodes did not come together: DistNetworkError: a b"),
        (agent._GoneError("node1 has gone"), "node1 has gone; see the other nodes' logs"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_nodes_that_miss_each_other_say_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    def fails(_: list[str]) -> None:
        raise error

    monkeypatch.setattr(agent, "main", fails)
    monkeypatch.setattr(agent.api, "LocalElasticAgent", None)
    monkeypatch.setattr(agent, "compare_no_clocks", lambda: None)
    monkeypatch.setattr(agent.logging, "disable", lambda: None)
    status, line = agent.run([])
    assert status == 69
    assert line is not None
    assert line.startswith(told)
    assert line.endswith("; see the other nodes' logs")
