"""Shares of tenants: in proportion to their weights, interactive first, nobody left waiting: `cluster.fairness`."""

from __future__ import annotations

from collections import Counter, deque

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cluster.fairness import BATCH_EVERY, OWED_TURNS, FairLine, Rate, Rooms

TENANTS = st.sampled_from("abcde")


def everyone(_tenant: str) -> bool:
    return True


class Line:
    """A FairLine with slots; a turn is given when one is free. Time is the number of turns."""

    def __init__(self, weights: dict[str, float], slots: int) -> None:
        self.fair: FairLine[int] = FairLine(lambda name: weights.get(name, 1.0))
        self.slots = slots
        self.held: deque[str] = deque()
        self._ticket = 0

    def join(self, tenant: str, interactive: bool = False) -> None:
        self._ticket += 1
        self.fair.join(tenant, self._ticket, interactive=interactive)

    def turn(self) -> tuple[str, bool] | None:
        """Who gets the next slot; the oldest holder gives one back first where none is free."""
        if len(self.held) == self.slots:
            self.fair.release(self.held.popleft())
        for tenant, interactive, ticket in self.fair.order(everyone):
            self.fair.grant(tenant, ticket, interactive=interactive)
            self.held.append(tenant)
            return tenant, interactive
        return None


@given(
    weights=st.dictionaries(TENANTS, st.floats(0.5, 4), min_size=2),
    slots=st.integers(1, 16),
    turns=st.integers(50, 150),
)
@example(weights={"a": 1.0, "b": 1.0, "c": 1.0, "d": 2.0}, slots=2, turns=50)
@settings(max_examples=min(40, settings.default.max_examples))
def test_tenants_who_always_wait_get_turns_in_proportion_to_their_weights(
    weights: dict[str, float], slots: int, turns: int
) -> None:
    line, got = Line(weights, slots), Counter[str]()
    for tenant in weights:
        line.join(tenant)
    for _ in range(turns):
        turn = line.turn()
        assert turn is not None
        got[turn[0]] += 1
        line.join(turn[0])
    for tenant, weight in weights.items():
        fair = turns * weight / sum(weights.values())
        assert abs(got[tenant] - fair) <= slots + 3


def test_who_was_away_has_only_a_few_turns_to_make_up_for() -> None:
    line = Line({"busy": 1.0, "back": 1.0}, 1)
    line.join("busy")
    for _ in range(1000):
        line.turn()
        line.join("busy")
    line.join("back")
    got = Counter[str]()
    for _ in range(40):
        turn = line.turn()
        assert turn is not None
        got[turn[0]] += 1
        line.join(turn[0])
    assert 20 <= got["back"] <= 20 + OWED_TURNS


@given(joins=st.lists(st.tuples(TENANTS, st.booleans()), min_size=1, max_size=60), slots=st.integers(1, 4))
def test_everyone_who_waits_gets_a_turn_and_each_tenants_line_is_in_order(
    joins: list[tuple[str, bool]], slots: int
) -> None:
    fair: FairLine[int] = FairLine(lambda _name: 1.0)
    for number, (tenant, interactive) in enumerate(joins):
        fair.join(tenant, number, interactive=interactive)
    served: list[int] = []
    while len(fair):
        tenant, interactive, ticket = next(fair.order(everyone))
        fair.grant(tenant, ticket, interactive=interactive)
        served.append(ticket)
    assert sorted(served) == list(range(len(joins)))
    for key in set(joins):
        mine = [number for number in served if joins[number] == key]
        assert mine == sorted(mine)


@given(flood=st.integers(1, 300), slots=st.integers(1, 8), weight=st.floats(0.1, 10))
def test_a_flood_of_batch_does_not_hold_up_another_tenants_interactive_job(
    flood: int, slots: int, weight: float
) -> None:
    line = Line({"flooder": weight}, slots)
    for _ in range(flood):
        line.join("flooder")
    for _ in range(slots):
        line.turn()
    line.join("other", interactive=True)
    assert line.turn() == ("other", True), "the very next slot"


