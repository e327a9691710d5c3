"""Compares what the ranks of a run were given, before anything depends on it.

Each node has a command line and files of its own. With different ones the ranks would train different
things together without a word, or fail late, each in its own way.
"""

import hashlib
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from recon.base.errors import UserError
from train.world.world import World

_SHOWN = 4  # ranks, hosts or options that are named


def refuse_unlike(world: World, mine: Mapping[str, Any], *, what: str) -> None:
    """Refuses facts that differ between the ranks; all ranks call it, and all or none raise.

    Each sends a hash of 32 bytes, and the facts only if the hashes differ. One process sends nothing.

    Args:
        world: the ranks.
        mine: what this rank was given, by name; compared as Python writes it.
        what: has to be the same, e.g. ``options``.

    Raises:
        UserError: with the same text on all ranks: name, both values, ranks and hosts.
    """
    if world.size == 1:
        return
    facts = {name: repr(value) for name, value in mine.items()}
    digest = hashlib.sha256(repr(sorted(facts.items())).encode(errors="surrogatepass")).digest()
    if len(set(world.gather_objects(digest))) > 1:
        raise UserError(_told(world.gather_objects((socket.gethostname(), facts)), what))


def _told(found: Sequence[tuple[str, dict[str, str]]], what: str) -> str:
    """The line about what differs from rank 0; `found` holds host and facts of each rank, in their order."""
    names = list(dict.fromkeys(name for _, facts in found for name in facts))
    unlike = [name for name in names if len({facts.get(name) for _, facts in found}) > 1]
    name = unlike[0]
    expected = found[0][1].get(name)
    other = next(facts.get(name) for _, facts in found if facts.get(name) != expected)
    ranks = [rank for rank, (_, facts) in enumerate(found) if facts.get(name) == other]
    where = f"{'rank' if len(ranks) == 1 else 'ranks'} {_few([str(rank) for rank in ranks])}"
    hosts = _few(list(dict.fromkeys(found[rank][0] for rank in ranks)))
    more = f"; {_few(unlike[1:])} differ{'s' * (len(unlike) == 2)} too" if unlike[1:] else ""
    return (
        f"{name}={other} on {where} ({hosts}), but {name}={expected} on rank 0 ({found[0][0]}){more}; "
        f"expected the same {what} on all nodes of a run"
    )


def _few(texts: Sequence[str]) -> str:
    left = len(texts) - _SHOWN
    return ", ".join(texts[:_SHOWN]) + (f" and {left} more" if left > 0 else "")
