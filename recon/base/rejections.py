"""Words what was rejected: counts by cause, and what an option would win back."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

CONVERT = "add --convert true"
"""The end of each cause that the option ``--convert`` cures."""

CONVERT_BOTH = f"{CONVERT} --codec both"
"""The end of each cause that takes this option too."""

_BOTH = " with --codec both too"
_KIND = re.compile(rf"([^:,]+) image, [^:]*{re.escape(CONVERT)}( --codec both)?")

Rejected = Iterable[Mapping[str, Any]]
"""Lines of ``rejected.jsonl``; an image that several pairs were to be made of may have several lines."""


def images_in(rejected: Rejected) -> int:
    """How many images there are among the lines."""
    return len({one["path"] for one in rejected})


def causes(rejected: Rejected, shown: int = 3) -> str:
    """The most frequent causes, e.g. ``12x zero bytes; 3x CMYK image, ...``; counts images, not lines."""
    counts = Counter(cause for _, cause in {(one["path"], one["cause"]): None for one in rejected})
    more = f"; and {len(counts) - shown} other causes" if len(counts) > shown else ""
    return "; ".join(f"{count}x {cause}" for cause, count in counts.most_common(shown)) + more


def won_by_converting(rejected: Rejected) -> str:
    """``; up to 188 images more with --convert true (157 palette, 31 alpha)``; empty if there are none.

    It is an upper bound, because such an image was not decoded: it may be too small as well, or broken.
    """
    found = {one["path"]: _KIND.search(one["cause"]) for one in rejected}
    kinds = {path: one[1].strip() + (_BOTH if one[2] else "") for path, one in found.items() if one}
    if not kinds:
        return ""
    counts = ", ".join(f"{count} {kind}" for kind, count in Counter(kinds.values()).most_common())
    more = "1 image" if len(kinds) == 1 else f"{len(kinds)} images"
    return f"; up to {more} more with --convert true ({counts})"
