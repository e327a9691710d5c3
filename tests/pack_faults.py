"""Stores behind a proxy that misbehaves, for the tests of S3 under faults."""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache

import pytest
from fault_proxy import Fault, FaultProxy
from pack_objects import DATA
from s3_server import S3Env

from pack.storage import Retry, Store, open_store

GRACE_S = 60.0  # past a deadline: less than a hang, more than a busy machine takes

Open = Callable[..., Store]


@pytest.fixture(scope="module", name="patient")
def patient_opener(s3_env: S3Env, shared_proxy: FaultProxy) -> Open:  # noqa: ARG001  # that is where the stores lead
    """Gives a store behind the proxy with these limits."""
    s3_env.monkeypatch.setattr("pack.storage.retry._FIRST_PAUSE_S", 0.05)  # to be done sooner

    @cache
    def open_it(deadline_s: float = 30.0, attempts: int = 8) -> Store:
        return open_store(s3_env.url, Retry(deadline_s=deadline_s, attempts=attempts))

    return open_it


@pytest.fixture(name="store")
def patient_store(patient: Open) -> Store:
    return patient()


@pytest.fixture(name="name")
def stored_name(s3_env: S3Env) -> str:
    """An object of this test alone that holds `DATA`."""
    name = f"{uuid.uuid4().hex[:8]}.tar"
    s3_env.put(name, DATA)
    return name


@pytest.fixture(name="new")
def new_name() -> str:
    """The name of an object that is not there yet."""
    return f"{uuid.uuid4().hex[:8]}.tar"


def deadline_of(fault: Fault) -> float:
    """Seconds to give a fault: one that hangs uses up its share, others end by their attempts."""
    return 5.0 if fault.kind.startswith(("stall", "trickle")) else 60.0


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
