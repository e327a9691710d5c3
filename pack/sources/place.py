"""Where a source lies: one form for local paths and URLs, and the image files below them."""

import re
import sys
from collections.abc import Container, Iterable

from pack.base.items import File, store_of
from recon.base.errors import MissingError, UserError
from recon.base.paths import exists, expanded, folder_name, is_dir
from recon.base.walk import Files, Leave, LeftOut, tell_nobody
from recon.listing import HALVES, images_among, tell

TABLES = (".csv", ".parquet")
"""Suffixes of tables."""
_WILD = re.compile(r"[{*?[]")


def is_url(place: str) -> bool:
    """Whether a place, as `located` returns it, is a URL and no local path."""
    return "://" in place


def located(source: str) -> str:
    """A source in the one form used here: a local path without ``~``, or a URL without a slash at its end."""
    if is_url(source) and not source.startswith("file://"):
        return source.rstrip("/")
    return str(expanded(source.removeprefix("file://")))


def source_name(source: str) -> str:
    """The name of a source: that of its folder, or the file name of a table or tar without suffix."""
    place = located(source)
    wild = first_wild(place)
    if wild >= 0 and not exists(place):  # a real name may hold such characters too
        return folder_name(place[:wild].rpartition("/")[0] or ".")
    name = folder_name(place)
    is_file = name.lower().endswith((*TABLES, ".tar")) and (is_url(place) or not is_dir(place))
    return name.rsplit(".", 1)[0] if is_file else name


def first_wild(place: str) -> int:
    """Position of the first pattern character in a place; -1 if there is none.

    A local folder on the way that exists is no pattern, whatever its characters; at the last part of a place
    callers look themselves.
    """
    wild = _WILD.search(place)
    while wild and not is_url(place):
        end = place.find("/", wild.start()) + 1
        if not end or not is_dir(place[:end]):
            break
        wild = _WILD.search(place, end)
    return wild.start() if wild else -1


def check_folder(place: str, what: str, why: str = "") -> None:
    """UserError if a local folder does not exist. A URL prefix always does; it may be empty."""
    if not is_url(place) and not is_dir(place):
        raise UserError(f"{what}{place} is not a directory{why}")


def images(place: str, links: Iterable[str] = (), below: str = "") -> list[File]:
    """The image files below a folder or URL prefix, sorted by name.

    `recon.listing` tells which files are images; what is left out is logged in one line.

    Args:
        place: root of the files.
        links: names of folders that are entered even if they are links, besides 0_real and 1_fake.
        below: a folder in `place`, if only this one is searched; names begin with it.

    Raises:
        UserError: a folder can't be listed.
    """
    prefix = f"{below}/" if below else ""
    where, left_out = f"{place.rstrip('/')}/{below}" if below else place, LeftOut()
    found = images_among(walked(where, (*HALVES, *links), left_out.add), left_out.add)
    tell(where, left_out)
    return [File(place, prefix + name, size) for name, size in found]


def walked(place: str, links: Container[str] = (), leave: Leave = tell_nobody) -> Files:
    """`Store.walk`, but nothing for a URL prefix that does not exist."""
    try:
        yield from store_of(place).walk(links, leave)
    except MissingError:
        if not is_url(place):
            raise


def parent(path: str, otherwise: str) -> str:
    """Name of the folder of a path. All paths of a folder share one string, to save memory."""
    parts = path.rsplit("/", 2)
    return sys.intern(parts[-2]) if len(parts) > 1 and parts[-2] else otherwise
