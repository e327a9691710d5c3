"""S3 through a proxy that misbehaves: the right bytes or a message in time, never anything else."""

import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from fault_proxy import Fault, FaultPlan, FaultProxy, Kind, random_plan
from s3_server import S3Env, S3Server, client_of, environment, proxying

from pack.storage import Retry, Store, open_store
from recon.errors import UserError

SIZE = 300_000
CUT = 131_071
TRICKLED = 4000  # bytes, more than come by a trickle within a share of the deadline
DATA = np.random.default_rng(0).bytes(SIZE)
GRACE_S = 5.0  # past a deadline, for a busy machine

Open = Callable[..., Store]


@pytest.fixture(scope="module")
def s3_env(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Env]:
    """One for all tests here, so that they can share stores: opening one takes .1 s."""
    with environment(s3, tmp_path_factory.mktemp("aws")) as env:
        yield env


@pytest.fixture(scope="module")
def shared_proxy(s3_env: S3Env) -> Iterator[FaultProxy]:
    s3_env.monkeypatch.setattr("pack.storage.retry._FIRST_PAUSE_S", 0.05)  # to be done sooner
    with proxying(s3_env) as proxy:
        yield proxy


@pytest.fixture
def proxy(shared_proxy: FaultProxy) -> Iterator[FaultProxy]:
    """The shared one, without faults."""
    shared_proxy.plan()
    yield shared_proxy
    shared_proxy.plan()
    shared_proxy.accept()


@pytest.fixture(scope="module")
def patient(s3_env: S3Env, shared_proxy: FaultProxy) -> Open:  # noqa: ARG001  # that is where the stores lead
    """Gives a store behind the proxy with these limits."""

    @cache
    def open_it(deadline_s: float = 30.0, attempts: int = 8) -> Store:
        return open_store(s3_env.url, Retry(deadline_s=deadline_s, attempts=attempts))

    return open_it


@pytest.fixture
def store(patient: Open) -> Store:
    return patient()


@pytest.fixture
def name(s3_env: S3Env) -> str:
    """An object of this test alone that holds `DATA`."""
    name = f"{uuid.uuid4().hex[:8]}.tar"
    s3_env.put(name, DATA)
    return name


@pytest.fixture
def new() -> str:
    """The name of an object that is not there yet."""
    return f"{uuid.uuid4().hex[:8]}.tar"


@contextmanager
def within(deadline_s: float) -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < deadline_s + GRACE_S


def plan(proxy: FaultProxy, name: str, *faults: Fault) -> None:
    """Has the faults strike that object alone: a request that an earlier test gave up may come late."""
    proxy.plan(*(replace(fault, key=name) for fault in faults))


def assert_all_struck(proxy: FaultProxy, fault: Fault) -> None:
    """Else the test proved nothing."""
    assert sum(one.fault is not None for one in proxy.log) == fault.times


def put(store: Store, name: str, data: bytes, **options: bool) -> None:
    with store.publish(name, **options) as file:
        file.write(data)


# The proxy itself


def test_proxy_changes_nothing_by_itself(proxy: FaultProxy, s3_env: S3Env) -> None:
    with client_of(s3_env.server, endpoint=proxy.endpoint) as client:
        target = {"Bucket": s3_env.bucket, "Key": s3_env.key("Grüße +&=.tar")}
        client.put_object(**target, Body=DATA)
        assert client.head_object(**target)["ContentLength"] == SIZE
        assert client.get_object(**target)["Body"].read() == DATA
        assert client.get_object(**target, Range="bytes=7-99")["Body"].read() == DATA[7:100]
    assert [(one.method, one.status, one.sent) for one in proxy.log] == [
        ("PUT", 200, 0),
        ("HEAD", 200, 0),
        ("GET", 200, SIZE),
        ("GET", 206, 93),
    ]
    assert {one.path for one in proxy.log} == {f"/{s3_env.bucket}/{s3_env.key('Grüße +&=.tar')}"}
    assert s3_env.get("Grüße +&=.tar") == DATA


def test_plan_is_a_function_of_its_seed_and_its_repr_can_be_run_again() -> None:
    objects = [("a.tar", SIZE), ("b.tar", 5)]
    for seed in range(100):
        plan = random_plan(seed, objects)
        assert (
            plan == random_plan(seed, objects) == eval(repr(plan), {"Fault": Fault, "FaultPlan": FaultPlan})
        )
        assert random_plan(seed, objects, passing=True).passing
        assert not random_plan(seed, objects, passing=False).passing
        assert random_plan(seed, objects, passing=True).strikes <= 6
        assert random_plan(seed, objects, passing=True).seconds <= 3.0


