"""Remembers which version of each object a store has read, so that two versions are never mixed."""

import threading
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Generic, TypeVar

from pack.storage.trouble import replaced, unversioned, warn_once

Version = TypeVar("Version")

# What the filesystems of fsspec call the version of an object, and the time of its last change.
_TAGS = ("etag", "ETag", "generation", "Content-MD5", "content_md5")
_TIMES = ("mtime", "last_modified", "LastModified", "Last-Modified", "updated", "modified", "created")


class Pins(Generic[Version]):
    """Versions by name. Many threads may use it at once."""

    def __init__(self) -> None:
        self._pins: dict[str, Version] = {}
        self._lock = threading.Lock()

    def get(self, name: str) -> Version | None:
        """The pinned version of a name, if there is one."""
        return self._pins.get(name)

    def check(self, name: str, version: Version, where: str) -> None:
        """Pins the first version that is seen of a name.

        Raises:
            UserError: `version` is not the pinned version; the message names `where`.
        """
        # Two threads may read a name for the first time at once: both must compare with the same pin.
        with self._lock:
            pin = self._pins.setdefault(name, version)
        if pin != version:
            raise replaced(where)

    def forget(self, name: str) -> None:
        """Drops the pin of a name, because this store wrote or removed the object itself."""
        with self._lock:
            self._pins.pop(name, None)


def changed_at(info: Mapping[str, Any]) -> float | None:
    """When an object was last changed, in seconds since 1970, from the facts of an fsspec filesystem."""
    found = next((info[key] for key in _TIMES if info.get(key)), None)
    if isinstance(found, str):
        try:
            found = datetime.fromisoformat(found)
        except ValueError:
            return None
    return found.timestamp() if isinstance(found, datetime) else found


def version_of(info: Mapping[str, Any], url: str) -> tuple[Any, Any]:
    """(size, version) of an object from the facts that an fsspec filesystem of `url` gives.

    In place of a version it may be the time of the last change, or None; that is warned of once.
    """
    for key in _TAGS:
        if info.get(key):
            return info["size"], info[key]
    modified = next((info[key] for key in _TIMES if info.get(key)), None)
    warn_once(unversioned(f"{url.partition('://')[0]}:// tells no version of its objects", modified))
    return info["size"], modified
