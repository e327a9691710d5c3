"""Epochs out of a bucket behind a proxy that misbehaves: the right pairs or a message in time."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_proxy import Fault, FaultPlan, FaultProxy, random_plan
from s3_server import (  # noqa: F401  # fixtures
    S3Env,
    module_proxy,
    module_s3_env,
    new_url,
    shared_proxy,
    upload,
)
from train_data import PAIRS, make_dataset, steps_of, world
from train_faults import HIT, Local, assert_right, read_epoch, strike, struck, within

from pack.dataset.dataset import Dataset
from pack.storage import Retry
from pack.storage.s3_client import connect
from recon.base.errors import UnreachableError, UserError
from train.loader.transfer import Batch

pytestmark = pytest.mark.timeout(120)

PATIENT_S = 20.0  # a deadline that no passing fault meets
HURRIED_S = 12.0  # one that leaves time for attempts after one that hangs
SHORT_S = 5.0  # one that only a fault that lasts meets: it bounds what hangs, and what a worker tries again
BRIEF_S = 1.2  # one that anything may meet
TAR, INDEX, MANIFEST = "shard-000001.tar", "shard-000001.parquet", "dataset.json"


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Local:
    url = make_dataset(tmp_path_factory.mktemp("pairs"), pairs=PAIRS, shard_pairs=11)
    return Local(folder=Path(url), dataset=Dataset(url), steps=steps_of(world(url, 1)))


@pytest.fixture(scope="module", autouse=True)
def shared_clients() -> Iterator[None]:
    """S3 clients for all tests here, one for each deadline: to make one takes .2 s."""
    clients: dict[Retry, Any] = {}

    def connect_once(url: str, retry: Retry) -> Any:
        if retry not in clients:
            clients[retry] = connect(url, retry)
        return clients[retry]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("pack.storage.s3.connect", connect_once)
        yield
    for client in clients.values():
        client.close()


@pytest.fixture
def url(s3_env: S3Env, local: Local) -> str:
    """The dataset in the bucket, for this test alone: a read that an earlier one gave up may come late."""
    return upload(s3_env.server, local.folder, new_url())


# Faults that pass

PASSING = {
    "throttled twice": Fault(kind="status", status=503, times=2),
    "error twice": Fault(kind="status", status=500, times=2),
    "reset before the answer": Fault(kind="reset_head", times=2),
    "lost answer": Fault(kind="lost_reply", times=2),
    "reset": Fault(kind="reset", times=2),
    "closed": Fault(kind="close", times=2),
    "short": Fault(kind="short", times=2),
    "wrong range": Fault(kind="short_range", times=2),
    "slow to answer": Fault(kind="stall_head", seconds=0.3),
    "pause": Fault(kind="stall", seconds=0.3),
    "slow for a while": Fault(kind="trickle", seconds=0.3),
    "no answer": Fault(kind="stall_head"),
    "no end": Fault(kind="stall"),
    "trickle": Fault(kind="trickle"),
    "endless head": Fault(kind="trickle_head"),
    "flipped once": Fault(kind="flip"),
    "flipped twice": Fault(kind="flip", times=2),
    "refused": Fault(kind="refuse", seconds=0.3),
}


def assert_survived(
    proxy: FaultProxy, local: Local, url: str, name: str, case: str, offset: int, **options: Any
) -> None:
    strike(proxy, url, name, PASSING[case], offset=offset)
    deadline_s = HURRIED_S if PASSING[case].seconds is None else PATIENT_S
    taken: list[list[Batch]] = []
    with within(deadline_s):
        read_epoch(url, taken, deadline_s=deadline_s, **options)
    assert not assert_right(taken, local.steps)
    assert len(taken) == len(local.steps)
    assert struck(proxy) == PASSING[case].times


@pytest.mark.parametrize("case", PASSING)
def test_an_epoch_survives_what_passes(proxy: FaultProxy, local: Local, url: str, case: str) -> None:
    assert_survived(proxy, local, url, TAR, case, local.payload())


@pytest.mark.parametrize("case", ["throttled twice", "no end", "flipped twice"])
def test_so_does_one_that_a_worker_reads(proxy: FaultProxy, local: Local, url: str, case: str) -> None:
    assert_survived(proxy, local, url, TAR, case, local.payload(), workers=1)


@pytest.mark.parametrize("name", [INDEX, MANIFEST])
@pytest.mark.parametrize("case", ["throttled twice", "reset", "short", "flipped twice"])
def test_index_and_manifest_survive_what_passes(
    proxy: FaultProxy, local: Local, url: str, name: str, case: str
) -> None:
    assert_survived(proxy, local, url, name, case, offset=300)


# Faults that last

LASTING = {
    "throttled": (Fault(kind="status", status=503, times=None), "throttled"),
    "error": (Fault(kind="status", status=500, times=None), "server error"),
    "reset": (Fault(kind="reset", times=None), "connection broke"),
    "closed": (Fault(kind="close", times=None), "body ended|connection broke"),
    "short": (Fault(kind="short", times=None), "body ended"),
    "no answer": (Fault(kind="stall_head", times=None), "silent|not done"),
    "no end": (Fault(kind="stall", times=None), "silent|not done"),
    "trickle": (Fault(kind="trickle", times=None), "silent|not done"),
    "wrong range": (Fault(kind="short_range", times=None), "Content-Range|body ended"),
}


def assert_stopped(
    proxy: FaultProxy, local: Local, url: str, told: str, deadline_s: float = PATIENT_S, **options: Any
) -> None:
    taken: list[list[Batch]] = []
    with within(deadline_s), pytest.raises(UserError) as caught:
        read_epoch(url, taken, deadline_s=deadline_s, **options)
    assert re.search(told, str(caught.value)), caught.value
    # What another start may not meet is told from mistakes, also by the worker.
    assert isinstance(caught.value, UnreachableError) == ("gave up after" in str(caught.value))
    assert not assert_right(taken, local.steps)
    assert len(taken) < len(local.steps)
    assert struck(proxy)


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a fault that is quick use up the attempts, long before any deadline."""
    monkeypatch.setattr("pack.storage.retry._LONGEST_PAUSE_S", 0.05)