# Single faults that pass

PASSING = {  # with the first byte that each request asks for
    "throttled": (Fault(kind="status", status=503, times=2, offset=CUT), [0, 0, 0]),
    "too many": (Fault(kind="status", status=429, times=2, offset=CUT), [0, 0, 0]),
    "error": (Fault(kind="status", status=500, times=2, offset=CUT), [0, 0, 0]),
    "timeout": (Fault(kind="status", status=408, offset=CUT), [0, 0]),
    "reset before": (Fault(kind="reset_head", times=2, offset=CUT), [0, 0, 0]),
    "lost": (Fault(kind="lost_reply", times=2, offset=CUT), [0, 0, 0]),
    "reset": (Fault(kind="reset", offset=CUT), [0, CUT]),
    "reset twice": (Fault(kind="reset", times=2, offset=CUT), [0, CUT, CUT]),
    "closed": (Fault(kind="close", offset=CUT), [0, CUT]),
    "closed at once": (Fault(kind="close", offset=0), [0, 0]),
    "closed at the last byte": (Fault(kind="close", offset=SIZE - 1), [0, SIZE - 1]),
    "short": (Fault(kind="short", offset=CUT), [0, CUT]),
    "empty": (Fault(kind="short", offset=0), [0, 0]),
    "wrong range": (Fault(kind="short_range", times=2, offset=0), [0, 0, 0]),
    "slow start": (Fault(kind="stall_head", seconds=0.3, offset=CUT), [0]),
    "pause": (Fault(kind="stall", seconds=0.3, offset=CUT), [0]),
    "slow for a while": (Fault(kind="trickle", seconds=0.3, offset=CUT), [0]),
    "slow head": (Fault(kind="trickle_head", seconds=0.3, offset=CUT), [0]),
}


@pytest.mark.parametrize("case", PASSING)
def test_read_survives_what_passes_and_goes_on_where_it_was(
    proxy: FaultProxy, store: Store, name: str, case: str
) -> None:
    fault, starts = PASSING[case]
    plan(proxy, name, fault)
    assert store.read_range(name, 0, SIZE) == DATA
    assert proxy.starts(name) == starts
    assert_all_struck(proxy, fault)
    assert sum(one.sent for one in proxy.requests(name) if one.status == 206) == SIZE  # no byte twice


def test_read_survives_an_answer_of_a_shorter_range(proxy: FaultProxy, store: Store, name: str) -> None:
    """HTTP allows it: its bytes may be used or asked for again."""
    plan(proxy, name, Fault(kind="short_range", offset=CUT))
    assert store.read_range(name, 0, SIZE) == DATA
    assert proxy.starts(name) in ([0, 0], [0, CUT])


def test_nothing_is_read_out_of_a_head_that_was_cut(
    proxy: FaultProxy, s3_env: S3Env, patient: Open, name: str
) -> None:
    """http.client takes what came of it for the whole: a wrong size, a missing ETag, an empty list."""
    store = patient()
    for head in range(7, 400, 53):
        plan(proxy, name, Fault(kind="cut_head", head=head))
        assert store.read_range(name, head, 999) == DATA[head : head + 999]
        plan(proxy, name, Fault(kind="cut_head", head=head, method="HEAD"))
        assert store.size(name) == SIZE
        plan(proxy, s3_env.bucket, Fault(kind="cut_head", head=head))
        assert name in store.names()
        plan(proxy, f"{head}", Fault(kind="cut_head", head=head, method="PUT"))
        put(store, f"head-{head}", DATA[:head])
        assert s3_env.get(f"head-{head}") == DATA[:head]


HANGING = {
    "no answer": Fault(kind="stall_head", offset=CUT),
    "no end": Fault(kind="stall", offset=CUT),
    "endless head": Fault(kind="trickle_head", offset=CUT),
    "trickle": Fault(kind="trickle", offset=CUT),
}


@pytest.mark.parametrize("case", HANGING)
def test_read_leaves_a_connection_that_hangs(proxy: FaultProxy, patient: Open, name: str, case: str) -> None:
    plan(proxy, name, HANGING[case])
    with within(3.0):
        assert patient(deadline_s=3.0).read_range(name, 0, SIZE) == DATA
    assert_all_struck(proxy, HANGING[case])
    first, second, *_ = proxy.starts(name)
    assert first == 0
    if HANGING[case].kind in ("stall", "trickle"):
        assert CUT <= second < CUT + TRICKLED
    else:
        assert second == 0
    assert proxy.sent(name) < SIZE + TRICKLED


