"""Which version of each object a store has read, so that another is never read along with it."""

import threading
from typing import Generic, TypeVar

from pack.storage.trouble import replaced

Version = TypeVar("Version")


class Pins(Generic[Version]):
    """Versions by name; for many threads at once."""

    def __init__(self) -> None:
        self._pins: dict[str, Version] = {}
        self._lock = threading.Lock()

    def get(self, name: str) -> Version | None:
        """The pinned version of a name, if there is one."""
        return self._pins.get(name)

    def check(self, name: str, version: Version, where: str) -> None:
        """Pins the first version of a name.

        Raises:
            UserError: this is another than the pinned one; it names `where`.
        """
        with self._lock:
            pin = self._pins.setdefault(name, version)
        if pin != version:
            raise replaced(where)

    def forget(self, name: str) -> None:
        """Ends the pin of a name that this store wrote or removed."""
        with self._lock:
            self._pins.pop(name, None)
