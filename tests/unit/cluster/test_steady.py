"""A clock that is set ahead makes nothing old at once; one that runs as clocks do is believed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from cluster.steady import TOLERANCE, SteadyClock

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
steps = st.lists(st.tuples(st.floats(0, 1000), st.floats(-1e6, 1e6)), max_size=20)


def test_a_jump_ahead_is_believed_only_after_a_while() -> None:
    clock = SteadyClock(NOON, 0.0, settle_s=3600)
    ahead = NOON + timedelta(days=3)
    assert clock.now(ahead, 10.0) == NOON + timedelta(seconds=10)
    assert clock.now(ahead + timedelta(seconds=3000), 3010.0) == NOON + timedelta(seconds=3010)
    later = ahead + timedelta(seconds=3700)
    assert clock.now(later, 3710.0) == later


def test_a_clock_that_was_set_back_or_goes_a_little_wrong_is_believed() -> None:
    clock = SteadyClock(NOON, 0.0, settle_s=3600)
    for passed_s, wall in ((10, NOON + timedelta(seconds=40)), (20, NOON - timedelta(days=1))):
        assert clock.now(wall, passed_s) == wall


@given(steps)
def test_between_two_readings_no_more_time_goes_by_than_did(moves: list[tuple[float, float]]) -> None:
    clock = SteadyClock(NOON, 0.0, settle_s=1e9)
    wall, passed_s, before = NOON, 0.0, NOON
    for went_s, jump_s in moves:
        passed_s += went_s
        wall = wall + timedelta(seconds=went_s + jump_s)
        now = clock.now(wall, passed_s)
        assert now <= wall
        assert now - before <= timedelta(seconds=went_s) + TOLERANCE
        before = now
