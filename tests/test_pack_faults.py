"""S3 through a proxy that misbehaves: the right bytes or a message in time, never anything else."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from fault_proxy import Fault, FaultPlan, FaultProxy, Kind, random_plan
from pack_faults import (  # noqa: F401  # fixtures
    Open,
    assert_all_struck,
    deadline_of,
    new_name,
    patient_opener,
    patient_store,
    plan,
    stored_name,
    within,
)
from pack_objects import DATA, SIZE, put
from s3_server import (  # noqa: F401  # fixtures
    S3Env,
    client_of,
    module_proxy,
    module_s3_env,
    shared_proxy,
)

from pack.storage import Store
from recon.base.errors import UserError

CUT = 131_071
TRICKLED = 4000  # bytes, more than come by a trickle within a share of the deadline

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
    with within(12.0):
        assert patient(deadline_s=12.0).read_range(name, 0, SIZE) == DATA
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
    deadline_s = deadline_of(fault)
    with within(deadline_s), pytest.raises(UserError) as caught:
        patient(deadline_s=deadline_s, attempts=3).read_range(name, 0, SIZE)
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


# Plans of several faults


@pytest.mark.parametrize("seed", range(6))
def test_random_plan_yields_the_right_bytes_or_a_message_in_time(
    proxy: FaultProxy, s3_env: S3Env, patient: Open, name: str, seed: int
) -> None:
    faults = random_plan(seed, [(name, SIZE)], flips=False)
    print(faults)  # noqa: T201  # shown where the test fails
    proxy.plan(faults)
    deadline_s = 60.0 if faults.passing else 3.0
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
