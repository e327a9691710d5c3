"""Which tars some datasets have, by the SHA-256 of their bytes."""

from collections.abc import Sequence

import numpy as np

from pack.shard.manifest import Manifest


class KnownTars:
    """Tells whether a tar is one of some datasets: ``sha256 in KnownTars([manifest])``.

    It keeps the first 64 bits of each SHA-256, 8 bytes: as texts, those of a million shards take 145 MB in
    each rank. It may take another tar for one of these, with a chance of one in 10**13 for a million shards.

    Args:
        manifests: of the datasets.
    """

    def __init__(self, manifests: Sequence[Manifest]) -> None:
        self._heads = np.sort(np.concatenate([np.zeros(0, np.uint64), *map(_heads, manifests)]))

    def __contains__(self, sha256: object) -> bool:
        """Whether a tar with this SHA-256, in hexadecimal digits, is among them."""
        try:
            head = np.uint64(int(str(sha256)[:16], 16))
        except ValueError:
            return False
        place = int(np.searchsorted(self._heads, head))
        return place < len(self._heads) and bool(self._heads[place] == head)


def _heads(manifest: Manifest) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    if manifest.tabled:
        return manifest.table.heads()
    return np.array([int(shard.sha256[:16], 16) for shard in manifest.shards], np.uint64)
