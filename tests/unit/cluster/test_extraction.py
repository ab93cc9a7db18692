"""The ranges of an extraction give every row of the whole exactly once, whatever the keys are."""

from __future__ import annotations

import sqlite3
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.extraction import Bounds, NotDivisible, bounds_sql, cut_points, range_sqls, whole_sql
from sandpool.errors import InvalidJob
from sandpool.job import Extraction, SqlJob

KEYS = st.lists(st.one_of(st.none(), st.integers(-1000, 1000)), max_size=40)


def _rows(connection: sqlite3.Connection, text: str) -> Counter[object]:
    return Counter(connection.execute(text).fetchall())


def _table(keys: list[int | None]) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.execute('CREATE TABLE t (n INTEGER PRIMARY KEY, "odd ""key" INTEGER)')
    connection.executemany('INSERT INTO t ("odd ""key") VALUES (?)', [(key,) for key in keys])
    return connection


@given(
    keys=KEYS, parts=st.integers(1, 12), incremental=st.booleans(), since=st.one_of(st.just(""), st.integers(-50, 50))
)
def test_every_row_is_in_exactly_one_range(
    keys: list[int | None], parts: int, incremental: bool, since: int | str
) -> None:
    how = Extraction(column='odd "key', parts=parts, incremental=incremental)
    above = [key for key in keys if key is not None and (since == "" or key > int(since))]
    bounds = Bounds(min(above), max(above), str(max(above))) if above else Bounds(None, None, "")
    sql = "SELECT * FROM t -- all of it"
    whole = whole_sql(sql, how, str(since), bounds)
    ranges = range_sqls(sql, how, str(since), bounds) or (whole,)
    connection = _table(keys)
    expected = _rows(connection, whole)
    assert sum((_rows(connection, text) for text in ranges), Counter()) == expected
    assert expected.total() == len(above) + (0 if since != "" else keys.count(None))
    connection.close()


@given(keys=st.lists(st.integers(0, 100), min_size=1), cut=st.integers(0, 100))
def test_a_chain_of_incremental_runs_reads_every_row_once(keys: list[int], cut: int) -> None:
    """First what was there, then the rest: rows above the first watermark come later."""
    how = Extraction(column="k", incremental=True, parts=3)
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t (k INTEGER)")
    seen: Counter[object] = Counter()
    since = ""
    for batch in ([key for key in keys if key <= cut], [key for key in keys if key > cut], []):
        connection.executemany("INSERT INTO t VALUES (?)", [(key,) for key in batch])
        high = max(batch, default=None)
        bounds = Bounds(min(batch, default=None), high, "" if high is None else str(high))
        whole = whole_sql("SELECT * FROM t", how, since, bounds)
        for text in range_sqls("SELECT * FROM t", how, since, bounds) or (whole,):
            seen += _rows(connection, text)
        since = bounds.high_text or since
    assert seen == Counter((key,) for key in keys)
    connection.close()


@given(low=st.integers(-(10**12), 10**12), width=st.integers(0, 10**6), parts=st.integers(2, 64))
def test_cuts_ascend_lie_inside_and_are_as_many_as_fit(low: int, width: int, parts: int) -> None:
    cuts = cut_points(low, low + width, parts)
    assert cuts == sorted(set(cuts))
    assert all(low < cut <= low + width for cut in cuts)
    assert len(cuts) == min(parts - 1, width)


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (date(2013, 1, 1), date(2013, 12, 31)),
        (datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 1, 2, tzinfo=UTC)),
        (Decimal("0.5"), Decimal("1000.25")),
    ],
)
def test_days_moments_and_decimals_are_cut_evenly(low: object, high: object) -> None:
    cuts = cut_points(low, high, 4)
    steps = [b - a for a, b in zip([low, *cuts], [*cuts, high], strict=True)]  # type: ignore[operator]
    assert len(cuts) == 3
    assert max(steps) - min(steps) <= (timedelta(days=1) if isinstance(low, date) else 1)  # type: ignore[operator]


@pytest.mark.parametrize(("low", "high"), [("a", "b"), (True, False), (1.5, 2.5), (Decimal("NaN"), Decimal(1))])
def test_what_has_no_even_cuts_is_said(low: object, high: object) -> None:
    with pytest.raises(NotDivisible):
        cut_points(low, high, 4)
    assert cut_points(low, high, 1) == []


def test_a_value_with_a_quote_stays_a_value() -> None:
    text = bounds_sql("SELECT 1 AS k;", Extraction(column="k"), "it's")
    assert text.endswith("""AS sandpool_extraction WHERE "k" > 'it''s'""")
    assert ";" not in text


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"column": ""}, "column"),
        ({"column": "k" * 64}, "column"),
        ({"column": "k", "parts": 0}, "parts"),
        ({"column": "k", "parts": 65}, "parts"),
        ({"column": "k", "after": "job-1"}, "after"),
        ({"column": "k", "incremental": True, "after": "../x"}, "id"),
    ],
)
def test_a_field_out_of_its_range_is_named(fields: dict[str, object], name: str) -> None:
    with pytest.raises(InvalidJob, match=name):
        Extraction(**fields)  # type: ignore[arg-type]


def test_an_extraction_takes_neither_writes_nor_parameters() -> None:
    how = Extraction(column="k")
    with pytest.raises(InvalidJob, match="extraction"):
        SqlJob(database="d", sql="delete from t", writes=True, extraction=how)
    with pytest.raises(InvalidJob, match="extraction"):
        SqlJob(database="d", sql="select $1", params=(1,), extraction=how)
