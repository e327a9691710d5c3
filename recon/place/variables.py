"""Environment variables that hold numbers, and what is said of those that don't."""

import re
from collections.abc import Mapping

from recon.base.errors import UserError


class Variables:
    """The variables that are set; an empty one counts as not set.

    Args:
        environ: the environment variables of a process.
        hint: what to do about a wrong one: the end of each complaint.
    """

    def __init__(self, environ: Mapping[str, str], hint: str) -> None:
        self._set = {name: value for name, value in environ.items() if value}
        self._hint = hint

    def __contains__(self, name: str) -> bool:
        return name in self._set

    def get(self, name: str) -> str | None:
        """The value of a variable, or None."""
        return self._set.get(name)

    def first(self, *names: str) -> str | None:
        """The first of these variables that is set: its name, or None."""
        return next((name for name in names if name in self), None)

    def number(self, name: str | None, default: int | None = None) -> int:
        """A variable's value as a number.

        Raises:
            UserError: it is not a number; or it is not set, and there is no default.
        """
        value = self._set.get(name or "")
        if value is None:
            if default is None:
                raise self.complaint(f"{name} is not set, expected a number")
            return default
        try:
            return int(value)
        except ValueError:
            raise self.complaint(f"{name}={value!r}, expected a number") from None

    def port(self, name: str, default: int | None = None) -> int:
        """A variable's value as the number of a port.

        Raises:
            UserError: see `number`; or there is no such port.
        """
        found = self.number(name, default)
        if not 0 <= found < 1 << 16:
            raise self.complaint(f"{name}={found}, expected a port, below 65536")
        return found

    def place(self, rank: str, size: str | None) -> tuple[int, int]:
        """The values of two variables, of which the first counts from 0 to below the second.

        Raises:
            UserError: one of them is no number or not set, or the two contradict each other.
        """
        found = self.number(rank), self.number(size)
        if not 0 <= found[0] < found[1]:
            raise self.complaint(f"{rank}={found[0]} and {size}={found[1]}, expected 0 <= rank < size")
        return found

    def agreed(self, own: str, theirs: str) -> str | None:
        """The value of two variables that mean the same.

        Raises:
            UserError: both are set, to different values.
        """
        mine, other = self.get(own), self.get(theirs)
        if mine and other and mine != other:
            raise self.complaint(f"{own}={mine}, but {theirs}={other}, expected the same; unset one")
        return mine or other

    def complaint(self, text: str) -> UserError:
        """An error about the variables; the text ends with the hint."""
        return UserError(f"{text}; {self._hint}")


def node_range(v: Variables) -> tuple[int, int] | None:
    """The smallest and the largest number of nodes, which are equal unless nodes may come and go.

    Raises:
        UserError: NNODES is neither a number nor MIN:MAX, or torchrun's own PET_NNODES says something else.
    """
    told = v.agreed("NNODES", "PET_NNODES")
    if told is None:
        return None
    found = re.fullmatch(r"([1-9]\d{0,5})(?::([1-9]\d{0,5}))?", told)
    least, most = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
    if least > most:
        raise v.complaint(f"NNODES={told}, expected a number of nodes, or MIN:MAX")
    return least, most


def several_nodes(v: Variables) -> str | None:
    """``NNODES=2`` as it was told, where there may be more than one node; else None.

    Raises:
        UserError: see `node_range`.
    """
    name, told = v.first("NNODES", "PET_NNODES"), node_range(v)
    return f"{name}={v.get(name or '')}" if told and told[1] > 1 else None
