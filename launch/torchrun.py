"""Runs torchrun; if a rank fails, exits with the status of that rank and without torchrun's traceback.

SIGTERM and SIGUSR1 from Slurm or Kubernetes are passed on to all ranks, which save and end. The exit
status is then 75 (EX_TEMPFAIL): the scheduler must start the job again, and not count it as done.
"""

import os
import signal
import sys
from types import FrameType

PREEMPTION = (signal.SIGTERM, signal.SIGUSR1)
"""Same as `train.world.stop.SIGNALS`; not imported, so that the handlers below are set at once."""


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(os.EX_TEMPFAIL)


for number in PREEMPTION:  # until torchrun handles signals itself; before that there are no ranks to inform
    signal.signal(number, _leave)
# The variables of torchrun's options --signals-to-handle and --shutdown-timeout. The latter is the time in
# seconds that the ranks have to save after a signal; the scheduler's own limit may be shorter.
os.environ.setdefault("PET_SIGNALS_TO_HANDLE", "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1")
os.environ.setdefault("PET_SHUTDOWN_TIMEOUT", "600")
# If all restarts shared one store, new ranks would read addresses of dead ranks (pytorch issue 135712).
os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")

from torch.distributed.elastic.multiprocessing.api import SignalException  # noqa: E402
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError  # noqa: E402
from torch.distributed.run import main  # noqa: E402


def _status(code: int) -> int:
    """Returns the status as a shell does: 128 + the signal's number for a process that a signal killed."""
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    try:
        main()
    except ChildFailedError as error:
        sys.exit(max(_status(failure.exitcode) for failure in error.failures.values()))
    except SignalException as error:
        sys.exit(os.EX_TEMPFAIL if error.sigval in PREEMPTION else 128 + error.sigval)
