"""The degradations of training: chains of operations with their probabilities.

    degrade:
      - p: 0.2
        chain: [{resize: {factor: {from: 0.3, to: 1}, resampler: any}}, {jpeg: {quality: {from: 30, to: 95}}}]
      - {p: 0.1, view: 2, chain: [{webp: {quality: {from: 40, to: 95}}}]}

Of the chains that apply to a view at most one happens to a pair.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from recon.base.errors import UserError
from train.chains.declared import OPS
from train.chains.parameters import largest
from train.chains.parse import Step, parse_step

MOST_SIDE = 4096
"""No operation makes a side longer than this, in pixels: a decoding thread holds 100 MB of a pair at most."""
_LEAST_SIDE = 64
"""An image of this size stays whole, whatever the chain."""


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Operations that happen together."""

    p: float
    """Probability."""
    steps: tuple[Step, ...]
    """In this order."""
    view: int | None = None
    """The view of a pair, from 1, that it is for; None: each view."""

    def reach(self, side: int) -> int:
        """The longest side, in pixels, of what the operations make of an image with this longer side."""
        most = side
        for step in self.steps:
            op = OPS[step.op]
            most_of = {word: largest(step.values[word], one) for word, one in op.parameters.items()}
            side = op.reach(side, most_of)
            most = max(most, side)
        return most

    def region(self, side: int) -> int:
        """The side in pixels of the part of an image that goes through the chain; larger images are cut.

        Args:
            side: what the recipe asks for; 0 asks for the whole image, or as much as `MOST_SIDE` allows.
        """
        side = min(side or MOST_SIDE, MOST_SIDE)
        if self.reach(side) > MOST_SIDE:
            side = side * MOST_SIDE // self.reach(side)
            while self.reach(side) > MOST_SIDE:  # sides are rounded after each operation
                side -= 1
        return side


def parse_chains(given: Sequence[Any], where: str) -> tuple[Chain, ...]:
    """The chains that a recipe lists.

    Args:
        given: what the YAML holds.
        where: its place, for messages.

    Raises:
        UserError: it holds something else, or the probabilities of a view add up to more than 1.
    """
    chains = tuple(_chain(one, f"{where}[{number}]") for number, one in enumerate(given))
    for view in {one.view for one in chains}:
        total = sum(one.p for one in chains if one.view in (None, view))
        if total > 1 + 1e-9:
            of_view = "" if view is None else f" of view {view}"
            raise UserError(f"{where}: the probabilities{of_view} add up to {total:g}, expected at most 1")
    return chains


def _chain(given: Any, where: str) -> Chain:
    if not isinstance(given, dict) or not {"p", "chain"} <= set(given) <= {"p", "chain", "view"}:
        raise UserError(f"{where}={given!r}, expected {{p: .2, chain: [...]}}, and perhaps a view")
    p, view, listed = given["p"], given.get("view"), given["chain"]
    if isinstance(p, bool) or not isinstance(p, int | float) or not 0 <= p <= 1:
        raise UserError(f"{where}: p={p!r}, expected a probability in [0, 1]")
    if view is not None and (isinstance(view, bool) or not isinstance(view, int) or view < 1):
        raise UserError(f"{where}: view={view!r}, expected the number of a view, from 1")
    if not isinstance(listed, list) or not listed:
        raise UserError(f"{where}: expected a list of operations, found {listed!r}")
    chain = Chain(p=float(p), view=view, steps=tuple(_fixed(one, where) for one in listed))
    if chain.reach(_LEAST_SIDE) > MOST_SIDE:
        raise UserError(
            f"{where}: its operations may turn {_LEAST_SIDE} pixels into {chain.reach(_LEAST_SIDE)}, "
            f"expected at most {MOST_SIDE}"
        )
    return chain


def _fixed(given: Any, where: str) -> Step:
    """A step in which nothing is swept."""
    op, sweeps = parse_step(given, where)
    if swept := [word for word, values in sweeps.items() if len(values) > 1]:
        raise UserError(
            f"{where}, {op}, {swept[0]}: a list is for the cells of a robustness grid; expected one value, "
            "{from: LOW, to: HIGH}, or any"
        )
    return Step(op=op, values={word: value for word, [value] in sweeps.items()})
