"""Limits as values: ranges, ceilings, names."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.sandbox.errors import SpecInvalid
from workers.sandbox.limits import _RANGES, Limits

some = st.builds(
    Limits,
    memory_bytes=st.integers(128 << 20, 1 << 40),
    cpus=st.floats(0.05, 256),
    processes=st.integers(1, 32_768),
    open_files=st.integers(32, 65_536),
    wall_s=st.floats(0.1, 604_800),
)


@given(some, some)
def test_capped_limits_are_within_both(asked: Limits, ceiling: Limits) -> None:
    capped = asked.capped_by(ceiling)
    assert capped.within(asked)
    assert capped.within(ceiling)
    assert asked.within(ceiling) == (capped == asked)


@given(some)
def test_limits_survive_the_way_through_a_dictionary(limits: Limits) -> None:
    assert Limits.from_dict(limits.as_dict()) == limits


def test_every_limit_has_a_range() -> None:
    assert {field.name for field in fields(Limits)} == set(_RANGES)


@pytest.mark.parametrize("name", _RANGES)
@pytest.mark.parametrize("value", [0, -1, 1e18, True, "1", None, float("nan"), float("inf")])
def test_a_value_out_of_range_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(SpecInvalid) as caught:
        Limits(**{name: value})
    assert caught.value.field == f"limits.{name}"


def test_an_unknown_limit_is_refused_and_the_known_are_named() -> None:
    with pytest.raises(SpecInvalid, match="memory_bytes"):
        Limits.from_dict({"memory": 1})


@given(some)
def test_host_threads_leave_room_for_gvisor_itself(limits: Limits) -> None:
    assert limits.host_threads > 2 * limits.processes