def test_batch_has_every_eighth_turn_while_interactive_jobs_never_end() -> None:
    line = Line({}, 1)
    line.join("b")
    turns = []
    for _ in range(5 * BATCH_EVERY):
        line.join("a", interactive=True)
        turn = line.turn()
        assert turn is not None
        turns.append(turn)
        if turn == ("b", False):
            line.join("b")
    assert turns.count(("b", False)) == 5


def test_a_tenant_that_comes_and_goes_does_not_starve_one_that_stays() -> None:
    line, got = Line({}, 1), Counter[str]()
    line.join("stays")
    for _ in range(100):
        line.join("returns")
        turn = line.turn()
        assert turn is not None
        got[turn[0]] += 1
        if turn[0] == "stays":
            line.join("stays")
    assert got["stays"] >= 49


def test_long_jobs_of_one_tenant_leave_the_others_their_share_of_the_slots() -> None:
    fair: FairLine[int] = FairLine(lambda _name: 1.0)
    for number in range(40):
        fair.join("long", number, interactive=False)
        fair.join("short", 100 + number, interactive=False)
    running = Counter[str]()
    for _ in range(8):
        tenant, interactive, ticket = next(fair.order(everyone))
        fair.grant(tenant, ticket, interactive=interactive)
        running[tenant] += 1
    for _ in range(30):  # only the short ones ever end
        fair.release("short")
        running["short"] -= 1
        tenant, interactive, ticket = next(fair.order(everyone))
        fair.grant(tenant, ticket, interactive=interactive)
        running[tenant] += 1
    assert running["short"] >= 3


def test_a_tenant_that_may_not_go_is_passed_over() -> None:
    fair: FairLine[int] = FairLine(lambda _name: 1.0)
    fair.join("limited", 1, interactive=True)
    fair.join("free", 2, interactive=False)
    assert next(fair.order(lambda name: name != "limited"))[0] == "free"


@given(per_s=st.floats(0.1, 1000), gaps_s=st.lists(st.floats(0, 2), min_size=1, max_size=50))
def test_a_rate_is_kept_over_any_time(per_s: float, gaps_s: list[float]) -> None:
    rate, now_s, turns = Rate(per_s), 1000.0, 0
    for gap_s in gaps_s:
        now_s += gap_s
        while rate.ready_in_s(now_s) <= 0 and turns < 10_000:
            rate.spend(now_s)
            turns += 1
        assert rate.ready_in_s(now_s) <= 1 / per_s + 1e-9
    assert turns <= per_s * (now_s - 1000.0) + max(1.0, per_s) + 1


def test_a_turn_that_came_to_nothing_is_given_back() -> None:
    rate = Rate(1)
    rate.spend(0.0)
    assert rate.ready_in_s(0.0) == 1
    rate.refund()
    assert rate.ready_in_s(0.0) == 0


@given(prefetch=st.integers(1, 200), moves=st.lists(st.tuples(TENANTS, st.booleans()), max_size=400))
def test_a_place_is_always_free_for_what_lies_behind(prefetch: int, moves: list[tuple[str, bool]]) -> None:
    rooms, held = Rooms(prefetch), Counter[str]()
    for tenant, comes in moves:
        if comes:
            entered = rooms.enter(tenant)
            held[tenant] += entered
        elif held[tenant]:
            rooms.leave(tenant)
            held[tenant] -= 1
        assert prefetch - held.total() >= 1
        assert held[tenant] <= prefetch / 2 or not comes


@pytest.mark.parametrize(("prefetch", "alone", "behind_it"), [(64, 32, 16), (4, 2, 1), (1, 0, 0)])
def test_one_that_floods_has_half_the_prefetch_and_the_next_half_of_what_is_left(
    prefetch: int, alone: int, behind_it: int
) -> None:
    rooms = Rooms(prefetch)
    assert sum(rooms.enter("a") for _ in range(1000)) == alone
    assert sum(rooms.enter("b") for _ in range(1000)) == behind_it


def test_two_that_flood_come_to_hold_the_same() -> None:
    rooms, held = Rooms(60), Counter[str]()
    while rooms.enter("a"):
        held["a"] += 1
    for turn in range(500):
        for tenant in "ab" if turn % 2 else "ba":
            held[tenant] += rooms.enter(tenant)
        done = "ab"[turn % 2]
        rooms.leave(done)
        held[done] -= 1
    assert abs(held["a"] - held["b"]) <= 2
