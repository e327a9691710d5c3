"""The processes that evaluate together, as far as the evaluation needs to know of them."""

from dataclasses import dataclass
from typing import Any, Protocol


class Ranks(Protocol):
    """This process's place among them; `train.world.world.World` is one."""

    @property
    def rank(self) -> int:
        """Its number, from 0."""

    @property
    def size(self) -> int:
        """How many there are."""

    @property
    def local_rank(self) -> int:
        """Its number among those of this machine."""

    @property
    def local_size(self) -> int:
        """How many there are on this machine."""

    def gather_objects(self, mine: Any) -> list[Any]:
        """The objects of all, in the order of the ranks."""


@dataclass(frozen=True, kw_only=True)
class Alone:
    """One process."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    def gather_objects(self, mine: Any) -> list[Any]:
        """See `Ranks`."""
        return [mine]


ALONE = Alone()
