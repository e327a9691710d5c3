"""torchrun, ended by the status and the words of the rank that failed instead of a traceback."""

import sys

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

try:
    main()
except ChildFailedError as error:
    sys.exit(max(failure.exitcode for failure in error.failures.values()))
