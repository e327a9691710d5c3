"""Records what loader, transfer and steps do, for the trace viewers of browsers."""

import logging
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from pack.storage import open_store
from recon.base.errors import UserError

TRACE = "trace.json"
WARM_UP = 3
"""Steps before the recorded ones: the first ones make tables, buffers and kernels."""
_LOG = logging.getLogger(__name__)


class StepProfile:
    """Context manager that records some steps of this process, with the names loader, transfer and step.

    Args:
        out: directory or URL that gets `TRACE`.
        steps: to record; 0 records nothing.
    """

    def __init__(self, out: str, steps: int) -> None:
        self._out, self._steps, self._done = out, steps, 0
        self._profile: Any = None

    def __enter__(self) -> "StepProfile":
        """Begins to count the steps."""
        if self._steps:
            from torch import profiler

            course = profiler.schedule(wait=0, warmup=WARM_UP, active=self._steps, repeat=1)
            self._profile = profiler.profile(schedule=course, on_trace_ready=self._publish)
            self._profile.start()
        return self

    def step(self) -> None:
        """Called after each step."""
        if self._profile is not None:
            self._done += 1
            self._profile.step()

    def _publish(self, profile: Any) -> None:
        with tempfile.TemporaryDirectory(prefix="pairstream-") as folder:
            path = Path(folder) / TRACE
            profile.export_chrome_trace(str(path))
            try:
                store = open_store(self._out)
                with store.publish(TRACE) as file:
                    file.write(path.read_bytes())
            except (UserError, OSError) as error:  # no reason to end a training
                _LOG.warning("%s is lost: %s", TRACE, error)
                return
        _LOG.info("%s/%s: open it in https://ui.perfetto.dev", store.url, TRACE)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the recording."""
        if self._profile is not None:
            self._profile.stop()
            self._profile = None
            if error is None and self._done < WARM_UP + self._steps:
                recorded = max(0, self._done - WARM_UP)
                told = (
                    "profile=%d, but %d steps could be recorded: the run had %d, and %d come first to warm up"
                )
                _LOG.warning(told, self._steps, recorded, self._done, WARM_UP)
