"""What a manifest says of one shard."""

import re
from dataclasses import dataclass

from recon.base.errors import UserError
from recon.base.paths import is_plain_name

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class ShardEntry:
    """One shard of a dataset."""

    name: str
    """Name of its files without suffix: NAME.tar and NAME.parquet."""
    pairs: int
    bytes: int
    """Size of the tar."""
    sha256: str
    """SHA-256 of the tar."""
    index_sha256: str


def check_entry(shard: ShardEntry, where: str) -> None:
    """Refuses names that, as parts of paths, would lead into other folders of the storage or the cache."""
    if not is_plain_name(shard.name):
        raise UserError(
            f"{where}: shard {shard.name!r}, expected a plain name such as shard-000000; "
            "pack the dataset again"
        )
    if not (isinstance(shard.sha256, str) and _SHA256.fullmatch(shard.sha256)):
        raise UserError(
            f"{where}: shard {shard.name} has sha256 {shard.sha256!r}, expected 64 hexadecimal digits; "
            "pack the dataset again"
        )
