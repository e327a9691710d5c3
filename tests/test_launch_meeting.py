"""Nodes that can't meet: each says what it expected, what it found and what to do, and in time."""

import itertools
import socket
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from launched import launched, until
from ports import free_ports
from torch.distributed import TCPStore
from torch.distributed.elastic.rendezvous import dynamic_rendezvous as torchs
from torch.distributed.elastic.rendezvous.api import RendezvousTimeoutError
from torch.distributed.elastic.rendezvous.c10d_rendezvous_backend import C10dRendezvousBackend

from recon.launcher.admission import Admission, NotAdmittedError, Told, meet_again
from recon.place.node import find_node

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="needs the parent death signal of Linux"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


def nodes(port: int, *told: str) -> list[dict[str, str]]:
    """The options of torchrun on nodes of this machine, of which the first keeps the rendezvous."""
    shared = {"nproc_per_node": "1", "rdzv_id": "a", "rdzv_backend": "c10d"}
    shared["rdzv_endpoint"] = f"127.0.0.1:{port}"
    return [
        shared | {"nnodes": count, "rdzv_conf": f"is_host={int(node == 0)},last_call_timeout=1"}
        for node, count in enumerate(told)
    ]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"nnodes": "3"}, ("NNODES=3", "NNODES=2")),
        ({"nnodes": "2:3"}, ("NNODES=2:3", "NNODES=2")),
        ({"nproc_per_node": "2"}, ("NPROC_PER_NODE=2", "NPROC_PER_NODE=1")),
    ],
)
def test_nodes_that_were_told_different_numbers_all_refuse(
    tmp_path: Path, more: dict[str, str], told: tuple[str, str]
) -> None:
    first, second = nodes(*free_ports(1), "2", "2")
    with (
        launched("wait", tmp_path, "a", **first) as one,
        launched("wait", tmp_path, "b", **second | more) as other,
    ):
        ends = one.ended(), other.ended()
        assert not one.started()
    assert [status for status, _ in ends] == [2, 2]
    said = [[line for line in lines if line.startswith("error: ")] for _, lines in ends]
    assert said[0] == said[1]
    # Whoever comes first is what the others are held against.
    host = socket.gethostname()
    texts = [f"{mine} on {host}, but {theirs} on {host}" for mine, theirs in itertools.permutations(told)]
    assert said[0] in [[f"error: {text}, expected the same on all nodes of a run"] for text in texts]


def test_a_node_too_many_says_so_and_leaves_the_others_alone(tmp_path: Path) -> None:
    first, second, third = nodes(*free_ports(1), "2", "2", "2")
    with launched("wait", tmp_path, "a", **first) as one, launched("wait", tmp_path, "b", **second) as other:
        until(lambda: len(one.started()) == 2)
        with launched("wait", tmp_path, "c", **third) as late:
            status, lines = late.ended()
            assert one.process.is_alive()
            (tmp_path / "asked").touch()  # before the end of the block, which kills all that started here
            assert {one.ended()[0], other.ended()[0]} == {75}
        assert one.started(1) == []
    host = socket.gethostname()
    told = f"error: NNODES=2, and as many nodes run as RDZV_ID=a already ({host}, {host}), expected no other"
    assert status == 69
    (only,) = (line for line in lines if line.startswith("error: "))
    assert only.startswith(told)


class Handler:
    """The parts of torch's handler that an admission uses."""

    def __init__(self, complete: bool = False) -> None:
        self._heartbeat_lock, self.closed = threading.Lock(), False
        self._state_holder = SimpleNamespace(sync=lambda: None, state=SimpleNamespace(complete=complete))
        self.shutdown: Any = self.set_closed

    def get_run_id(self) -> str:
        return "job"

    def set_closed(self) -> None:
        self.closed = True


@pytest.fixture
def store() -> TCPStore:
    return TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


@pytest.fixture(autouse=True)
def _torchs_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchs, "_RendezvousJoinOp", torchs._RendezvousJoinOp)


def entered(store: TCPStore, pid: int, number: int | None, nodes: str = "2", complete: bool = False) -> Any:
    node = torchs._NodeDesc("node", pid, 0)
    told = Told(node=repr(node), host=f"host{pid}", nodes=nodes, processes=1, number=number)
    admission = Admission(store, handler := Handler(complete), told)
    admission.enter()
    return SimpleNamespace(node=node, admission=admission, handler=handler)


