"""How values of every type look as JSON and as cells, and what a terminal is spared."""

from __future__ import annotations

import io
import json
import math
from datetime import UTC, date, datetime, time
from decimal import Decimal
from uuid import UUID

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from cluster.cli.formats import WRITERS
from cluster.cli.grid import draw_grid
from cluster.cli.safe_text import one_line, visible
from cluster.cli.table import cell_text, grid_of, interval_text
from cluster.cli.values import json_values
from sandpool.outcome import Column

INTERVAL = pa.struct([("months", pa.int32()), ("days", pa.int32()), ("microseconds", pa.int64())])
UUID_TEXT = str(UUID(bytes=b"0" * 16))
FAR = 9_000_000_000_000_000_000
"""Microseconds after 1970: a moment that Python's calendar does not reach, but PostgreSQL's does."""

CASES = [
    (pa.array([True, None]), "", [True, None], "true"),
    (pa.array([2**62]), "", [2**62], str(2**62)),
    (pa.array([1.5, math.nan, math.inf, -math.inf]), "", [1.5, "NaN", "Infinity", "-Infinity"], "1.5"),
    (pa.array([0.1], pa.float32()), "", [0.1], "0.1"),
    (pa.array([Decimal("12345678901234567890.10")]), "", ["raw 12345678901234567890.10"], "12345678901234567890.10"),
    (pa.array([date(2013, 1, 1)]), "", ["2013-01-01"], "2013-01-01"),
    (pa.array([time(5, 0, 0, 250_000)]), "", ["05:00:00.25"], "05:00:00.25"),
    (pa.array([datetime.fromisoformat("2013-01-01T05:00")]), "", ["2013-01-01T05:00:00"], "2013-01-01T05:00:00"),
    (pa.array([datetime(2013, 1, 1, 5, tzinfo=UTC)]), "", ["2013-01-01T05:00:00Z"], "2013-01-01T05:00:00Z"),
    (pa.array([b"\x00\xff"]), "bytea", ["\\x00ff"], "\\x00ff"),
    (pa.array([b"0" * 16], pa.binary(16)).cast(pa.uuid()), "uuid", [UUID_TEXT], UUID_TEXT),
    (pa.array(['{"a": [1]}', None]), "jsonb", ['raw {"a": [1]}', None], '{"a": [1]}'),
    (pa.array(["text", "", None]), "text", ["text", "", None], "text"),
    (pa.array([[1, None], None, []]), "int4[]", [[1, None], None, []], "[1,null]"),
    (pa.array([["{}"]]), "jsonb[]", [["raw {}"]], "[{}]"),
    (pa.array([[[1], [2]]]), "int4[]", [[[1], [2]]], "[[1],[2]]"),
    (pa.array([{"months": 14, "days": -3, "microseconds": 3_661_500_000}], INTERVAL), "interval",
     [{"months": 14, "days": -3, "microseconds": 3_661_500_000}], "1 year 2 mons -3 days 01:01:01.5"),
    (pa.nulls(2), "", [None, None], None),
]  # fmt: skip


def plain(value: object) -> object:
    if isinstance(value, msgspec.Raw):
        return f"raw {bytes(value).decode()}"
    return [plain(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(("array", "database_type", "values", "cell"), CASES)
def test_every_type_has_an_exact_json_form_and_a_readable_cell(array, database_type, values, cell) -> None:
    made = json_values(array, database_type)
    assert [plain(value) for value in made] == values
    json.loads(msgspec.json.encode(made))
    assert (None if made[0] is None else cell_text(made[0])) == cell


@pytest.mark.parametrize(("array", "database_type", "values", "cell"), CASES)
def test_a_slice_of_a_column_says_the_same(array, database_type, values, cell) -> None:
    longer = pa.concat_arrays([array, array, array])
    part = longer.slice(len(array), len(array))
    assert [plain(value) for value in json_values(part, database_type)] == values


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize(("array", "database_type", "values", "cell"), CASES)
def test_every_format_takes_every_type(array, database_type, values, cell, form: str) -> None:
    batch = pa.record_batch([array], names=["c"])
    stream = io.BytesIO()
    assert WRITERS[form](stream, batch.schema, [batch, batch], [Column("c", "", database_type)]) == 2 * len(array)
    assert stream.getvalue()


def test_a_moment_beyond_pythons_calendar_is_shown() -> None:
    moments = pa.array([FAR // 20], pa.timestamp("us"))
    assert json_values(moments)[0].startswith("16229-12-07")


def test_csv_tells_null_from_the_empty_text_and_quotes_what_needs_it() -> None:
    batch = pa.record_batch([pa.array(["", None, 'a"b', "x,y\nz"]), pa.array([[1], None, [], [2]])], names=["t", "l"])
    stream = io.BytesIO()
    WRITERS["csv"](stream, batch.schema, [batch], [])
    assert stream.getvalue().decode() == '"t","l"\n"","[1]"\n,\n"a""b","[]"\n"x,y\nz","[2]"\n'


def test_json_of_no_rows_and_of_many_batches_is_one_array() -> None:
    batch = pa.record_batch([pa.array([1, 2])], names=["n"])
    for batches in ([], [batch], [batch, batch, batch.slice(0, 0), batch]):
        stream = io.BytesIO()
        WRITERS["json"](stream, batch.schema, batches, [])
        assert json.loads(stream.getvalue()) == [
            {"n": n} for _ in range(sum(b.num_rows for b in batches) // 2) for n in (1, 2)
        ]


def test_null_is_not_the_text_null() -> None:
    grid = grid_of(pa.table({"t": ["NULL", None]}), [])
    assert grid.cells == (('"NULL"', None),)


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ((0, 0, 0), "00:00:00"),
        ((1, 0, 0), "1 mon"),
        ((-13, 1, 0), "-1 years -1 mons 1 day"),
        ((0, 2, -3_600_000_000), "2 days -01:00:00"),
        ((0, 0, 90_061_000_001), "25:01:01.000001"),
    ],
)
def test_an_interval_reads_as_in_psql(parts: tuple[int, int, int], text: str) -> None:
    assert interval_text(*parts) == text


@given(st.text())
def test_no_text_can_command_a_terminal(text: str) -> None:
    shown = visible(text)
    assert "\x1b" not in shown
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in shown)
    assert not any(char in shown for char in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029\ufeff")
    shown.encode()


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=30))
def test_harmless_text_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


def test_a_long_message_is_cut() -> None:
    assert one_line("a" * 50, 10) == "aaaaaaaaa…"


@given(st.lists(st.text(max_size=60), min_size=1, max_size=12), st.integers(8, 120))
def test_a_table_is_never_wider_than_the_terminal(texts: list[str], width: int) -> None:
    table = pa.table({f"column {i} {text}": [text, None] for i, text in enumerate(texts)})
    output = io.StringIO()
    draw_grid(grid_of(table, []), Console(file=output, width=width), width)
    from rich.cells import cell_len

    lines = output.getvalue().split("\n")
    assert len(lines) == 5
    assert all(cell_len(line) <= width for line in lines)