def test_read_waits_while_connections_are_refused(proxy: FaultProxy, patient: Open, name: str) -> None:
    plan(proxy, name, Fault(kind="refuse", seconds=0.3, offset=CUT))
    assert patient(attempts=30).read_range(name, 0, SIZE) == DATA


def test_several_faults_of_one_read_are_survived(proxy: FaultProxy, store: Store, name: str) -> None:
    plan(
        proxy,
        name,
        Fault(kind="reset", offset=1000),
        Fault(kind="short", offset=50_000),
        Fault(kind="close", offset=CUT),
        Fault(kind="status", offset=200_000),
    )
    assert store.read_range(name, 10, SIZE - 20) == DATA[10:-10]
    assert proxy.starts(name) == [10, 1000, 50_000, CUT, CUT]


def test_long_read_is_made_of_short_requests_and_repeats_none_of_their_bytes(
    proxy: FaultProxy, s3_env: S3Env, store: Store, new: str
) -> None:
    mib = 1 << 20
    data = DATA * 63  # a little more than 18 MiB
    s3_env.put(new, data)
    assert store.read_range(new, mib, 17 * mib) == data[mib : 18 * mib]
    assert proxy.starts(new) == [1 * mib, 9 * mib, 17 * mib]
    plan(proxy, new, Fault(kind="close", offset=4 * mib))
    assert store.read_range(new, mib, 17 * mib) == data[mib : 18 * mib]
    assert proxy.starts(new)[:2] == [1 * mib, 4 * mib]
    assert proxy.sent(new) == 17 * mib


def test_every_request_after_the_first_asks_for_the_same_version(
    proxy: FaultProxy, store: Store, name: str
) -> None:
    store.read_range(name, 0, 10)
    store.read_range(name, 10, 10)
    first, second = proxy.requests(name)
    assert first.if_match is None
    assert second.if_match


# Single faults that last

LASTING = {
    "throttled": (Fault(kind="status", status=503, times=None, offset=CUT), "throttled"),
    "error": (Fault(kind="status", status=500, times=None, offset=CUT), "server error"),
    "reset before": (Fault(kind="reset_head", times=None, offset=CUT), "connection"),
    "reset": (Fault(kind="reset", times=None, offset=CUT), "connection"),
    "closed": (Fault(kind="close", times=None, offset=CUT), "early|connection"),
    "short": (Fault(kind="short", times=None, offset=CUT), "early|short"),
    "wrong range": (Fault(kind="short_range", times=None), "Content-Range|early"),
    "no answer": (Fault(kind="stall_head", times=None, offset=CUT), "silent|not done"),
    "no end": (Fault(kind="stall", times=None, offset=CUT), "silent|not done"),
    "endless head": (Fault(kind="trickle_head", times=None, offset=CUT), "silent|not done"),
    "trickle": (Fault(kind="trickle", times=None), "silent|not done"),
    "refused": (Fault(kind="refuse", times=None, offset=CUT), "can't reach endpoint|connection"),
}


@pytest.mark.parametrize("case", LASTING)
def test_read_gives_up_in_time_and_says_what_where_and_how_often(
    proxy: FaultProxy, s3_env: S3Env, patient: Open, name: str, case: str
) -> None:
    fault, cause = LASTING[case]
    plan(proxy, name, fault)
    with within(1.0), pytest.raises(UserError) as caught:
        patient(deadline_s=1.0, attempts=3).read_range(name, 0, SIZE)
    told = rf"can't read {s3_env.url}/{name}, bytes \d+ to {SIZE - 1}: .*({cause}).* after \d+ attempts"
    assert re.match(told, str(caught.value))


def test_read_asks_no_more_often_than_the_attempts_allow(proxy: FaultProxy, patient: Open, name: str) -> None:
    plan(proxy, name, Fault(kind="status", status=503, times=None))
    with pytest.raises(UserError, match="gave up after 3 attempts"):
        patient(attempts=3).read_range(name, 0, SIZE)
    assert proxy.starts(name) == [0, 0, 0]


@pytest.mark.parametrize(("status", "told"), [(403, "no permission for"), (404, "not found")])
def test_final_answers_are_not_asked_again(
    proxy: FaultProxy, store: Store, name: str, status: int, told: str
) -> None:
    plan(proxy, name, Fault(kind="status", status=status, offset=CUT))
    with pytest.raises(UserError, match=told) as caught:
        store.read_range(name, 0, SIZE)
    assert f"{store.url}/{name}" in str(caught.value)
    assert proxy.starts(name) == [0]


