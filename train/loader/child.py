"""The script that the loader's worker process runs: ``python -P child.py CONNECTION MEMORY PATH``.

It is started by its path, and finds our packages beside itself: a `train.py` or a folder `pack` of the
user's, wherever it stands on the search path, is never taken for ours. The user's stages are found as
in the trainer: the search path is the trainer's, in the trainer's order.
"""

import json
import os
import signal
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

OURS = ("recon", "pack", "train")
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
"""The folder that holds our packages."""
FOR_THE_TRAINER = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


class _OursFirst:
    """Finds our packages in their root.

    To put the root in front of the search path would do more: where it is ``site-packages``, every
    installed module would then hide modules of the user's and of the standard library.
    """

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What an import of `name` finds; None leaves it to the finders after this one."""
        return PathFinder.find_spec(name, [ROOT], target) if path is None and name in OURS else None


def _start(connection: str, memory: str, path: str) -> None:
    # Before all other imports, which take a second: a scheduler may signal the process group at any time.
    for number in FOR_THE_TRAINER:
        signal.signal(number, signal.SIG_IGN)
    sys.meta_path.insert(0, _OursFirst)
    sys.path[:] = json.loads(path)
    from train.loader.service import main

    main(int(connection), int(memory))


if __name__ == "__main__":
    _start(*sys.argv[1:])
