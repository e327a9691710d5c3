"""What tests/run_stores.py finds out about a server: each check gives the cell of a table."""

import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError
from conftest import write_photographs
from pack_runs import ended, files, start
from store_servers import BUCKET
from train_data import make_dataset
from train_runs import Plan, Ranks, as_options, same_bits, small_config

from pack.dataset.dataset import open_dataset
from pack.inspect.verify import verify
from pack.storage import Retry, Store, open_store
from pack.storage.s3_write import creators
from recon.base.errors import UserError
from train.model.checkpoint import load_checkpoint

ODD = ("a b+c.tar", "ü&=?#%41.tar", "写真.json", "a'(b)*!~.tar")
KEYS = 1050
RETRY = Retry(deadline_s=60, attempts=3)
LAST = "step-00000008.pt"


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A server that runs, and what its results are compared with."""

    client: Any
    folder: Path
    """Of this server, for logs."""
    reference: "Reference"

    @property
    def url(self) -> str:
        """Where all checks write."""
        return f"s3://{BUCKET}/checks"

    def store(self, name: str, retry: Retry = RETRY) -> Any:
        """An empty prefix."""
        return open_store(f"{self.url}/{name}", retry)


class Reference:
    """Photographs, the dataset that they give on local disk, and a run of training that nothing disturbed."""

    def __init__(self, folder: Path) -> None:
        self.photographs, self.packed, self.run = folder / "photos", folder / "packed/photos", folder / "run"
        write_photographs(self.photographs)
        status, error = ended(start(self.photographs, self.packed))
        assert not status, error
        self.pairs = Path(make_dataset(folder / "pairs", pairs=32, shard_pairs=16, size=(32, 40)))
        self.ranks = Ranks()
        self.train(str(self.pairs), str(self.run), folder)

    def train(self, data: str, out: str, folder: Path, plan: Plan = Plan(ranks=())) -> tuple[int, str]:  # noqa: B008  # frozen
        """Two epochs of four steps on one rank, which the plan may kill; its status and what it said."""
        words = as_options(small_config({"train": data}, out))
        [status], text = self.ranks.run(1, words, folder, plan)
        return status, text


def packs(bench: Bench) -> str:
    """Two ranks pack at once: the dataset is that of local disk to the byte, and `pack.verify` agrees."""
    url = f"{bench.url}/photos"
    ranks = [start(bench.reference.photographs, url, "--rank", n, "--world_size", 2) for n in range(2)]
    said = [ended(rank) for rank in ranks]
    assert not any(status for status, _ in said), said
    store = open_store(url, RETRY)
    found = {name: store.read(name) for name in store.names()}
    assert found == files(bench.reference.packed), sorted(found)
    assert not (differences := list(verify(open_dataset(url)))), differences
    return "equal bytes"


def trains(bench: Bench) -> str:
    """A run on the store is killed and resumed there; its weights are those of the undisturbed one."""
    data = bench.store("pairs")
    for path in sorted(bench.reference.pairs.iterdir()):
        with data.publish(path.name) as file:
            file.write(path.read_bytes())
    out = f"{bench.url}/run"
    status, said = bench.reference.train(data.url, out, bench.folder, Plan(step=5))
    assert status == -9, said
    status, said = bench.reference.train(data.url, out, bench.folder)
    assert not status, said
    assert f"goes on from {out}/step-" in said, said
    (bench.folder / LAST).write_bytes(open_store(out).read(LAST))
    found, expected = load_checkpoint(bench.folder / LAST), load_checkpoint(bench.reference.run / LAST)
    assert same_bits(found["model"], expected["model"])
    return "equal bits"


def creates(bench: Bench) -> str:
    """Eight clients create one object with ``If-None-Match: *`` at the same time; four such races."""
    store = bench.store("bare")
    won = [creators(store._uploader(f"a{race}", create=True), 8) for race in range(4)]
    return f"{max(won)} of 8 win" if max(won) > 1 else "1 of 8 wins"


def creates_through_store(bench: Bench) -> str:
    """The same through `Store.publish(create=True)` with eight contents, as two runs write dataset.json."""
    store, barrier = bench.store("race"), threading.Barrier(8)
    assert store._creates_once in (True, False)  # tried before the race, as each process does

    def create(number: int) -> bool:
        barrier.wait()
        try:
            with store.publish("a", create=True) as file:
                file.write(b"%d" % number)
        except UserError as error:
            if "exists already with other content" not in str(error):
                raise
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = [number for number, did in enumerate(pool.map(create, range(8))) if did]
    assert len(won) == 1, won
    assert store.read("a") == b"%d" % won[0]
    return "1 of 8 wins"


def pins(bench: Bench) -> str:
    """An object that is replaced by one of equal size under a reader."""
    store = bench.store("pins")
    _put(store, "a", b"old!")
    head = bench.client.head_object(Bucket=BUCKET, Key="checks/pins/a")
    known = "ETag" if head.get("ETag") else "time of change" if head.get("LastModified") else "size"
    assert store.read_range("a", 0, 4) == b"old!"
    time.sleep(1.1)  # times of change are in seconds
    _put(bench.store("pins"), "a", b"new!")
    try:
        store.read_range("a", 0, 4)
    except UserError as error:
        if "was replaced" not in str(error):
            raise
        return f"noticed by {known}"
    return f"read on (knows {known})"


def empty(bench: Bench) -> str:
    """An object of no bytes, asked for by a range as every read is."""
    store = bench.store("empty")
    _put(store, "a", b"")
    assert store.read("a") == store.head("a", 9) == store.read_range("a", 0, 0) == b""
    try:
        answer = bench.client.get_object(Bucket=BUCKET, Key="checks/empty/a", Range="bytes=0-99")
    except ClientError as error:
        return str(error.response["ResponseMetadata"]["HTTPStatusCode"])
    answer["Body"].close()
    return f"{answer['ResponseMetadata']['HTTPStatusCode']} {answer.get('ContentRange', '')}"


def lists(bench: Bench) -> str:
    """More keys than one answer holds."""
    store, names = bench.store("many"), [f"{number:06}" for number in range(KEYS)]
    with ThreadPoolExecutor(8) as pool:
        # By a store, which asks again: rclone answers some of many writers with "InternalError".
        list(pool.map(lambda name: _put(store, name, b"x"), names))
    try:
        assert store.names() == names
    except UserError as error:  # told, not silently too few
        return f"error {re.findall(r'[(](.*?)[)]', str(error))[0]}"
    return f"{KEYS:,} of {KEYS:,}"


def parts(bench: Bench) -> str:
    """An object of two parts, read in three requests."""
    store, data = bench.store("parts"), bytes(range(256)) * (18 << 12)
    _put(store, "a", data)
    assert store.read("a") == data
    assert store.read_range("a", 5, len(data) - 9) == data[5:-4]
    return "equal bytes"


def odd_keys(bench: Bench) -> str:
    """Keys with spaces, signs of URLs and other scripts."""
    store = bench.store("odd")
    lost = []
    for name in ODD:
        with suppress(UserError):
            _put(store, name, name.encode())
            if store.read(name).decode() == name and name in store.names():
                continue
        lost.append(name)
    return f"{len(ODD)} of {len(ODD)}" if not lost else f"not {' '.join(lost)}"


def _put(store: Store, name: str, data: bytes) -> None:
    with store.publish(name) as file:
        file.write(data)


CHECKS: dict[str, Callable[[Bench], str]] = {
    "packed by two ranks, against local disk": packs,
    "trained, killed, resumed: weights": trains,
    "`If-None-Match: *`, eight writers at once": creates,
    "the same through Pairstream": creates_through_store,
    "an object is replaced under a run": pins,
    "a range of an empty object answers": empty,
    f"{KEYS:,} keys in one listing": lists,
    "18 MiB in parts": parts,
    "odd keys": odd_keys,
}
"""By what the row of the table is called."""
