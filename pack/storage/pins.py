"""Remembers which version of each object a store has read, so that two versions are never mixed."""

import threading
from typing import Generic, TypeVar

from pack.storage.trouble import replaced

Version = TypeVar("Version")


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
