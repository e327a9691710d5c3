"""Lets torchrun find out that a node is dead without comparing the clocks of two nodes.

Its nodes write the time of day into the state where they meet, and each takes those for dead whose time lies
15 seconds back. If clocks differ by more, nodes that live are left out, and train in worlds of their own.
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

from torch.distributed.elastic.rendezvous import dynamic_rendezvous

_HOLDER: Any = dynamic_rendezvous._BackendRendezvousStateHolder
_SANITIZE = _HOLDER._sanitize


def compare_no_clocks() -> None:
    """From now on a node counts as dead if what it writes has not changed for 15 seconds of this clock."""
    _HOLDER._sanitize = _sanitize


def _sanitize(holder: Any) -> None:
    """Shows torch, for each node, the time at which its last sign of life was seen here."""
    seen: dict[Any, tuple[datetime, float]] = holder.__dict__.setdefault("seen_here", {})
    beats, now = holder._state.last_heartbeats, time.monotonic()
    for node, beat in beats.items():
        if seen.get(node, (None,))[0] != beat:
            seen[node] = beat, now
        beats[node] = datetime.now(UTC) - timedelta(seconds=now - seen[node][1])
    _SANITIZE(holder)
    for node in beats:
        beats[node] = seen[node][0]
