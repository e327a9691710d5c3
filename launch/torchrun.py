"""torchrun, ended by the status and the words of the rank that failed instead of a traceback.

SIGTERM and SIGUSR1, from Slurm or Kubernetes, are passed on to all ranks, which save and end; the
status is then 75 (EX_TEMPFAIL), so that the scheduler starts the job again and doesn't call it done.
"""

import os
import signal
import sys
from types import FrameType

PREEMPTION = (signal.SIGTERM, signal.SIGUSR1)
"""As `train.loop.preempt.SIGNALS`."""


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(os.EX_TEMPFAIL)


for number in PREEMPTION:  # until torchrun listens itself, there are no ranks to tell
    signal.signal(number, _leave)
# torchrun's own options --signals-to-handle and --shutdown-timeout; the latter is how many seconds after a
# signal the ranks have to save. Schedulers have their own limit, and kill all when it is over.
os.environ.setdefault("PET_SIGNALS_TO_HANDLE", "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1")
os.environ.setdefault("PET_SHUTDOWN_TIMEOUT", "600")
# One store for all restarts would give ranks the addresses of dead ones (pytorch issue 135712).
os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")

from torch.distributed.elastic.multiprocessing.api import SignalException  # noqa: E402
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError  # noqa: E402
from torch.distributed.run import main  # noqa: E402


def _status(code: int) -> int:
    """As a shell puts it: a process that a signal killed ends with 128 + its number."""
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    try:
        main()
    except ChildFailedError as error:
        sys.exit(max(_status(failure.exitcode) for failure in error.failures.values()))
    except SignalException as error:
        sys.exit(os.EX_TEMPFAIL if error.sigval in PREEMPTION else 128 + error.sigval)
