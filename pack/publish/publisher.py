"""Publishes shards on a thread of its own: one shard is uploaded while the next one is packed."""

from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType


class Publisher:
    """Runs publications one after the other; at most one is in the background.

    A context manager. When it exits, it waits for the running publication, even after packing failed:
    a shard that is written completely is not thrown away.

    Args:
        on_error: called at once, on the publishing thread, with the error of a publication.
    """

    def __init__(self, on_error: Callable[[BaseException], object]) -> None:
        self._on_error = on_error
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="publish")
        self._last: Future[None] | None = None

    def wait(self) -> None:
        """Waits for the running publication, if there is one.

        Raises:
            BaseException: the error that ended it.
        """
        last, self._last = self._last, None  # forgotten first: its error is raised once, not again at exit
        if last is not None:
            last.result()

    def begin(self, publish: Callable[[], None]) -> None:
        """Starts a publication in the background; call `wait` before."""
        assert self._last is None, "a publication is under way"
        self._last = self._pool.submit(self._guarded, publish)

    def _guarded(self, publish: Callable[[], None]) -> None:
        try:
            publish()
        except BaseException as error:
            # The packing thread may be waiting for a pair: `on_error` wakes it, the future alone does not.
            self._on_error(error)
            raise

    def __enter__(self) -> "Publisher":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        # Not by joining the thread: Python 3.11 takes a thread for ended if a signal interrupts its join.
        running = [self._last] if self._last else []
        try:
            futures.wait(running)
        except BaseException:  # Ctrl-C or SIGTERM during this wait
            # Wait again: an upload that outlives this thread can't start the request that aborts it.
            futures.wait(running)
            raise
        self._pool.shutdown()
        if kind is None:  # otherwise the error of the packing thread is the one to show
            self.wait()