# Replaced objects


def test_object_replaced_between_two_reads_is_an_error_that_says_so(
    proxy: FaultProxy, store: Store, name: str
) -> None:
    assert store.read_range(name, 0, 1000) == DATA[:1000]
    plan(proxy, name, Fault(kind="replace"))
    for start in (1000, 0):
        with pytest.raises(UserError, match=rf"{name} was replaced while this run reads it"):
            store.read_range(name, start, 1000)
    assert [one.status for one in proxy.requests(name)] == [412, 412]


def test_object_replaced_within_a_read_is_an_error_that_says_so(
    proxy: FaultProxy, store: Store, name: str
) -> None:
    plan(proxy, name, Fault(kind="reset", offset=CUT), Fault(kind="replace", offset=CUT + 1))
    with pytest.raises(UserError, match=rf"{name} was replaced while this run reads it"):
        store.read_range(name, 0, SIZE)
    assert [one.status for one in proxy.requests(name)] == [206, 412]


def test_whole_read_of_an_object_that_is_replaced_meanwhile_is_of_one_version(
    proxy: FaultProxy, s3_env: S3Env, store: Store, name: str
) -> None:
    plan(proxy, name, Fault(kind="reset", offset=CUT), Fault(kind="replace", offset=CUT + 1))
    assert store.read(name) == s3_env.get(name) != DATA


# Other requests than reads


@pytest.mark.parametrize("kind", ["status", "reset_head", "lost_reply"])
def test_size_and_exists_survive_what_passes(
    proxy: FaultProxy, store: Store, name: str, new: str, kind: Kind
) -> None:
    fault = Fault(kind=kind, times=2, method="HEAD")
    plan(proxy, name, fault)
    assert store.size(name) == SIZE
    assert_all_struck(proxy, fault)
    plan(proxy, name, fault)
    assert store.exists(name)
    plan(proxy, new, fault)
    assert not store.exists(new)
    assert_all_struck(proxy, fault)


@pytest.mark.parametrize("status", [403, 500, 503])
def test_exists_never_takes_a_failure_for_no(
    proxy: FaultProxy, patient: Open, name: str, status: int
) -> None:
    verbs = ("HEAD", "GET")
    plan(proxy, name, *(Fault(kind="status", status=status, times=None, method=verb) for verb in verbs))
    with pytest.raises(UserError, match=name):
        patient(attempts=3).exists(name)


@pytest.mark.parametrize(
    ("kind", "offset"),
    [
        *(("status", 0), ("reset_head", 0), ("reset", 900), ("close", 900), ("short", 900)),
        *(("close", 0), ("short", 0)),  # botocore takes no text at all for an empty list
    ],
)
def test_names_survive_what_passes_and_are_never_cut(
    proxy: FaultProxy, s3_env: S3Env, store: Store, kind: Kind, offset: int
) -> None:
    for number in range(5):
        s3_env.put(f"few-{number}.tar", b"x")
    plan(proxy, s3_env.bucket, Fault(kind=kind, offset=offset, times=2))
    names = store.names()
    assert names == sorted(names)
    assert [name for name in names if name.startswith("few")] == [f"few-{number}.tar" for number in range(5)]
    assert len(proxy.requests(s3_env.bucket)) == 3


UPLOADS = {
    "throttled": Fault(kind="status", status=503, times=2, method="PUT"),
    "error": Fault(kind="status", status=500, times=2, method="PUT"),
    "reset": Fault(kind="reset_head", times=2, method="PUT"),
    "lost answer": Fault(kind="lost_reply", times=2, method="PUT"),
    "no answer": Fault(kind="stall_head", method="PUT"),
    "refused": Fault(kind="refuse", seconds=0.3, method="PUT"),
}


@pytest.mark.parametrize("case", UPLOADS)
def test_publishing_survives_what_passes(
    proxy: FaultProxy, s3_env: S3Env, patient: Open, new: str, case: str
) -> None:
    plan(proxy, new, UPLOADS[case])
    put(patient(deadline_s=3.0, attempts=30), new, DATA, create=True)
    assert s3_env.get(new) == DATA
    assert_all_struck(proxy, UPLOADS[case])


