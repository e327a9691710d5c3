"""Keys, pair ids and splits: functions of a source path alone, so that every process gets the same."""

import hashlib
import os
import re
import unicodedata

from recon.base.paths import printable as printable


def make_key(path: str, tile: tuple[int, int] | None = None, variant: str = "") -> str:
    """The key of a pair: a readable slug and a hash of the source path.

    Args:
        path: path below the source folder, with ``/`` between its parts.
        tile: (y, x) of the tile's top left corner in the photograph.
        variant: distinguishes the pairs that several autoencoders make of one photograph.

    Returns:
        At most 41 ASCII characters without a dot, so that every member name of the pair
        stays under 60 and tar needs no PAX header.
    """
    where = path if tile is None else f"{path}@{tile[0]},{tile[1]}"
    where = f"{where}#{variant}" if variant else where
    stem = path.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    ascii_stem = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^a-z0-9]+", "-", ascii_stem.lower()).strip("-")[:24].strip("-")
    return f"{slug or 'image'}-{_hash(where):016x}"


def pair_id(dataset: str, key: str) -> int:
    """The 64-bit id of a pair, 0 <= id < 2**64. Random draws, splits and mixing are computed from it."""
    return _hash(f"{dataset}/{key}")


def in_validation(path: str, fraction: float) -> bool:
    """Whether a photograph belongs to the validation split; no other photograph influences this."""
    # The prefix makes this hash independent of those for keys and autoencoders.
    return _hash(f"split/{path}") < fraction * 2.0**64


def dealt(path: str, count: int) -> int:
    """Which of `count` autoencoders a photograph and all its tiles go to: 0 <= number < count."""
    # maps 0 <= hash < 2**64 to 0..count-1 evenly, in exact integers
    return _hash(f"autoencoder/{path}") * count >> 64


def _hash(text: str) -> int:
    # fsencode, because a file's name may hold bytes that are not UTF-8
    digest = hashlib.blake2b(os.fsencode(text), digest_size=8).digest()
    return int.from_bytes(digest, "little")
