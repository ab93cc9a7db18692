"""JSON parameters become driver values by declared type, exactly or not at all."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.errors import InvalidParameter
from workers.sql.params import AskServer, ParamType, array_depth, as_argument, asks, convert

INT2, INT4, INT8, TEXT, DATE, TIMESTAMP, TIMESTAMPTZ = 21, 23, 20, 25, 1082, 1114, 1184
EVERY_OID = [16, 17, 20, 21, 23, 25, 26, 114, 700, 701, 869, 1082, 1083, 1114, 1184, 1186, 1700, 2950, 3802, 99999]

EARLY, LATE = (datetime(year, 1, 1, tzinfo=UTC).replace(tzinfo=None) for year in (2, 9998))

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def one(value: Any, oid: int, element: int = 0) -> Any:
    return convert([value], [ParamType(oid, "some_type", element)])[0]


@settings(deadline=None)
@given(json_values, st.sampled_from(EVERY_OID), st.sampled_from([0, *EVERY_OID]))
def test_every_json_value_converts_or_is_refused_by_position(value: Any, oid: int, element: int) -> None:
    refused = None
    try:
        one(value, oid, element)
    except InvalidParameter as error:
        refused = error
    assert refused is None or ("$1" in refused.message and "some_type" in refused.message)


@settings(deadline=None)
@given(st.integers(), st.sampled_from([(INT2, 15), (INT4, 31), (INT8, 63)]))
def test_integers_pass_exactly_within_their_range(value: int, kind: tuple[int, int]) -> None:
    oid, bits = kind
    if -(2**bits) <= value < 2**bits:
        assert one(value, oid) == one(str(value), oid) == value
    else:
        with pytest.raises(InvalidParameter, match="range"):
            one(value, oid)


@settings(deadline=None)
@given(st.dates())
def test_iso_dates_are_days_since_2000(day: date) -> None:
    assert one(day.isoformat(), DATE) == ((day - date(2000, 1, 1)).days,)


@settings(deadline=None)
@given(st.datetimes())
def test_iso_timestamps_are_microseconds_since_2000(moment: datetime) -> None:
    span = moment - datetime(2000, 1, 1, tzinfo=UTC).replace(tzinfo=None)
    expected = ((span.days * 86400 + span.seconds) * 1_000_000 + span.microseconds,)
    assert one(moment.isoformat(), TIMESTAMP) == expected
    assert one(moment.isoformat(" ") + "+00:00", TIMESTAMPTZ) == expected


@settings(deadline=None)
@given(st.datetimes(min_value=EARLY, max_value=LATE), st.integers(-14, 14))
def test_the_offset_counts_for_timestamptz_only(moment: datetime, hours: int) -> None:
    text = f"{moment.isoformat()}{hours:+03d}:00"
    moved = datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None)
    assert one(text, TIMESTAMPTZ) == one(moved.isoformat(), TIMESTAMP)
    assert one(text, TIMESTAMP) == one(moment.isoformat(), TIMESTAMP)


@pytest.mark.parametrize("text", ["yesterday", "infinity", "Jan 5 2024", "2024-1-5", "0044-03-15 BC", "20240105"])
def test_any_other_date_text_is_left_to_the_server(text: str) -> None:
    assert one(text, DATE) == AskServer(text, "date")
    assert asks(one([text, None], 1182, DATE))


def test_a_whole_array_in_text_form_is_left_to_the_server() -> None:
    assert one("{1,2}", 1007, INT4) == AskServer("{1,2}", "some_type")


def test_answers_of_the_server_take_the_form_that_is_encoded() -> None:
    assert as_argument(7305, ParamType(DATE, "date")) == (7305,)
    assert as_argument([7305, None], ParamType(1182, "date[]", DATE)) == [(7305,), None]
    assert as_argument([1, 2], ParamType(1007, "int4[]", INT4)) == [1, 2]


@settings(deadline=None)
@given(st.text())
def test_an_error_never_shows_the_value(text: str) -> None:
    secret = "s3cr3t" + text
    with pytest.raises(InvalidParameter) as caught:
        one(secret, INT4)
    assert "s3cr3t" not in str(caught.value) + caught.value.hint


def test_the_number_of_parameters_must_match() -> None:
    with pytest.raises(InvalidParameter, match="uses 2 parameters, the job has 1"):
        convert([1], [ParamType(INT4, "int4")] * 2)


def test_depth_counts_nested_lists() -> None:
    assert [array_depth(value) for value in ([], [1], [[1], [2]], [[[1]]])] == [1, 1, 2, 3]