def deadline_for(case: str) -> float:
    return SHORT_S if LASTING[case][0].kind.startswith(("stall", "trickle")) else PATIENT_S


def strike_for_good(proxy: FaultProxy, url: str, name: str, case: str, offset: int) -> str:
    """Plans a fault that lasts; returns what its message has to tell of the cause."""
    fault, cause = LASTING[case]
    # A trickling read goes on behind the offset: all of its requests are to trickle.
    strike(proxy, url, name, fault, offset=None if fault.kind == "trickle" else offset)
    return rf"({cause}).*; gave up after \d+ attempts? in [\d.]+ s"


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("case", LASTING)
def test_an_epoch_stops_in_time_and_says_what_where_and_how_often(
    proxy: FaultProxy, local: Local, url: str, case: str
) -> None:
    cause = strike_for_good(proxy, url, TAR, case, local.payload())
    told = rf"^can't read {url}/{TAR}, bytes \d+ to \d+: .*{cause}"
    assert_stopped(proxy, local, url, told, deadline_for(case))


@pytest.mark.usefixtures("no_pauses")
def test_an_epoch_stops_in_time_when_connections_are_refused(
    proxy: FaultProxy, local: Local, url: str
) -> None:
    strike(proxy, url, TAR, Fault(kind="refuse", times=None))
    cause = r"(can't reach endpoint|connection broke).*; gave up after \d+ attempts? in [\d.]+ s"
    assert_stopped(proxy, local, url, rf"^can't read {url}/shard-\S+, bytes \d+ to \d+: .*{cause}")


@pytest.mark.parametrize("case", ["throttled", "no end"])
def test_so_does_one_that_a_worker_reads_for_good(
    proxy: FaultProxy, local: Local, url: str, case: str
) -> None:
    cause = strike_for_good(proxy, url, TAR, case, local.payload())
    told = rf"^can't read {url}/{TAR}, bytes \d+ to \d+: .*{cause}"
    assert_stopped(proxy, local, url, told, SHORT_S, workers=1)


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize(
    ("name", "case"),
    [(INDEX, "throttled"), (INDEX, "no end"), (MANIFEST, "throttled"), (MANIFEST, "short")],
)
def test_index_and_manifest_stop_in_time(
    proxy: FaultProxy, local: Local, url: str, name: str, case: str
) -> None:
    cause = strike_for_good(proxy, url, name, case, offset=300)
    told = rf"^can't read {url}/{name}, bytes \d+ to \d+: .*{cause}"
    assert_stopped(proxy, local, url, told, deadline_for(case))


@pytest.mark.parametrize("name", [TAR, INDEX, MANIFEST])
def test_no_permission_stops_at_once(proxy: FaultProxy, local: Local, url: str, name: str) -> None:
    strike(proxy, url, name, Fault(kind="status", status=403, times=None))
    assert_stopped(proxy, local, url, rf"^no permission for {url}/{name} \(403")


@pytest.mark.parametrize(
    ("name", "told"),
    [(INDEX, r"differs from the manifest \(sha256\)"), (MANIFEST, "sha256 differs|not JSON")],
)
def test_damaged_index_or_manifest_stops(
    proxy: FaultProxy, local: Local, url: str, name: str, told: str
) -> None:
    strike(proxy, url, name, Fault(kind="flip", times=None), offset=300)
    assert_stopped(proxy, local, url, rf"^{url}/{name} .*({told})")


# Replaced objects


def test_a_shard_replaced_between_two_epochs_stops_the_second(
    proxy: FaultProxy, local: Local, url: str
) -> None:
    (loader,) = world(url, 1, deadline_s=PATIENT_S)
    assert not assert_right([[batch] for batch in loader], local.steps)
    strike(proxy, url, TAR, Fault(kind="replace"))
    with pytest.raises(UserError, match=rf"^{url}/{TAR} was replaced while this run reads it"):
        list(loader)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_shard_replaced_within_a_read_stops_the_epoch(
    proxy: FaultProxy, local: Local, url: str, workers: int
) -> None:
    at = local.payload()
    strike(proxy, url, TAR, Fault(kind="reset", offset=at), Fault(kind="replace", offset=at + 1))
    told = rf"^{url}/{TAR} was replaced while this run reads it"
    assert_stopped(proxy, local, url, told, workers=workers)


