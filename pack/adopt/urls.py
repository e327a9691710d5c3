"""Finds the tars that the arguments of `pack.index` name, and their directory."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from pack.base.braces import expand
from pack.storage import open_store
from recon.base.errors import UserError
from recon.base.paths import expanded, is_dir, one_name, split_path

_WILD = frozenset("*?[")
_PACKED = (".tar.gz", ".tgz", ".tar.zst", ".tar.bz2", ".tar.xz")


def find_tars(urls: Sequence[str]) -> tuple[str, list[str]]:
    """The directory of some tars, and their sorted names without ``.tar``.

    Args:
        urls: directories or URL prefixes, tars, globs or brace ranges.

    Raises:
        UserError: there are no tars, or they are in several directories.
    """
    places = [place for url in urls for place in _places(url)]
    directory = places[0][0]
    for other, _ in places:
        if one_name(other) != one_name(directory):
            raise UserError(
                f"{directory} and {other} are two directories, expected tars of one, because each directory "
                "has its own manifest; index each directory by itself and train on a mixture"
            )
    # Hidden names are no data: macOS, for example, writes "._0.tar" next to 0.tar.
    present = [name for name in open_store(directory).names() if not name.startswith(".")]
    names = {name for _, pattern in places for name in _matching(directory, pattern, present)}
    return directory, sorted(name.removesuffix(".tar") for name in names)


def _places(url: str) -> list[tuple[str, str]]:
    """(directory, pattern of names) of each part of an argument."""
    url = url.removeprefix("file://")
    if "://" not in url and is_dir(expanded(url)):
        return [(url, "*.tar")]
    return [_place(one) for one in expand(url)]


def _place(url: str) -> tuple[str, str]:
    name = url.rpartition("/")[2]
    if name.endswith(_PACKED):
        raise UserError(f"{url} is compressed, so pairs can't be read by byte offset; decompress it")
    if not (name.endswith(".tar") or _WILD & set(name)):
        return url.rstrip("/"), "*.tar"
    return split_path(url)


def _matching(directory: str, pattern: str, present: Sequence[str]) -> list[str]:
    """The tars that a pattern matches; a pattern that is exactly the name of a tar matches only that tar."""
    if pattern in present:  # a name may hold "[" or "*" itself
        return [pattern]
    found = [name for name in present if fnmatchcase(name, pattern) and name.endswith(".tar")]
    if not found:
        other = ", ".join(present[:3]) + (", ..." if len(present) > 3 else "") if present else "nothing"
        raise UserError(f"{directory}/{pattern} not found, expected tars; {directory} holds {other}")
    return found
