"""What a `FaultProxy` is to do: single faults, plans of several, and plans drawn from a seed."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

HeadKind = Literal[
    "status", "reset_head", "stall_head", "trickle_head", "cut_head", "refuse", "lost_reply", "replace"
]
BodyKind = Literal["reset", "close", "short", "short_range", "stall", "trickle", "flip"]
Kind = HeadKind | BodyKind
BODY_KINDS: tuple[str, ...] = get_args(BodyKind)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One kind of trouble.

    ``status``: an answer of that status instead of the server's. ``reset_head``: RST before any answer.
    ``stall_head``, ``stall``: silence before the answer, or from `offset` on. ``trickle_head``,
    ``trickle``: 8 bytes every 50 ms, for the answer's head or from `offset` on. ``refuse``: all
    connections end and new ones are refused. ``cut_head``: the connection ends within the answer's head,
    after `head` bytes, which Python's http.client takes for a whole one. ``lost_reply``: the server acts,
    its answer is lost. ``replace``: the object is replaced before the request goes on.

    ``reset``, ``close``: the body ends before `offset` by RST or as if it were whole. ``short``: so does its
    Content-Length; ``short_range``: and its Content-Range. ``flip``: the lowest bit of the byte at `offset`
    is inverted.
    """

    kind: Kind
    key: str = ""
    """End of the object's key."""
    offset: int | None = None
    """Byte of the object; requests that cover it are struck. None: any request, a body at its first byte."""
    times: int | None = 1
    """How often; None for ever."""
    seconds: float | None = None
    """How long a stall, trickle or refusal lasts; None for ever (a refusal: until `accept()`)."""
    status: int = 503
    head: int = 0
    """Bytes."""
    method: str = "GET"
    query: str = ""
    """Part of the URL's query, to tell requests of one method apart."""


@dataclass(frozen=True, kw_only=True)
class FaultPlan:
    """Faults of one run; its repr is what a test prints to be repeated."""

    faults: tuple[Fault, ...]
    seed: int | None = None

    @property
    def passing(self) -> bool:
        """Whether all faults are of the kinds that a reader survives, come at most twice and end soon."""
        return all(map(_passes, self.faults))

    @property
    def seconds(self) -> float:
        """How long all stalls, trickles and refusals last together, if each is sat out; inf if for ever."""
        return sum(
            float("inf") if fault.seconds is None or fault.times is None else fault.seconds * fault.times
            for fault in self.faults
            if _lasts(fault)
        )

    @property
    def strikes(self) -> float:
        """How many requests are struck at most; inf without bound."""
        return sum(float("inf") if fault.times is None else fault.times for fault in self.faults)


def _lasts(fault: Fault) -> bool:
    return fault.kind.startswith(("stall", "trickle")) or fault.kind == "refuse"


def _passes(fault: Fault) -> bool:
    if fault.kind == "replace" or (fault.kind == "status" and fault.status in (403, 404)):
        return False
    return fault.times is not None and fault.times <= 2 and not (_lasts(fault) and fault.seconds is None)


_PASSING: tuple[Kind, ...] = (
    *("status", "reset_head", "stall_head", "trickle_head", "cut_head", "refuse"),
    *("reset", "close", "short", "short_range", "stall", "trickle", "flip"),
)


def random_plan(
    seed: int,
    objects: Sequence[tuple[str, int]],
    *,
    passing: bool | None = None,
    strikes: int = 6,
    flips: bool = True,
) -> FaultPlan:
    """A plan that is a function of its arguments.

    Args:
        seed: of the draw.
        objects: (end of key, size in bytes) of those that may be struck.
        passing: whether the plan can be survived: no fault comes more than twice or lasts more than half a
            second; otherwise one fault comes for ever, refuses access or replaces the object. None: drawn.
        strikes: most requests struck by passing faults together, to stay below the reader's attempts.
        flips: whether bytes may be wrong, which only CRCs find.
    """
    kinds = [kind for kind in _PASSING if flips or kind != "flip"]
    draw = random.Random(seed)
    if passing is None:
        passing = draw.random() < 0.5
    faults: list[Fault] = []
    left = draw.randint(1, strikes)
    while left > 0:
        faults.append(_draw_fault(draw, objects, kinds, min(left, 2)))
        left -= faults[-1].times or 1
    if not passing:
        faults.append(_lasting(draw, _draw_fault(draw, objects, kinds, 1)))
    return FaultPlan(faults=tuple(faults), seed=seed)


def _draw_fault(
    draw: random.Random, objects: Sequence[tuple[str, int]], kinds: Sequence[Kind], most: int
) -> Fault:
    key, size = draw.choice(objects)
    kind = draw.choice(kinds)
    return Fault(
        kind=kind,
        key=key,
        offset=draw.randrange(size),
        times=1 if kind == "flip" else draw.randint(1, most),  # a byte wrong twice is damage at rest
        seconds=round(draw.uniform(0.05, 0.5), 2),
        status=draw.choice((429, 500, 503)),
        head=draw.randrange(500),
    )


def _lasting(draw: random.Random, fault: Fault) -> Fault:
    """The fault made one that its reader can't survive, but for chance (a short body may be caught up)."""
    if draw.random() < 0.3:
        return replace(fault, kind=draw.choice(("status", "replace")), status=403)
    offset = None if fault.kind == "trickle" else fault.offset  # the next request begins behind its offset
    return replace(fault, times=None, seconds=None, offset=offset)