@pytest.mark.parametrize("kind", ["status", "lost_reply"])
def test_publishing_in_parts_survives_what_passes(
    proxy: FaultProxy, s3_env: S3Env, store: Store, new: str, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pack.storage.s3_write.PART", 5 << 20)  # the least that S3 takes
    data = DATA * 20
    plan(proxy, new, Fault(kind=kind, method="POST"), Fault(kind=kind, times=2, method="PUT"))
    put(store, new, data)
    assert s3_env.get(new) == data
    assert sum(one.fault is not None for one in proxy.log) == 3


@pytest.mark.parametrize(("kind", "create"), [("lost_reply", False), ("lost_reply", True), ("close", True)])
def test_lost_answer_to_completing_the_parts_is_a_success(
    proxy: FaultProxy,
    s3_env: S3Env,
    store: Store,
    new: str,
    kind: Kind,
    create: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pack.storage.s3_write.PART", 5 << 20)
    data = DATA * 20
    lost = Fault(kind=kind, times=1 if kind == "close" else 2, method="POST", query="uploadId")
    plan(proxy, new, lost)
    put(store, new, data, create=create)
    assert s3_env.get(new) == data
    assert_all_struck(proxy, lost)


def test_lost_answer_is_no_excuse_for_other_content(
    proxy: FaultProxy, s3_env: S3Env, store: Store, new: str
) -> None:
    def race() -> None:
        with store.publish(new, create=True) as file:
            file.write(DATA)
            s3_env.put(new, DATA[::-1])
            plan(proxy, new, Fault(kind="lost_reply", method="PUT"))

    with pytest.raises(UserError, match=rf"{new} exists already with other content"):
        race()
    assert s3_env.get(new) == DATA[::-1]


@pytest.mark.parametrize("kind", ["status", "reset_head", "stall_head"])
def test_publishing_gives_up_in_time_and_leaves_nothing(
    proxy: FaultProxy, s3_env: S3Env, patient: Open, new: str, kind: Kind
) -> None:
    plan(proxy, new, Fault(kind=kind, times=None, method="PUT"))
    with within(1.0), pytest.raises(UserError, match=rf"can't write .*{new}: .* after \d+ attempts"):
        put(patient(deadline_s=1.0, attempts=3), new, b"data")
    assert new not in s3_env.keys()


# Plans of several faults


@pytest.mark.parametrize("seed", range(6))
def test_random_plan_yields_the_right_bytes_or_a_message_in_time(
    proxy: FaultProxy, s3_env: S3Env, patient: Open, name: str, seed: int
) -> None:
    faults = random_plan(seed, [(name, SIZE)], flips=False)
    print(faults)  # noqa: T201  # shown where the test fails
    proxy.plan(faults)
    deadline_s = 10.0 if faults.passing else 1.0
    store = patient(deadline_s=deadline_s, attempts=30)  # a refusal uses up many, as pauses are short here
    failure = None
    for start in range(0, SIZE, 50_000):
        try:
            with within(deadline_s):
                assert store.read_range(name, start, 50_000) == DATA[start : start + 50_000]
        except UserError as error:
            failure = str(error)
            break
    assert failure is None or not faults.passing, failure
    assert failure is None or f"{s3_env.url}/{name}" in failure


def test_reads_in_parallel_under_faults_are_all_exact(proxy: FaultProxy, store: Store, name: str) -> None:
    kinds: list[Kind] = ["reset", "close", "short", "status", "reset_head", "lost_reply"]
    faults = [Fault(kind=kind, offset=17_000 * number) for number, kind in enumerate(kinds * 2)]
    plan(proxy, name, *faults)
    spans = [(start, 90_000) for start in range(0, 200_000, 10_000)]  # each covers six faults at most
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda span: store.read_range(name, *span), spans))
    assert found == [DATA[start : start + length] for start, length in spans]
    assert sum(one.fault is not None for one in proxy.log) == len(faults)


def test_proxy_leaves_no_thread_behind(s3_env: S3Env, name: str) -> None:
    before = [thread.name for thread in threading.enumerate()].count("fault-proxy-client")
    with FaultProxy(s3_env.server.address) as other:
        other.plan(Fault(kind="stall", offset=CUT, times=None))
        with client_of(s3_env.server, endpoint=other.endpoint) as client:
            body = client.get_object(Bucket=s3_env.bucket, Key=s3_env.key(name))["Body"]
            assert body.read(1000) == DATA[:1000]
    assert not other._acceptor.is_alive()
    assert [thread.name for thread in threading.enumerate()].count("fault-proxy-client") <= before
    body.close()
