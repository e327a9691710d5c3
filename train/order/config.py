"""The options of the order of an epoch."""

from dataclasses import dataclass

from recon.base.errors import UserError
from recon.base.options import at_least_one


@dataclass(frozen=True, kw_only=True)
class OrderConfig:
    """The order of an epoch: together with the manifest and the seed it fixes every step."""

    global_batch: int = 64
    """Pairs per optimiser step over all ranks; a multiple of the world size."""
    lanes: int = 192
    """Readers that work side by side; a multiple of the world size. More lanes mix better."""
    block: int = 16
    """Pairs read together from one shard; 1 is taken where an epoch has fewer than lanes x block pairs."""
    window: int = 3
    """Successive blocks of a lane that are shuffled together: the shuffle window. A rank holds
    lanes / world size x window x block payloads."""
    seed: int = 0
    """Seed of the order, the augmentation draws and the dropout."""

    def __post_init__(self) -> None:
        at_least_one(self, "global_batch", "lanes", "block", "window", group="order.")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"order.seed={self.seed}, expected 0 <= seed < 2**63")