# Damage at rest


@pytest.mark.parametrize(
    ("member", "size", "workers"), [(0, 1, 0), (1, 1, 0), (2, 1, 0), (0, 2, 0), (1, 1, 1)]
)
def test_a_byte_flipped_for_ever_masks_its_pair_alone(
    proxy: FaultProxy, local: Local, url: str, member: int, size: int, workers: int
) -> None:
    strike(proxy, url, TAR, Fault(kind="flip", times=None), offset=local.payload(member=member))
    taken: list[list[Batch]] = []
    read_epoch(url, taken, size, deadline_s=PATIENT_S, workers=workers)
    assert assert_right(taken, local.steps) == {local.key()}
    assert len(taken) == len(local.steps)
    (pair,) = (pair for ranks in taken for batch in ranks for pair in batch.damaged)
    name = ("real", "fake", "json")[member]
    assert (pair.url, pair.cause) == (f"{url}/{TAR}", f"CRC-32 of {name} differs")


def test_a_byte_flipped_between_the_payloads_harms_nothing(proxy: FaultProxy, local: Local, url: str) -> None:
    header = int(local.dataset.index(1).offsets[HIT, 1]) - 300
    strike(proxy, url, TAR, Fault(kind="flip", times=None), offset=header)
    taken: list[list[Batch]] = []
    read_epoch(url, taken, deadline_s=PATIENT_S)
    assert not assert_right(taken, local.steps)
    assert struck(proxy)


# Bytes read


def bytes_read(proxy: FaultProxy, url: str, *faults: Fault) -> dict[str, int]:
    """Bytes that an epoch takes from the bucket, by kind of object."""
    strike(proxy, url, TAR, *faults)
    read_epoch(url, [], deadline_s=PATIENT_S)
    assert struck(proxy) == len(faults)
    return {suffix: proxy.sent(suffix) for suffix in (".tar", ".parquet", ".json")}


def test_an_epoch_reads_little_more_than_the_dataset_even_when_cut(
    proxy: FaultProxy, local: Local, url: str
) -> None:
    clean = bytes_read(proxy, url)
    assert clean[".tar"] < 1.25 * local.size(".tar")  # the first pair of each of the 6 lanes comes twice
    assert clean[".parquet"] == local.size(".parquet")
    assert clean[".json"] == local.size(".json")
    cuts = [Fault(kind=kind, offset=local.payload()) for kind in ("reset", "close", "short")]  # type: ignore[arg-type]
    assert bytes_read(proxy, url, *cuts) == clean  # what had come is not read again


def test_one_flipped_byte_costs_one_pair(proxy: FaultProxy, local: Local, url: str) -> None:
    clean = bytes_read(proxy, url)
    again = bytes_read(proxy, url, Fault(kind="flip", offset=local.payload()))
    assert again[".tar"] - clean[".tar"] == local.dataset.index(1).span(HIT, 1)[1]


# Plans of several faults


def follow(proxy: FaultProxy, local: Local, url: str, faults: FaultPlan, workers: int) -> str | None:
    """Reads an epoch under a plan; returns the message that stopped it, if one did."""
    proxy.plan(faults)
    taken: list[list[Batch]] = []
    message = None
    try:
        read_epoch(url, taken, deadline_s=PATIENT_S if faults.passing else BRIEF_S, workers=workers)
    except UserError as error:
        message = str(error)
    damaged = assert_right(taken, local.steps)
    assert message or len(taken) == len(local.steps)
    lasting = {
        key
        for fault in faults.faults
        if not FaultPlan(faults=(fault,)).passing
        for key in local.keys_at(fault)
    }
    assert damaged <= lasting
    return message


def assert_plan_is_followed(proxy: FaultProxy, local: Local, url: str, seed: int) -> None:
    prefix = url.split("/", 3)[3]
    objects = [(f"{prefix}/{path.name}", path.stat().st_size) for path in sorted(local.folder.iterdir())]
    faults = random_plan(seed, objects)
    print(f"seed {seed}: {faults}")  # noqa: T201  # shown where the test fails
    with within(20.0):
        message = follow(proxy, local, url, faults, workers=int(seed % 5 == 0))
    assert message is None or not faults.passing, message
    assert message is None or f"{url}/" in message


@pytest.mark.parametrize("seed", range(10))
def test_random_plan_yields_the_right_pairs_or_a_message_in_time(
    proxy: FaultProxy, local: Local, url: str, seed: int
) -> None:
    assert_plan_is_followed(proxy, local, url, seed)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10, 110))
def test_hundred_random_plans_yield_the_right_pairs_or_a_message_in_time(
    proxy: FaultProxy, local: Local, url: str, seed: int
) -> None:
    assert_plan_is_followed(proxy, local, url, seed)
