"""Pairs as a dataset gives them: whole, or damaged."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pack.shard.hints import Hint
from recon.base.errors import UserError

if TYPE_CHECKING:
    from pack.dataset.partly import Ranged


@dataclass(frozen=True, kw_only=True)
class StoredPair:
    """A pair as it is stored in a shard; its CRCs were right."""

    key: str
    url: str
    """Of its shard's tar."""
    group: str
    pair_id: int
    members: dict[str, bytes]
    """Payloads by ``real.EXT``, ``fake.EXT``, ``json`` (if there is one) and, where there are such,
    ``fake2.EXT`` and so on, and ``mask.png``, even where an adopted tar has other names for them. Where one
    of several fakes was asked for, it alone is here, as ``fake.EXT``."""
    ranged: Mapping[str, "Ranged"] = field(default_factory=dict)
    """Members that are not read yet, of a dataset that was opened with ``partly``; `members` lacks them."""
    fake_number: int = 0
    """Which of several fakes `fake` is, from 0."""
    hints: Mapping[str, Hint] = field(default_factory=dict)
    """By ``real``, ``fake`` and, where all fakes were asked for, ``fake2`` and so on. Empty where nobody
    asked for hints, or the dataset has none."""

    @property
    def real(self) -> bytes:
        """The real image's file."""
        return next(data for field, data in self.members.items() if field.startswith("real."))

    @property
    def fake(self) -> bytes:
        """The (first) reconstruction's file."""
        return next(data for field, data in self.members.items() if field.startswith("fake."))

    @property
    def fakes(self) -> list[bytes]:
        """The files of all reconstructions."""
        return [data for field, data in self.members.items() if field.startswith("fake")]


@dataclass(frozen=True, kw_only=True)
class DamagedPair:
    """A pair that the storage holds, but not in a usable state."""

    key: str
    url: str
    """Of its shard's tar."""
    cause: str
    """What is wrong, in words that are the same for all pairs of this cause: ``CRC-32 of real differs``."""


Pairs = list[StoredPair | DamagedPair]


def sound(pair: StoredPair | DamagedPair) -> StoredPair:
    """The pair itself, for callers that may not leave one out.

    Raises:
        UserError: it is damaged.
    """
    if isinstance(pair, DamagedPair):
        raise UserError(
            f"{pair.url}: {pair.key} is damaged ({pair.cause}); "
            "run python -m pack.verify, then restore the shard"
        )
    return pair
