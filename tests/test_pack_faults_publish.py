"""Publishing to S3 through a proxy that misbehaves: the whole object or a message in time."""

import pytest
from fault_proxy import Fault, FaultProxy, Kind
from pack_faults import (  # noqa: F401  # fixtures
    Open,
    assert_all_struck,
    deadline_of,
    new_name,
    patient_opener,
    patient_store,
    plan,
    within,
)
from pack_objects import DATA, put
from s3_server import (  # noqa: F401  # fixtures
    S3Env,
    module_proxy,
    module_s3_env,
    shared_proxy,
)

from pack.storage import Store
from recon.base.errors import UserError

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
    deadline_s = 12.0 if UPLOADS[case].kind == "stall_head" else 60.0
    put(patient(deadline_s=deadline_s, attempts=30), new, DATA, create=True)
    assert s3_env.get(new) == DATA
    assert_all_struck(proxy, UPLOADS[case])


def test_creating_works_on_a_store_that_knows_no_conditions(
    proxy: FaultProxy, s3_env: S3Env, store: Store, new: str
) -> None:
    refusal = Fault(kind="status", status=501, method="PUT")
    plan(proxy, new, refusal)
    put(store, new, b"small", create=True)
    assert_all_struck(proxy, refusal)
    plan(proxy, new)
    with pytest.raises(UserError, match="exists already with other content"):
        put(store, new, b"other", create=True)
    assert s3_env.get(new) == b"small"


def test_other_requests_that_a_store_does_not_know_are_told(
    proxy: FaultProxy, store: Store, new: str
) -> None:
    plan(proxy, new, Fault(kind="status", status=501, method="PUT", times=None))
    for create in (False, True):
        with pytest.raises(UserError, match="refused the request"):
            put(store, new, b"small", create=create)


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
    fault = Fault(kind=kind, times=None, method="PUT")
    plan(proxy, new, fault)
    deadline_s = deadline_of(fault)
    with within(deadline_s), pytest.raises(UserError, match=rf"can't write .*{new}: .* after \d+ attempts"):
        put(patient(deadline_s=deadline_s, attempts=3), new, b"data")
    assert new not in s3_env.keys()
