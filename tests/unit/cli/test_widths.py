"""The layout of tables, and spans of time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.cli.ranges import parse_moment, span_text
from cluster.cli.widths import GAP, NARROWEST, fit

widths = st.lists(st.integers(1, 200), min_size=1, max_size=40)


@given(widths, st.integers(4, 300))
def test_what_is_shown_fits(wanted: list[int], available: int) -> None:
    layout = fit(wanted, available)
    pieces = [*layout.widths, *([1] if layout.left_out else [])]
    assert sum(pieces) + GAP * (len(pieces) - 1) <= available
    assert all(width >= 1 for width in layout.widths)


@given(widths, st.integers(4, 300))
def test_columns_keep_their_order_and_none_is_lost_silently(wanted: list[int], available: int) -> None:
    layout = fit(wanted, available)
    assert list(layout.columns) == sorted(set(layout.columns))
    assert len(layout.columns) + layout.left_out == len(wanted)
    assert layout.columns[0] == 0
    assert all(width <= wanted[column] for column, width in zip(layout.columns, layout.widths, strict=True))


@given(widths)
def test_without_a_limit_everything_has_its_width(wanted: list[int]) -> None:
    assert fit(wanted, None).widths == tuple(wanted)
    assert fit(wanted, sum(wanted) + GAP * len(wanted)).widths == tuple(wanted)


@given(widths, st.integers(4, 300))
def test_columns_are_left_out_only_when_narrow_ones_do_not_fit(wanted: list[int], available: int) -> None:
    least = sum(min(width, NARROWEST) for width in wanted) + GAP * (len(wanted) - 1)
    assert (fit(wanted, available).left_out > 0) == (least > available and len(wanted) > 1)


def test_the_middle_goes_first() -> None:
    layout = fit([10] * 9, 50)
    assert layout.columns == (0, 1, 2, 8)
    assert (layout.left_out, layout.before) == (5, 3)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 us"), (0.00084, "840 us"), (0.0123, "12.3 ms"), (0.9999, "1.00 s"), (4.2, "4.20 s"), (59.4, "59.4 s"),
        (59.999, "1 min"), (200, "3 min 20 s"), (3599.9, "1 h"), (18_600, "5 h 10 min"), (273_600, "3 d 4 h"),
    ],
)  # fmt: skip
def test_a_span_is_short_and_has_a_unit(seconds: float, text: str) -> None:
    assert span_text(seconds) == text


def test_a_moment_is_a_span_before_now_or_a_date() -> None:
    now = datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert parse_moment("90s", now) == now - timedelta(seconds=90)
    assert parse_moment("1.5h", now) == now - timedelta(minutes=90)
    assert parse_moment("7d", now) == now - timedelta(days=7)
    assert parse_moment("2026-01-01", now) == datetime(2026, 1, 1, tzinfo=UTC)
    assert parse_moment("2026-01-01T02:00+02:00", now) == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "soon", "5", "-5m", "5 parsecs", "2026-13-01"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no span"):
        parse_moment(text, datetime.now(UTC))
