"""A node that keeps failing rests: not after one mishap, longer each time, never for ever."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster.placement import Need, Node, Placed, PoolView, Wait, place
from cluster.placement.circuit import FIRST_REST_S, LONE_REST_S, LONGEST_REST_S, rest_until, why_avoided

moments = st.lists(st.floats(0, 10_000), max_size=30).map(sorted)


def test_two_failures_are_mishaps_and_three_within_a_minute_are_a_pattern() -> None:
    assert rest_until([0, 5]) == 0
    assert rest_until([0, 40, 80]) == 0
    assert rest_until([0, 5, 10]) == 10 + FIRST_REST_S


def test_each_failure_after_a_rest_doubles_the_next_one() -> None:
    assert [rest_until([0, 5, 10, *more]) - (more[-1] if more else 10) for more in ([], [30], [30, 70])] == [
        FIRST_REST_S,
        2 * FIRST_REST_S,
        4 * FIRST_REST_S,
    ]


def test_a_node_that_was_in_order_for_ten_minutes_starts_anew() -> None:
    assert rest_until([0, 5, 10, 11 + LONGEST_REST_S]) == 0


@given(moments)
def test_a_rest_ends_at_most_ten_minutes_after_the_last_failure(failures: list[float]) -> None:
    until = rest_until(failures)
    assert until == 0 or failures[-1] < until <= failures[-1] + LONGEST_REST_S
    if failures:
        assert why_avoided(failures, failures[-1] + LONGEST_REST_S + 1) == ""


@given(moments)
def test_where_no_node_is_in_order_none_rests_for_long(failures: list[float]) -> None:
    if failures:
        assert why_avoided(failures, failures[-1] + LONE_REST_S + 1, others=False) == ""
        assert not why_avoided(failures, failures[-1] + 1, others=False) or why_avoided(failures, failures[-1] + 1)


@given(moments)
def test_one_more_failure_never_lets_a_resting_node_back_sooner(failures: list[float]) -> None:
    until = rest_until(failures)
    if until:
        assert rest_until([*failures, failures[-1]]) >= until


def test_an_avoided_node_gets_nothing_while_another_has_room_and_nothing_alone() -> None:
    resting = Node("a", {"flights": PoolView(4)}, avoided=why_avoided([0, 1, 2], 3))
    other = Node("b", {"flights": PoolView(4, 3)})
    assert place(Need("flights"), [resting, other]) == Placed("b")
    answer = place(Need("flights"), [resting])
    assert isinstance(answer, Wait) and "left alone for 14 s" in answer.reason
