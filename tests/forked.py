"""What the ranks of a test are forked from, and where they meet."""

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import BaseContext
from pathlib import Path

from torch.distributed import TCPStore

# What takes longer to import than all that a small run does; DDP imports torch._dynamo
_PRELOADED = [
    *("train_runs", "train_ranks", "train.ops.cpu"),
    *("torch.utils.tensorboard", "torch._dynamo", "timm", "peft", "recon.launcher.agent"),
    "forked_last",
]


def fork_server() -> BaseContext:
    """Starts processes that have imported all they need: forked from one server that all tests share."""
    context = multiprocessing.get_context("forkserver")
    here = str(Path(__file__).parent)
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if here not in paths:  # the server doesn't take over sys.path before Python 3.14
        os.environ["PYTHONPATH"] = os.pathsep.join([here, str(Path(here).parent), *filter(None, paths)])
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # nothing to fork has threads
    context.set_forkserver_preload(_PRELOADED)
    return context


@contextmanager
def meeting() -> Iterator[dict[str, str]]:
    """Variables of a store that this process keeps, as torchrun's agent does.

    Its port is bound from the beginning to the end, so that no other process can take it.
    """
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    yield {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
    }
