"""Finds the tars that a source names: one tar, a pattern, or all in a folder, on disk or in a bucket."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from pack.base.braces import expand
from pack.base.items import File, store_of
from pack.sources.place import first_wild, is_url, walked
from recon.base.errors import UserError
from recon.base.paths import is_dir, is_file, split_path
from recon.base.walk import LeftOut
from recon.listing import tell

_ALL = "**/*.tar"
_WILD_PART = re.compile(r"(\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\])")
_REGEX = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
_THREADS = 16  # they wait for storage


def find_tar_files(place: str) -> list[File]:
    """Finds the tars that a path, URL or pattern names, sorted. Their root is the part before the pattern.

    Args:
        place: a tar, a folder or prefix searched recursively for ``*.tar``, or a pattern. ``{000..099}`` and
            ``{a,b}`` name tars that must exist; ``*``, ``?``, ``[...]`` and ``**`` match those that exist.

    Raises:
        UserError: there are no tars, or a named one is missing.
    """
    root, patterns = _parsed(place)
    exact = [name for name in patterns if not _WILD_PART.search(name) or _exists(root, name)]
    names = dict.fromkeys(exact) | dict.fromkeys(_matching(root, [p for p in patterns if p not in exact]))
    store = store_of(root)
    with ThreadPoolExecutor(_THREADS) as pool:
        tars = [File(root, name, size) for name, size in zip(names, pool.map(store.size, names), strict=True)]
    if not tars:
        raise UserError(f"no tars match {place}; expected a tar, a pattern of tars, or a folder of them")
    return sorted(tars, key=lambda tar: tar.name)


def _parsed(place: str) -> tuple[str, list[str]]:
    """The root, and the patterns below it with their braces expanded."""
    if _is_one(place):
        root, name = split_path(place)
        return root, [name]
    wild = first_wild(place)
    if wild < 0 or (not is_url(place) and is_dir(place)):
        return place, [_ALL]
    cut = place.rfind("/", 0, wild) + 1
    if is_url(place[:cut]) and place[:cut].endswith("://"):
        raise UserError(f"{place}: a pattern can't stand for a bucket or host; name one")
    return place[:cut].rstrip("/") or ("/" if cut else "."), expand(place[cut:])


def _is_one(place: str) -> bool:
    if is_url(place):
        return first_wild(place) < 0 and place.lower().endswith(".tar")
    return is_file(place) or (first_wild(place) < 0 and not is_dir(place))


def _exists(root: str, name: str) -> bool:
    """Whether a local file has exactly this name, although the name looks like a pattern."""
    return not is_url(root) and is_file(f"{root}/{name}")


def _matching(root: str, patterns: list[str]) -> Iterator[str]:
    if not patterns:
        return
    regex = re.compile("|".join(map(_translated, patterns)))
    deep = any("/" in pattern for pattern in patterns)
    left_out = LeftOut()
    # Search recursively only if a pattern asks for it: a whole bucket or home directory may lie below.
    names = (name for name, _ in walked(root, leave=left_out.add)) if deep else iter(store_of(root).names())
    yield from (name for name in names if regex.fullmatch(name) and not name.startswith("."))
    tell(root, left_out)


def _translated(pattern: str) -> str:
    """A pattern as a regular expression; ``*`` and ``?`` stay within one folder."""
    parts = _WILD_PART.split(pattern)
    for number, part in enumerate(parts):
        if number % 2 == 0:  # re.split puts the text between the wildcards at the even places
            parts[number] = re.escape(part)
        elif part in _REGEX:
            parts[number] = _REGEX[part]
        else:
            inner = part[1:-1].replace("\\", "\\\\").replace("[", "\\[")
            parts[number] = f"[^/{inner[1:]}]" if inner.startswith("!") else f"[{inner}]"
    return "".join(parts)