def test_a_number_that_a_living_node_has_is_refused_and_that_of_a_dead_one_is_taken_over(
    store: TCPStore,
) -> None:
    one, again = entered(store, 1, 1), entered(store, 2, 1)
    state = torchs._RendezvousState()
    state.last_heartbeats[one.node] = beat = datetime.now(UTC)
    add, sync = torchs._Action.ADD_TO_PARTICIPANTS, torchs._Action.SYNC
    assert one.admission.decide(one.node, state, add) is add
    assert again.admission.decide(again.node, state, add) is sync  # nobody knows yet
    state.last_heartbeats[one.node] = beat + timedelta(seconds=5)
    with pytest.raises(NotAdmittedError) as refusal:
        again.admission.decide(again.node, state, add)
    assert str(refusal.value) == (
        "host2 is node 1 of 2, but so is host1, expected one node of each number; end that one or correct a "
        "number"
    )
    again.handler.shutdown()
    assert (refusal.value.status, again.handler.closed) == (69, False)
    third = entered(store, 3, 1)
    assert third.admission.decide(third.node, state, add) is sync
    del state.last_heartbeats[one.node]
    assert third.admission.decide(third.node, state, add) is add


@pytest.mark.parametrize(
    ("number", "told"), [(1, "host3 is node 1 of 2, but so is host2"), (None, "NNODES=2")]
)
def test_a_node_that_a_full_run_has_no_place_for_says_whose_it_is(
    store: TCPStore, number: int | None, told: str
) -> None:
    both = entered(store, 1, number and 0), entered(store, 2, number)
    late, state = entered(store, 3, number), torchs._RendezvousState()
    state.complete, state.redundancy_list = True, {late.node}
    for second in (0, 5):
        for rank, each in enumerate(both):
            state.participants[each.node] = rank
            state.last_heartbeats[each.node] = datetime(2026, 11, 30, 12, 0, second, tzinfo=UTC)
        if not second:
            assert late.admission.decide(late.node, state, torchs._Action.SYNC) is torchs._Action.SYNC
    with pytest.raises(NotAdmittedError, match=told) as refusal:
        late.admission.decide(late.node, state, torchs._Action.SYNC)
    assert refusal.value.status == 69


def test_two_new_nodes_of_one_number_are_a_mistake(store: TCPStore) -> None:
    both = entered(store, 1, 1, "3"), entered(store, 2, 1, "3"), entered(store, 3, 0, "3")
    state = torchs._RendezvousState()
    state.participants = {each.node: rank for rank, each in enumerate(both)}
    for each in both[:2]:
        with pytest.raises(NotAdmittedError, match=r"is node 1 of 3, but so is host") as refusal:
            each.admission.decide(each.node, state, torchs._Action.FINISH)
        assert refusal.value.status == 2
    assert both[2].admission.decide(both[2].node, state, torchs._Action.FINISH) is torchs._Action.FINISH


def test_a_wrong_node_that_comes_late_does_not_end_a_run(store: TCPStore) -> None:
    first = entered(store, 1, None)
    with pytest.raises(NotAdmittedError, match="NNODES=3 on host2, but NNODES=2 on host1"):
        entered(store, 2, None, nodes="3", complete=True)
    assert first.admission.refused() is None
    store.add("pairstream/nodes/job", 1)  # of a node that was killed before it wrote anything
    entered(store, 4, None)


def meeting(store: TCPStore, nodes: tuple[int, int], **timeouts: float) -> Any:
    """torch's own rendezvous, on one node, admitted."""
    limits = {name: timedelta(seconds=value) for name, value in timeouts.items()}
    found = torchs.DynamicRendezvousHandler.from_backend(
        "a", store, C10dRendezvousBackend(store, "a"), *nodes, timeout=torchs.RendezvousTimeout(**limits)
    )
    told = Told(node=repr(found._this_node), host="host", nodes="1:2", processes=1, number=None)
    Admission(store, found, told).enter()
    return found


def test_the_last_call_for_more_nodes_may_end_after_the_time_to_join(store: TCPStore) -> None:
    one = meeting(store, (1, 2), join=0.5, last_call=1)
    assert one.next_rendezvous().world_size == 1
    one.shutdown()


def test_too_few_nodes_wait_for_no_last_call(store: TCPStore) -> None:
    one = meeting(store, (2, 3), join=0.5, last_call=60)
    with pytest.raises(RendezvousTimeoutError):
        one.next_rendezvous()


@pytest.mark.parametrize("rejoin_s", [1, 30, 60])
def test_nodes_that_may_go_on_without_a_dead_one_wait_until_it_is_dropped(
    store: TCPStore, rejoin_s: int
) -> None:
    default = find_node({}, together=True)
    for count in ((1, 2), (2, 2)):
        settings = meeting(store, count).settings
        meet_again(settings, rejoin_s)
        join, last_call = settings.timeout.join.total_seconds(), settings.timeout.last_call.total_seconds()
        dropped_s = (settings.keep_alive_interval * settings.keep_alive_max_attempt).total_seconds()
        assert join > dropped_s + 2 if count == (1, 2) else join == rejoin_s
        assert default.silence_s + join + last_call + 2 < 120  # a run ends or goes on in two minutes
    assert (default.silence_s, default.rejoin_s) == (45, 60)
