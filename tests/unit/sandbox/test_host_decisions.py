"""What a host decides, as pure functions: room, kinds, demand, transitions, records."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.sandbox.capacity import Capacity, promised, why_full, why_never
from workers.sandbox.demand import ASSUMED_BYTES, Demand, WarmSpec, after_idle, after_take, allot
from workers.sandbox.errors import NotInThisState, SnapshotUnusable
from workers.sandbox.image import Image
from workers.sandbox.keeping import Kept
from workers.sandbox.kinds import (
    FIXED,
    Kind,
    deserves_snapshot,
    fresh_limits,
    is_stale,
    kind_of,
    kinds_to_drop,
    snapshot_name,
    template_limits,
)
from workers.sandbox.limits import MIB, Limits
from workers.sandbox.records import Record, is_warm, read_record
from workers.sandbox.snapshot import Snapshot, SnapshotKey, SnapshotMeta
from workers.sandbox.transitions import IN_MEMORY, TABLE, Event, State, after, allowed

CEILING = Limits(memory_bytes=8 << 30, cpus=8, processes=1024, disk_bytes=4 << 30, tmp_bytes=1 << 30)
IMAGE = Image(name="base", digest="a" * 64, rootfs=Path("/x/rootfs"), ceiling=CEILING)
KINDS = [kind_of(IMAGE, replace(Limits(), processes=count)) for count in range(1, 6)]
some_limits = st.builds(
    Limits,
    memory_bytes=st.integers(128 * MIB, 2048 * MIB),
    cpus=st.floats(0.05, 4),
    processes=st.integers(1, 1024),
    disk_bytes=st.integers(64 << 10, 4 << 30),
)
demands = st.builds(Demand, target=st.integers(0, 8), used_at_s=st.floats(0, 1000), changed_at_s=st.floats(0, 1000))


@given(st.lists(some_limits, max_size=30), st.integers(0, 16 << 30), st.floats(0, 32), st.integers(0, 20))
def test_what_is_promised_never_exceeds_what_there_is(
    wanted: list[Limits], memory_bytes: int, cpus: float, sandboxes: int
) -> None:
    total = Capacity(memory_bytes=memory_bytes, cpus=cpus, sandboxes=sandboxes)
    made: list[Limits] = []
    for limits in wanted:
        if not why_full(total, promised(made), limits):
            assert not why_never(total, limits)
            made.append(limits)
    taken = promised(made)
    assert taken.memory_bytes <= memory_bytes
    assert taken.cpus <= cpus + 1e-6
    assert taken.sandboxes == len(made) <= sandboxes


@given(some_limits, some_limits)
def test_sandboxes_are_of_one_kind_exactly_when_a_snapshot_fits_both(one: Limits, other: Limits) -> None:
    same = all(getattr(one, name) == getattr(other, name) for name in FIXED)
    assert (kind_of(IMAGE, one) == kind_of(IMAGE, other)) == same
    for limits in (fresh_limits(IMAGE, kind_of(IMAGE, one), 64), template_limits(IMAGE, kind_of(IMAGE, one), 64)):
        assert kind_of(IMAGE, limits) == kind_of(IMAGE, one)
        assert limits.within(IMAGE.ceiling)


def test_usual_limits_get_a_snapshot_at_once_others_when_they_come_again() -> None:
    usual, odd = kind_of(IMAGE, Limits()), kind_of(IMAGE, replace(Limits(), processes=7))
    assert deserves_snapshot(usual, IMAGE, 1)
    assert not deserves_snapshot(odd, IMAGE, 1)
    assert deserves_snapshot(odd, IMAGE, 2)


def test_a_snapshot_is_named_by_all_that_it_depends_on() -> None:
    kind = KINDS[0]
    names = {
        snapshot_name("a" * 16, "b" * 16, kind),
        snapshot_name("c" * 16, "b" * 16, kind),
        snapshot_name("a" * 16, "d" * 16, kind),
        snapshot_name("a" * 16, "b" * 16, KINDS[1]),
    }
    assert len(names) == 4
    assert all(is_warm(name) for name in names)
    assert [is_stale(snapshot_name(runner * 16, "b" * 16, kind), "a" * 16) for runner in "ac"] == [False, True]


@given(st.dictionaries(st.sampled_from(KINDS), st.floats(0, 100)), st.integers(0, 6))
def test_the_kinds_used_last_stay(used_at_s: dict[Kind, float], most: int) -> None:
    dropped = kinds_to_drop(used_at_s, most)
    kept = [kind for kind in used_at_s if kind not in dropped]
    assert len(kept) == min(most, len(used_at_s))
    assert all(used_at_s[stays] >= used_at_s[goes] for stays in kept for goes in dropped)


@given(st.dictionaries(st.sampled_from(KINDS), demands), st.integers(0, 4 << 30), st.data())
def test_spare_sandboxes_stay_within_their_budget_and_everybodys_first_comes_first(
    wanted: dict[Kind, Demand], memory_bytes: int, data: st.DataObject
) -> None:
    each = {kind: data.draw(st.integers(1, 512 * MIB)) for kind in wanted if data.draw(st.booleans())}
    granted = allot(wanted, each, WarmSpec(memory_bytes=memory_bytes))
    assert granted.keys() == wanted.keys()
    assert all(0 <= count <= wanted[kind].target for kind, count in granted.items())
    assert sum(count * each.get(kind, ASSUMED_BYTES) for kind, count in granted.items()) <= memory_bytes
    if memory_bytes == 0:
        assert not any(granted.values())
    second = [kind for kind, count in granted.items() if count > 1]
    for kind, count in granted.items():
        if wanted[kind].target and not count:  # there was no room for its first: a second one elsewhere is cheaper
            assert all(each.get(other, ASSUMED_BYTES) < each.get(kind, ASSUMED_BYTES) for other in second)


def test_demand_doubles_on_misses_and_shrinks_when_it_is_idle() -> None:
    spec, demand = WarmSpec(most=8, idle_s=60), Demand()
    targets = []
    for number in range(6):
        demand = after_take(demand, float(number), spare=0, spec=spec)
        targets.append(demand.target)
    assert targets == [1, 2, 4, 8, 8, 8]
    assert after_idle(demand, 30.0, spec) == demand
    halved = after_idle(after_take(demand, 60.0, spare=5, spec=spec), 66.0, spec)
    assert halved.target == 4  # used, but fewer would have done
    for now_s in (140.0, 210.0, 280.0):
        halved = after_idle(halved, now_s, spec)
    assert halved.target == 0


@given(demands, st.lists(st.tuples(st.floats(0, 100), st.integers(0, 3) | st.none()), max_size=40))
def test_demand_never_leaves_its_range_and_ends_when_nobody_asks(
    demand: Demand, story: list[tuple[float, int | None]]
) -> None:
    spec, now_s = WarmSpec(most=8), 1000.0
    for passed_s, spare in story:
        now_s += passed_s
        demand = after_idle(demand, now_s, spec) if spare is None else after_take(demand, now_s, spare=spare, spec=spec)
        assert 0 <= demand.target <= 8
    for step in range(1, 8):
        demand = after_idle(demand, now_s + step * 61, spec)
    assert demand.target == 0


@given(st.lists(st.sampled_from(Event), max_size=50))
def test_every_story_of_events_keeps_to_the_table(events: list[Event]) -> None:
    state = State.Starting
    for event in events:
        if event not in allowed(state):
            with pytest.raises(NotInThisState, match=state.value):
                after(state, event)
            continue
        following = after(state, event)
        assert (state, event) in TABLE
        if state is State.Gone:
            raise AssertionError("nothing leads away from Gone")
        if state is State.Ending:
            assert following is State.Gone
        if following is State.Paused:
            assert state in (State.Pausing, State.Paused, State.Resuming)
        state = following


def test_every_state_can_be_left_and_every_sandbox_destroyed() -> None:
    for state in State:
        if state is not State.Gone:
            assert any(TABLE[state, event] is not state for event in allowed(state))
        if state not in (State.Ending, State.Gone):
            assert Event.Destroy in allowed(state)
    assert {State.Paused, State.Gone}.isdisjoint(IN_MEMORY)


def record(**changes: object) -> Record:
    values = {
        "use": "paused",
        "id": "sb-" + "1" * 20,
        "tenant": "a",
        "image": f"base@{'a' * 64}",
        "limits": Limits().as_dict(),
        "created_at_s": 1.0,
    }
    return msgspec.convert({**values, **changes}, Record)


def snapshot_with(note: dict[str, object], name: str) -> Snapshot:
    key = SnapshotKey(image="a" * 64, runsc="1", platform="systrap", cpu="c")
    meta = SnapshotMeta(key=key, limits=Limits().as_dict(), mounts=(), files={}, note=note)
    return Snapshot(name=name, folder=Path("/x/y"), meta=meta)


def test_a_record_is_read_as_it_was_written() -> None:
    written = record(expires_at_s=5.0, idle_s=None, label="x")
    assert read_record(snapshot_with(written.note(), written.name)) == written


@pytest.mark.parametrize(
    "changes",
    [
        {"tenant": ""},
        {"tenant": "x" * 256},
        {"tenant": 5},
        {"id": "../../etc"},
        {"id": "sb-" + "2" * 20},
        {"use": "saved"},
        {"use": "other"},
        {"image": "base"},
        {"image": f"base@{'b' * 64}"},
        {"image": f"{record().image}\n"},
        {"id": f"{record().id}\n"},
        {"limits": {"memory_bytes": -1}},
        {"limits": {"unknown": 1}},
        {"limits": {**Limits().as_dict(), "disk_bytes": 1 << 30}},
        {"created_at_s": -1},
        {"created_at_s": float("nan")},
        {"format": 2},
        {"more": 1},
    ],
    ids=str,
)
def test_a_record_that_is_not_exactly_right_is_refused(changes: dict[str, object]) -> None:
    good = record()
    with pytest.raises(SnapshotUnusable):
        read_record(snapshot_with({**good.note(), **changes}, good.name))


@pytest.mark.parametrize("jump_s", [-5 * 3600.0, 72 * 3600.0])
def test_a_kept_sandbox_lives_its_time_whatever_the_wall_clock_is_set_to(
    monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    wall = time.time
    kept = Kept(record(expires_at_s=wall() + 60), State.Running)
    later = Kept(record(expires_at_s=None), State.Running)
    later.keeps_until(wall() + 60, None)
    monkeypatch.setattr(time, "time", lambda: wall() + jump_s)
    for each in (kept, later):
        assert not each.is_over(time.monotonic()) and each.is_over(time.monotonic() + 60)
    later.keeps_until(None, None)
    assert not later.is_over(time.monotonic() + 1e9)
