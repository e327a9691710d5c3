"""Attempts end at their deadline, go on while bytes come, and tell why they gave up."""

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pack.storage import Retry
from pack.storage.retry import Attempts, Clock, TransientError, bounded
from recon.base.errors import UnreachableError, UserError


class Hours:
    """A clock whose time passes only in pauses and by `pass_s`."""

    def __init__(self) -> None:
        self.time_s = 0.0
        self.pauses: list[float] = []

    def pass_s(self, seconds: float) -> None:
        self.time_s += seconds

    def clock(self) -> Clock:
        def sleep(seconds: float) -> None:
            self.pauses.append(seconds)
            self.pass_s(seconds)

        return Clock(now=lambda: self.time_s, sleep=sleep, draw=lambda top: top)


def fail(_: float) -> None:
    raise TransientError("server error (500)")


def test_pauses_double_up_to_ten_seconds() -> None:
    hours = Hours()
    attempts = Attempts(Retry(deadline_s=1000, attempts=9), clock=hours.clock())
    with pytest.raises(UserError):
        attempts.run(fail, "can't read x")
    assert hours.pauses == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]


def test_giving_up_tells_what_why_how_often_and_how_long() -> None:
    attempts = Attempts(Retry(deadline_s=60, attempts=3), clock=Hours().clock())
    expected = (
        r"^can't read s3://b/x, bytes 0 to 9: server error \(500\); gave up after 3 attempts in 0\.6 s "
        r"\(deadline 60 s, 3 attempts without progress\)$"
    )
    with pytest.raises(UnreachableError, match=expected) as error:
        attempts.run(fail, "can't read s3://b/x, bytes 0 to 9")
    assert error.value.__cause__ is None
    assert error.value.__context__ is None


def test_requests_that_belong_together_share_one_end() -> None:
    hours = Hours()
    for _ in range(3):
        attempts = Attempts(Retry(deadline_s=60, attempts=99), clock=hours.clock(), until=60.0)
        with pytest.raises(UserError, match="can't read x: server error"):
            attempts.run(fail, "can't read x")
        assert hours.time_s <= 60.0


def test_request_that_begins_after_the_end_is_made_once() -> None:
    hours, limits = Hours(), []
    hours.pass_s(100.0)

    def attempt(limit_s: float) -> None:
        limits.append(limit_s)
        raise TransientError("not done")

    with pytest.raises(UserError, match=r"not done; gave up after 1 attempts in 0\.0 s"):
        Attempts(Retry(), clock=hours.clock(), until=99.0).run(attempt, "can't read x")
    assert limits == [0.001]


@given(deadline_s=st.floats(0.1, 100), duration_s=st.floats(0.01, 30), gained=st.integers(0, 1 << 20))
def test_no_attempt_and_no_pause_outlives_the_deadline(
    deadline_s: float, duration_s: float, gained: int
) -> None:
    hours, received = Hours(), [0]
    attempts = Attempts(Retry(deadline_s=deadline_s), clock=hours.clock())

    def slow(limit_s: float) -> None:
        hours.pass_s(min(duration_s, limit_s))
        received[0] += gained
        fail(limit_s)

    with pytest.raises(UserError, match="gave up after"):
        attempts.run(slow, "can't read x", lambda: received[0])
    assert hours.time_s <= deadline_s + 0.0011


def test_attempts_that_bring_bytes_are_not_counted() -> None:
    hours, received = Hours(), [0]

    def piece(limit_s: float) -> str:
        received[0] += 1 << 20
        if received[0] < 50 << 20:
            fail(limit_s)
        return "whole"

    attempts = Attempts(Retry(attempts=2), clock=hours.clock())
    assert attempts.run(piece, "can't read x", lambda: received[0]) == "whole"


def test_an_attempt_has_a_share_of_the_deadline() -> None:
    limits: list[float] = []
    attempts = Attempts(Retry(deadline_s=60), share=4, clock=Hours().clock())
    attempts.run(limits.append, "can't read x")
    assert limits == [15.0]


@pytest.mark.parametrize("wrong", [{"deadline_s": 0}, {"deadline_s": -1.0}, {"attempts": 0}])
def test_limits_that_allow_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="expected deadline_s > 0 and attempts >= 1"):
        Retry(**wrong)


def test_errors_that_time_does_not_mend_end_the_attempts_at_once() -> None:
    calls: list[float] = []

    def refused(limit_s: float) -> None:
        calls.append(limit_s)
        raise UserError("no permission")

    with pytest.raises(UserError, match="no permission"):
        Attempts(Retry()).run(refused, "can't read x")
    assert len(calls) == 1


def test_call_that_hangs_is_given_up_in_time() -> None:
    release = threading.Event()  # were the call waited for, the test would not end
    with pytest.raises(TransientError, match=r"not done within 0\.1 s"):
        bounded(release.wait, 0.1)
    release.set()


def test_exceptions_of_others_leave_no_trace_in_ours() -> None:
    def leak() -> None:
        raise RuntimeError("Authorization: AWS4 Signature=geheim")

    with pytest.raises(TransientError) as error:
        bounded(leak, 10, lambda _: TransientError("connection broke"))
    assert error.value.__cause__ is None
    assert error.value.__context__ is None
