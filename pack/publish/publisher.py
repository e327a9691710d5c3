"""Publishing on a thread of its own: a shard is uploaded while the next one is packed."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType


class Publisher:
    """Does one publication after the other, in order and never more than one behind.

    A context manager, which waits at its end for what is under way, also where packing failed: what is
    written whole is not thrown away.

    Args:
        on_error: called on the publishing thread, at once, with whatever a publication ended with.
    """

    def __init__(self, on_error: Callable[[BaseException], object]) -> None:
        self._on_error = on_error
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="publish")
        self._last: Future[None] | None = None

    def wait(self) -> None:
        """Waits for the publication that is under way.

        Raises:
            BaseException: what it ended with.
        """
        last, self._last = self._last, None
        if last is not None:
            last.result()

    def begin(self, publish: Callable[[], None]) -> None:
        """Publishes in the background; `wait` has been called."""
        assert self._last is None, "a publication is under way"
        self._last = self._pool.submit(self._guarded, publish)

    def _guarded(self, publish: Callable[[], None]) -> None:
        try:
            publish()
        except BaseException as error:  # whatever it is, the packing thread has to see it
            self._on_error(error)
            raise

    def __enter__(self) -> "Publisher":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self._pool.shutdown()
        if kind is None:
            self.wait()
