"""Percentiles are values that were measured, and ordered as their shares are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.timings import percentile

durations = st.lists(st.floats(0, 1e6), min_size=1, max_size=200)
shares = st.floats(0.001, 1)


@given(durations, shares)
def test_a_percentile_is_the_smallest_value_that_covers_its_share(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    below = [value for value in values if value < found]
    assert len(below) < share * len(values) + 1e-9


@given(durations, shares, shares)
def test_a_larger_share_never_has_a_smaller_percentile(values: list[float], one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert percentile(values, low) <= percentile(values, high)


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 0.0), ([1.0], 1.5)])
def test_no_values_or_an_impossible_share_is_an_error(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match=r"no values|not in"):
        percentile(values, share)
