"""Whether a node may join a run: it expects the same of it as the others, and its place in it is free.

torch's nodes compare nothing. Of nodes that were told different numbers, the first that thinks they are all
there begins; a node too many waits without a word. Here each writes what it was told into the store where all
meet, and is held against the first one.
"""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from torch.distributed.elastic.rendezvous import dynamic_rendezvous

_PREFIX, _FIRST = "pairstream/nodes", "pairstream/first-node"
_REFUSED = "pairstream/refused"
_JOIN: Any = dynamic_rendezvous._RendezvousJoinOp
_ACTION: Any = dynamic_rendezvous._Action
_DROPPED = timedelta(seconds=20)
"""After it torch's nodes have surely dropped a dead one, which takes 15 s and one more look."""
_LAST_CALL = timedelta(seconds=10)
"""Where nodes meet again: how long enough nodes wait for more."""
_EQUAL = {"nodes": "NNODES", "processes": "NPROC_PER_NODE"}  # of all nodes; by the user's names


class NotAdmittedError(Exception):
    """A node can't take part; the text says why.

    Args:
        text: what was expected, what was found, and what to do.
        status: to exit with: 2 if another start would end the same way, 69 if it may not.
    """

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a node was told of the run, and who it is."""

    node: str
    """In torch's words: address, process number and a counter."""
    host: str
    nodes: str
    processes: int
    number: int | None
    """Its number among the nodes; None if they find their order where they meet."""


