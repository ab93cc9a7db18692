"""Retries are decided by error class, number and deadline; delays grow, jitter and stay bounded."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.retry import LONGEST_DELAY_S, Again, Final, backoff_s, decide
from sandpool.outcome import Ending, ErrorInfo
from workers.attempt import Attempt

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def ended(ending: Ending, *, retryable: bool = False) -> Attempt:
    error = None if ending is Ending.Succeeded else ErrorInfo("some.code", "why", retryable=retryable)
    return Attempt(job_id="j", attempt_id="1-a", ending=ending, error=error)


@pytest.mark.parametrize("ending", [ending for ending in Ending if ending is not Ending.Lost])
def test_an_ending_without_a_retryable_error_is_final(ending: Ending) -> None:
    assert decide(ended(ending), 1, 10, None, NOW, 0.5) == Final()


@given(st.integers(1, 200), st.integers(1, 100), st.floats(0, 0.999))
def test_retryable_errors_come_back_until_the_attempts_are_used_up(number: int, most: int, jitter: float) -> None:
    decision = decide(ended(Ending.Failed, retryable=True), number, most, None, NOW, jitter)
    assert isinstance(decision, Again) == (number < most)


def test_a_lost_worker_is_retried_even_without_an_error() -> None:
    attempt = Attempt(job_id="j", attempt_id="1-a", ending=Ending.Lost)
    assert decide(attempt, 1, 3, None, NOW, 0.0) == Again(backoff_s(1, 0.0), "worker.lost")


@given(st.integers(1, 200))
def test_a_statement_that_never_began_waits_without_using_up_attempts(number: int) -> None:
    error = ErrorInfo("pool.busy", "no connection came free", retryable=True)
    attempt = Attempt(job_id="j", attempt_id="1-a", ending=Ending.Failed, error=error)
    decision = decide(attempt, number, 1, None, NOW, 0.0)
    assert isinstance(decision, Again) and decision.code.startswith("placement.")


def test_no_retry_starts_after_the_deadline() -> None:
    soon = NOW + timedelta(seconds=0.4)
    assert decide(ended(Ending.Failed, retryable=True), 1, 3, soon, NOW, 0.9) == Final()


@given(st.integers(1, 10_000), st.floats(0, 0.999), st.floats(0, 0.999))
def test_delays_grow_and_stay_bounded(number: int, jitter: float, other: float) -> None:
    assert 0 < backoff_s(number, jitter) <= LONGEST_DELAY_S
    assert backoff_s(number, 0.0) <= backoff_s(number + 1, 0.0)
    assert backoff_s(number, other) <= 2 * backoff_s(number, jitter)
