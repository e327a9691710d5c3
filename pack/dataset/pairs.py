"""Pairs as a dataset gives them: whole, or damaged."""

from dataclasses import dataclass

from recon.base.errors import UserError


@dataclass(frozen=True, kw_only=True)
class StoredPair:
    """A pair as it lies in a shard, its CRC checked."""

    key: str
    url: str
    """Of its shard's tar."""
    group: str
    pair_id: int
    members: dict[str, bytes]
    """Payloads by ``real.EXT``, ``fake.EXT`` and ``json`` (if there is one), whatever the tar calls them."""

    @property
    def real(self) -> bytes:
        """The real image's file."""
        return next(data for field, data in self.members.items() if field.startswith("real."))

    @property
    def fake(self) -> bytes:
        """The reconstruction's file."""
        return next(data for field, data in self.members.items() if field.startswith("fake."))


@dataclass(frozen=True, kw_only=True)
class DamagedPair:
    """A pair that lies in the storage in no usable state."""

    key: str
    url: str
    """Of its shard's tar."""
    cause: str
    """What is wrong, in words that group: ``CRC-32 differs``."""


def sound(pair: StoredPair | DamagedPair) -> StoredPair:
    """The pair, where none may be left out.

    Raises:
        UserError: it is damaged.
    """
    if isinstance(pair, DamagedPair):
        raise UserError(
            f"{pair.url}: {pair.key} is damaged ({pair.cause}); "
            "run python -m pack.verify, then restore the shard"
        )
    return pair
