"""Divides photographs into tiles, by the sizes in their file headers."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from pack.base.config import PackConfig
from pack.base.items import File, Item
from recon.base.errors import RejectedImageError
from recon.image.codec import image_size

_HEAD = 64 << 10  # bytes; in a JPEG, profiles and previews come before the size
_THREADS = 32  # most of them wait for storage
_AHEAD = 4096  # files whose sizes are asked for together


def tiled(items: Sequence[Item], config: PackConfig) -> list[Item]:
    """Replaces each photograph by its tiles; one without tiles stays, to be rejected later with its cause."""
    assert config.tile is not None
    side, stride = config.tile, config.tile_stride or config.tile
    tiles: list[Item] = []
    for item, size in zip(items, _sizes(items, config.max_pixels), strict=True):
        corners = _corners(size, side, stride)
        tiles += [replace(item, tile=corner) for corner in corners] or [item]
    return tiles


def read_size(file: File, max_pixels: int) -> tuple[int, int]:
    """Reads (height, width) from the file's header: from its first 64 KiB if they suffice.

    Raises:
        RejectedImageError: the file is no readable image.
        UserError: storage fails.
    """
    head = file.head(_HEAD)
    try:
        return image_size(head, max_pixels=max_pixels)
    except RejectedImageError:
        if len(head) < _HEAD:  # that was the whole file
            raise
        return image_size(file.read(), max_pixels=max_pixels)


def _sizes(items: Sequence[Item], max_pixels: int) -> Iterator[tuple[int, int] | None]:
    """(height, width) of each photograph; None if it can't be read."""

    def size(item: Item) -> tuple[int, int] | None:
        try:
            return read_size(item.real, max_pixels)
        except RejectedImageError:
            return None

    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(items), _AHEAD):
            yield from pool.map(size, items[start : start + _AHEAD])


def _corners(size: tuple[int, int] | None, side: int, stride: int) -> list[tuple[int, int]]:
    if size is None:
        return []
    height, width = size
    return [(y, x) for y in range(0, height - side + 1, stride) for x in range(0, width - side + 1, stride)]