class Admission:
    """A node's way into a run.

    Args:
        store: of torch, in which the nodes of all starts of this run meet.
        handler: of torch's rendezvous.
        mine: what this node was told.
    """

    def __init__(self, store: Any, handler: Any, mine: Told) -> None:
        self._store, self._handler, self._mine = store, handler, mine
        self._run = handler.get_run_id()
        self._beats: dict[Any, datetime] = {}
        self._alive: set[Any] = set()

    def enter(self) -> None:
        """Writes down what this node was told; from now on torch asks `decide` whether it may join.

        Raises:
            NotAdmittedError: the first node was told something else. Nodes that wait learn it too.
        """
        told = json.dumps(asdict(self._mine))
        arrival = self._store.add(f"{_PREFIX}/{self._run}", 1)
        self._store.set(f"{_PREFIX}/{self._run}/{arrival}", told)
        dynamic_rendezvous._RendezvousJoinOp = partial(_Join, self)  # type: ignore[misc, assignment]
        first = Told(**json.loads(self._store.compare_set(f"{_FIRST}/{self._run}", "", told)))
        for name, variable in _EQUAL.items():
            ours, theirs = getattr(self._mine, name), getattr(first, name)
            if ours != theirs:
                text = (
                    f"{variable}={ours} on {self._mine.host}, but {variable}={theirs} on {first.host}, "
                    "expected the same on all nodes of a run"
                )
                self._refuse_all(text)
                raise NotAdmittedError(text, 2)

    def refused(self) -> str | None:
        """Why the run was ended before it began; None if another node has not ended it so."""
        key = f"{_REFUSED}/{self._run}"
        return self._store.get(key).decode() if self._store.check([key]) else None

    def decide(self, node: Any, state: Any, action: Any) -> Any:
        """Looks at what torch is about to do for this node; returns what it is to do.

        Raises:
            NotAdmittedError: the node's number is another one's, or there are enough nodes without it.
        """
        if action is _ACTION.ADD_TO_PARTICIPANTS and (rivals := self._rivals(state.last_heartbeats)):
            self._refuse_if_alive(rivals, state, self._taken)
            return _ACTION.SYNC
        if action is _ACTION.FINISH and (rivals := self._rivals(state.participants)):
            raise NotAdmittedError(self._taken(rivals), 2)
        if node in state.redundancy_list:
            rivals = self._rivals(state.participants)
            say = self._taken if rivals else self._too_many
            self._refuse_if_alive(rivals or list(state.participants), state, say)
        return action

    def leave_alone(self) -> None:
        """Keeps torch from closing the run for the nodes that are in it when this one ends."""
        self._handler.shutdown = lambda: True

    def _refuse_if_alive(self, others: list[Any], state: Any, say: Callable[[list[Any]], str]) -> None:
        """Refuses once all of these nodes have shown that they live.

        They write into the state every 5 s; dead ones are removed from it after 15 s.
        """
        for other in others:
            beat = state.last_heartbeats.get(other)
            if beat is not None and self._beats.setdefault(other, beat) != beat:
                self._alive.add(other)
        if others and self._alive.issuperset(others):
            self.leave_alone()
            raise NotAdmittedError(say(others), os.EX_UNAVAILABLE)

    def _rivals(self, nodes: Any) -> list[Any]:
        """Those of torch's nodes that have this one's number."""
        if self._mine.number is None:
            return []
        same = {one.node for one in self._told() if one.number == self._mine.number} - {self._mine.node}
        return [node for node in nodes if repr(node) in same]

    def _told(self) -> Iterator[Told]:
        """What the nodes were told, in the order of coming."""
        for arrival in range(1, self._store.add(f"{_PREFIX}/{self._run}", 0) + 1):
            key = f"{_PREFIX}/{self._run}/{arrival}"
            if self._store.check([key]):  # else it was killed before it wrote; `get` would wait for it
                yield Told(**json.loads(self._store.get(key)))

    def _refuse_all(self, text: str) -> None:
        """Ends the run for the nodes that wait; one that trains is left alone."""
        with self._handler._heartbeat_lock:
            self._handler._state_holder.sync()
            begun = self._handler._state_holder.state.complete
        if begun:
            self.leave_alone()
        else:
            self._store.set(f"{_REFUSED}/{self._run}", text)
            self._handler.set_closed()

    def _hosts(self, nodes: list[Any]) -> str:
        hosts = {one.node: one.host for one in self._told()}
        return ", ".join(sorted(hosts.get(repr(node), node.addr) for node in nodes))

    def _taken(self, rivals: list[Any]) -> str:
        return (
            f"{self._mine.host} is node {self._mine.number} of {self._mine.nodes}, but so is "
            f"{self._hosts(rivals)}, expected one node of each number; end that one or correct a number"
        )

    def _too_many(self, others: list[Any]) -> str:
        return (
            f"NNODES={self._mine.nodes}, and as many nodes run as RDZV_ID={self._run} already "
            f"({self._hosts(others)}), expected no other; end those, raise NNODES on all nodes, or give this "
            "run an RDZV_ID and RDZV_ENDPOINT of its own"
        )


def meet_again(settings: Any, rejoin_s: float) -> None:
    """From now on nodes wait less for each other: whoever is to come again is there already.

    At most 45 s until a silent node is missed, 60 s here, and the last call: a run of MIN:MAX nodes goes on
    within two minutes of a death.

    Args:
        settings: of torch's rendezvous.
        rejoin_s: see `recon.launcher.watch.Patience`. Where one node more or less is no matter, it is at
            least the time after which a dead node is out of the way.
    """
    join = timedelta(seconds=rejoin_s)
    if settings.min_nodes < settings.max_nodes:
        join = max(join, _DROPPED)
    settings.timeout._set_timeouts(join=join, last_call=min(settings.timeout.last_call, _LAST_CALL))


class _Join:
    """torch's way of joining, which an `Admission` may stop.

    torch has its last call, for more nodes than are needed, end within the time to join; here it follows it.
    """

    def __init__(self, admission: Admission) -> None:
        self._admission, self._join = admission, _JOIN()

    def __call__(self, ctx: Any, deadline: float) -> Any:
        if ctx.node in ctx.state.participants and ctx.state.deadline:  # there are enough nodes
            deadline += ctx.settings.timeout.last_call.total_seconds() + 2  # and a look each second
        return self._admission.decide(ctx.node, ctx.state, self._join(ctx, deadline))
