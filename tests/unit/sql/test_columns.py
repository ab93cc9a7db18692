"""Python values become Arrow arrays exactly; what does not fit is an error that names the column."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.errors import UnrepresentableValue
from workers.sql.columns import EPOCH_DAYS, EPOCH_US, build_column, decimal_for, list_depth, resolve_plans, transpose
from workers.sql.types import ColumnPlan, decimal_type, numeric_modifier, plan_column, unique_names

NUMERIC = plan_column("n", "numeric", 1700, -1)
decimals = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**15), max_value=10**15, places=6)


def typmod(precision: int, scale: int) -> int:
    """numeric(precision, scale) as PostgreSQL stores it."""
    return ((precision << 16) | (scale & 0x7FF)) + 4


@settings(deadline=None)
@given(st.integers(1, 1000), st.integers(-1000, 1000))
def test_a_numeric_modifier_gives_back_precision_and_scale(precision: int, scale: int) -> None:
    assert numeric_modifier(typmod(precision, scale)) == (precision, scale)


@settings(deadline=None)
@given(st.integers(1, 1000), st.integers(-1000, 1000))
def test_the_decimal_of_a_declared_numeric_is_valid_and_wide_enough(precision: int, scale: int) -> None:
    arrow = decimal_type(precision, scale)
    if arrow is not None:
        assert 0 <= arrow.scale <= arrow.precision <= 76
        assert arrow.precision - arrow.scale >= precision - scale
        assert arrow.scale >= scale


@settings(deadline=None)
@given(st.lists(decimals | st.none(), min_size=1))
def test_unconstrained_numerics_are_held_exactly_with_the_smallest_scale(values: list[Decimal | None]) -> None:
    texts = [None if value is None else format(value, "f") for value in values]
    [plan] = resolve_plans([NUMERIC], [texts], streaming=False)
    array = build_column(plan, texts)
    assert array.to_pylist() == values
    assert plan.arrow is not None
    assert plan.arrow.precision == 38


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1" * 39, "0." + "1" * 39])
def test_numbers_that_no_decimal128_holds_go_as_text(text: str) -> None:
    [plan] = resolve_plans([NUMERIC], [[text, "1.5"]], streaming=False)
    assert build_column(plan, [text, "1.5"]).to_pylist() == [text, "1.5"]
    assert plan.database_type == "numeric"


def test_trailing_zeros_give_way_before_text_does() -> None:
    assert decimal_for(["1" * 30 + ".000000000000"]) == pa.decimal128(38, 0)


def test_a_stream_keeps_a_declared_type_and_refuses_what_does_not_fit_it() -> None:
    declared = plan_column("price", "numeric", 1700, typmod(10, 2))
    [plan] = resolve_plans([declared], [["NaN"]], streaming=True)
    assert plan is declared
    with pytest.raises(UnrepresentableValue, match="'price'"):
        build_column(plan, ["NaN"])


@pytest.mark.parametrize(
    ("oid", "value"), [(1082, 2**31 - 1), (1082, -(2**31)), (1114, 2**63 - 1), (1114, -(2**63)), (1083, 86_400_000_000)]
)
def test_infinities_and_midnight_after_are_refused(oid: int, value: int) -> None:
    with pytest.raises(UnrepresentableValue, match="'v'"):
        build_column(plan_column("v", "t", oid, -1), [0, value, None])


@settings(deadline=None)
@given(st.lists(st.none() | st.integers(-730_000, 2_900_000)))
def test_dates_move_from_postgres_to_unix_days(values: list[int | None]) -> None:
    array = build_column(plan_column("d", "date", 1082, -1), values)
    assert array.type == pa.date32()
    assert array.cast(pa.int32()).to_pylist() == [None if v is None else v + EPOCH_DAYS for v in values]


@settings(deadline=None)
@given(st.lists(st.none() | st.integers(-(2**62), 2**63 - 2)))
def test_timestamps_are_moved_exactly_or_refused(values: list[int | None]) -> None:
    plan = plan_column("t", "timestamp", 1114, -1)
    fits = all(v is None or v + EPOCH_US < 2**63 for v in values)
    if fits:
        expected = [None if v is None else v + EPOCH_US for v in values]
        assert build_column(plan, values).cast(pa.int64()).to_pylist() == expected
    else:
        with pytest.raises(UnrepresentableValue):
            build_column(plan, values)


@settings(deadline=None)
@given(st.lists(st.none() | st.lists(st.none() | st.integers(-100, 100))))
def test_lists_keep_nulls_and_emptiness(values: list[Any]) -> None:
    plan = plan_column("a", "int4[]", 1007, -1, element_oid=23)
    assert build_column(plan, values).to_pylist() == values


@settings(deadline=None)
@given(st.lists(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=2), min_size=1, max_size=2), min_size=1))
def test_nested_lists_keep_their_depth(values: list[Any]) -> None:
    plan = plan_column("a", "int4[]", 1007, -1, element_oid=23)
    array = build_column(plan, values)
    assert list_depth(plan, values) == 2
    assert array.to_pylist() == values


def test_a_value_of_another_type_is_refused_without_showing_it() -> None:
    plan = ColumnPlan("c", "int2", plan_column("c", "int2", 21, -1).kind, pa.int16())
    with pytest.raises(UnrepresentableValue) as caught:
        build_column(plan, [70_001])
    assert "70001" not in str(caught.value)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "a_2", "a_3", ""]), max_size=12))
def test_result_names_become_unique_and_first_ones_stay(names: list[str]) -> None:
    unique = unique_names(names)
    assert len(set(unique)) == len(unique) == len(names)
    for index, name in enumerate(names):
        assert unique[index] == name or name in names[:index]


def test_transposing_nothing_gives_empty_columns() -> None:
    assert transpose([], 3) == [(), (), ()]
    assert transpose([(1, 2), (3, 4)], 2) == [(1, 3), (2, 4)]
