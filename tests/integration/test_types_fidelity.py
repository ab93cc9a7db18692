"""Every PostgreSQL type: the Arrow type that docs/types.md promises, and values equal to the server's own text."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest

from cluster.local.postgres import PostgresServer
from sandpool.outcome import Ending
from tests.support.pools import make_role, open_pool, read_inline, read_parts, statement
from workers.sql.types import INTERVAL_TYPE
from workers.volumes.spec import VolumeSpec

pytestmark = pytest.mark.may_block("file volumes work on the loop: workers.volumes.local")

DATABASE = "types"
SETUP = """
CREATE EXTENSION hstore;
CREATE TYPE mood AS ENUM ('sad', 'ok', 'very "happy"');
CREATE TYPE pair AS (x int, y inet);
CREATE TYPE floatrange AS RANGE (subtype = float8);
CREATE DOMAIN positive AS int CHECK (value > 0);
CREATE DOMAIN price AS numeric(8,2);
CREATE TABLE things (id int, label text);
"""


@dataclass(frozen=True)
class Case:
    """Some values of one type, written as SQL expressions; `shown` renders an Arrow value as the server's text."""

    sql_type: str
    arrow: pa.DataType
    values: tuple[str, ...]
    in_bulk: bool = True
    """Whether ADBC takes it: then both ways must agree."""


def _text(sql_type: str, *values: str) -> Case:
    return Case(sql_type, pa.utf8(), values, in_bulk=False)


CASES = [
    Case("bool", pa.bool_(), ("true", "false")),
    Case("int2", pa.int16(), ("-32768", "32767", "0")),
    Case("int4", pa.int32(), ("-2147483648", "2147483647")),
    Case("int8", pa.int64(), ("-9223372036854775808", "9223372036854775807")),
    Case("float4", pa.float32(), ("1.5", "NaN", "Infinity", "-Infinity", "-0", "1e-45", "3.4028235e+38")),
    Case("float8", pa.float64(), ("0.1", "NaN", "Infinity", "-Infinity", "-0", "5e-324", "1.7976931348623157e+308")),
    Case("numeric(10,2)", pa.decimal128(10, 2), ("12345678.90", "-0.01", "0")),
    Case("numeric(38,10)", pa.decimal128(38, 10), ("9999999999999999999999999999.9999999999",)),
    Case("numeric(50,5)", pa.decimal256(50, 5), ("123456789012345678901234567890123456789012345.12345", "-1")),
    Case("numeric(3,-2)", pa.decimal128(5, 0), ("12300", "-100")),
    Case("numeric(3,5)", pa.decimal128(5, 5), ("0.00123",)),
    Case("numeric(1000,2)", pa.utf8(), ("1e500", "-3.14"), in_bulk=False),
    Case("numeric", pa.decimal128(38, 3), ("1.5", "22.123", "-3", "12345678901234567890123456789012345")),
    Case("numeric", pa.decimal128(38, 0), ("99999999999999999999999999999999999999", "0")),
    Case("numeric", pa.utf8(), ("999999999999999999999999999999999999999", "1")),
    Case("numeric", pa.utf8(), ("NaN", "1.5")),
    Case("numeric", pa.utf8(), ("Infinity", "-Infinity")),
    Case("text", pa.utf8(), ("a", "", "é😀\u202e\ufeff", "line\nbreak\ttab", "e\u0301", "\U0010ffff", "\x01")),
    Case("varchar(5)", pa.utf8(), ("abc", "toolong")),
    Case("char(5)", pa.utf8(), ("ab", "abcde")),
    Case("name", pa.utf8(), ("pg_class",)),
    Case("json", pa.utf8(), ('{"b": 1,  "a": [1.50, null]}', '"x"', "null")),
    Case("jsonb", pa.utf8(), ('{"b": 1,  "a": [1.50, null]}', "1e2")),
    Case("bytea", pa.binary(), (r"\x", r"\x00ff10", r"\xdeadbeef")),
    Case("uuid", pa.uuid(), ("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "00000000-0000-0000-0000-000000000000")),
    Case("date", pa.date32(), ("2024-02-29", "1970-01-01", "0001-01-01", "9999-12-31")),
    Case(
        "timestamp",
        pa.timestamp("us"),
        ("2024-02-29 23:59:59.999999", "1969-12-31 23:59:59", "0001-01-01 00:00:00", "9999-12-31 23:59:59.999999"),
    ),
    Case("timestamptz", pa.timestamp("us", "UTC"), ("2024-02-29 23:59:59.5+00", "1999-12-31 20:00:00-04")),
    Case("time", pa.time64("us"), ("00:00:00", "23:59:59.999999")),
    Case("interval", INTERVAL_TYPE, ("1 year 2 mons -3 days 04:05:06.789", "0", "-178000000 years"), in_bulk=False),
    Case("oid", pa.uint32(), ("0", "4294967295"), in_bulk=False),
    Case("positive", pa.int32(), ("7",)),
    Case("price", pa.decimal128(8, 2), ("19.99",)),
    _text("timetz", "04:05:06-08", "23:59:59.999999+15:59"),
    _text("mood", "sad", 'very "happy"'),
    _text("pair", '(1,"10.0.0.1")', "(,)"),
    _text("things", '(1,"a b")'),
    _text("inet", "192.168.0.1/24", "::1", "10.0.0.1"),
    _text("cidr", "192.168.0.0/24", "2001:db8::/32"),
    _text("macaddr", "08:00:2b:01:02:03"),
    _text("macaddr8", "08:00:2b:01:02:03:04:05"),
    _text("int4range", "[1,5)", "empty", "(,)"),
    _text("numrange", "[1.5,2.5]"),
    _text("tstzrange", '["2024-01-01 00:00:00+00",)'),
    _text("daterange", "[2024-01-01,2024-02-01)"),
    _text("floatrange", "[1.5,2.5)"),
    _text("int8multirange", "{[1,3),[5,9)}", "{}"),
    _text("bit(3)", "101"),
    _text("varbit", "10101", ""),
    _text("money", "$1,234.56", "-$0.01"),
    Case("xml", pa.utf8(), ("<a>1</a>",), in_bulk=False),
    _text("hstore", '"a"=>"1", "b"=>NULL'),
    _text('"char"', "a"),
    _text("tsvector", "'cat':2 'fat':1A"),
    _text("tsquery", "'cat' & !'dog'"),
    _text("point", "(1,2.5)"),
    _text("box", "(3,4),(1,2)"),
    _text("lseg", "[(1,2),(3,4)]"),
    _text("path", "((0,0),(1,1))"),
    _text("polygon", "((0,0),(1,1),(2,0))"),
    _text("circle", "<(1,2),3>"),
    _text("line", "{1,2,3}"),
    _text("pg_lsn", "16/B374D848"),
    _text("xid", "42"),
    _text("xid8", "42"),
    _text("tid", "(1,2)"),
    _text("jsonpath", '$."a"[*]'),
    _text("regclass", "things"),
    _text("int2vector", "1 2 3"),
    _text("pg_snapshot", "10:20:10,14"),
    Case("int4[]", pa.list_(pa.int32()), ("{1,NULL,3}", "{}"), in_bulk=False),
    Case("int4[]", pa.list_(pa.list_(pa.int32())), ("{{1,2},{3,NULL}}",), in_bulk=False),
    Case("text[]", pa.list_(pa.utf8()), ('{"a b",NULL,"NULL","","\\"q\\""}',), in_bulk=False),
    Case("float8[]", pa.list_(pa.float64()), ("{1.5,NaN,-Infinity}",), in_bulk=False),
    Case("numeric[]", pa.list_(pa.decimal128(38, 2)), ("{1.50,2.00,NULL}",), in_bulk=False),
    Case("numeric(6,3)[]", pa.list_(pa.decimal128(6, 3)), ("{1.5}",), in_bulk=False),
    Case("date[]", pa.list_(pa.date32()), ("{2024-01-01,NULL}",), in_bulk=False),
    Case("timestamptz[]", pa.list_(pa.timestamp("us", "UTC")), ('{"2024-01-01 00:00:00+00"}',), in_bulk=False),
    Case("interval[]", pa.list_(INTERVAL_TYPE), ('{"1 mon","2 days"}',), in_bulk=False),
    Case("uuid[]", pa.list_(pa.uuid()), ("{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11,NULL}",), in_bulk=False),
    Case("bool[]", pa.list_(pa.bool_()), ("{t,f,NULL}",), in_bulk=False),
    Case("bytea[]", pa.list_(pa.binary()), (r'{"\\x00ff"}',), in_bulk=False),
    Case("inet[]", pa.list_(pa.utf8()), ("{10.0.0.1,NULL}",), in_bulk=False),
    Case("mood[]", pa.list_(pa.utf8()), ('{sad,"very \\"happy\\""}',), in_bulk=False),
    Case("pair[]", pa.list_(pa.utf8()), ('{"(1,10.0.0.1)",NULL}',), in_bulk=False),
    Case("positive[]", pa.list_(pa.int32()), ("{1,2}",), in_bulk=False),
    Case("int4range[]", pa.list_(pa.utf8()), ('{"[1,2)"}',), in_bulk=False),
    Case("box[]", pa.list_(pa.utf8()), ("{(3,4),(1,2);(1,1),(0,0)}",), in_bulk=False),
]


@pytest.fixture(scope="module")
def dsn(postgres: PostgresServer) -> Iterator[str]:
    postgres.create_database(DATABASE)
    postgres.execute(SETUP, DATABASE)
    yield make_role(postgres, DATABASE, {"public.things": ()})
    postgres.drop_database(DATABASE)


def _name(case: Case) -> str:
    return f"{case.sql_type}-{case.arrow}"


def _expressions(case: Case) -> str:
    constants = ["'" + value.replace("'", "''") + "'" for value in case.values]
    rows = ", ".join(f"({constant}::{case.sql_type})" for constant in (*constants, "NULL"))
    # format() calls the type's own output function, which a cast to text does not for every type.
    shown = "CASE WHEN v IS DISTINCT FROM NULL THEN format('%s', v) END AS shown"
    return f"SELECT v, {shown} FROM (VALUES {rows}) AS t(v)"


@pytest.mark.parametrize("case", CASES, ids=_name)
async def test_small_results_hold_exactly_what_the_server_shows(case: Case, dsn: str, tmp_volume: VolumeSpec) -> None:
    async with open_pool(dsn, tmp_volume) as pool:
        attempt = await pool.run(statement(_expressions(case)))
    assert attempt.ending is Ending.Succeeded, attempt.error
    table = read_inline(attempt)
    assert table.schema.field("v").type == case.arrow
    assert _same(table, await asyncio.to_thread(read_parts, tmp_volume, attempt))
    assert attempt.manifest.columns[0].arrow_type == str(case.arrow)
    for value, expected in zip(table["v"].to_pylist(), table["shown"].to_pylist(), strict=True):
        if isinstance(value, Decimal) and case.sql_type == "numeric":
            assert value == Decimal(expected)  # one scale for the whole column
        else:
            assert _shown(value, case) == expected


@pytest.mark.parametrize("case", CASES, ids=_name)
async def test_rows_batches_and_streams_agree(case: Case, dsn: str, tmp_volume: VolumeSpec) -> None:
    """The three ways out: one piece of rows, a stream of rows, Arrow batches (where ADBC takes the type)."""
    once = _expressions(case)
    many = f"SELECT v, shown FROM generate_series(1, 400) CROSS JOIN LATERAL ({once} OFFSET 0) AS u"
    async with open_pool(dsn, tmp_volume, bulk_rows=1e9) as rows_only, open_pool(dsn, tmp_volume, bulk_rows=0) as bulk:
        small, streamed = await rows_only.run(statement(once)), await rows_only.run(statement(many))
        batches, batched = await bulk.run(statement(once)), await bulk.run(statement(many))
    assert [a.ending for a in (small, streamed, batches, batched)] == [Ending.Succeeded] * 4
    expected = read_inline(small)
    assert _same(read_inline(batches), expected)
    for attempt in (streamed, batched):
        table = await asyncio.to_thread(read_parts, tmp_volume, attempt)
        assert _same(table.slice(0, expected.num_rows), expected)
        assert table.num_rows == 400 * expected.num_rows == attempt.manifest.rows


def _same(left: pa.Table, right: pa.Table) -> bool:
    """Equal, where NaN equals NaN."""
    return left.schema == right.schema and repr(left.to_pylist()) == repr(right.to_pylist())


def _shown(value: Any, case: Case) -> str | None:
    """An Arrow value written as PostgreSQL writes it."""
    if value is None or case.arrow == pa.utf8():
        return value
    if case.arrow == INTERVAL_TYPE:
        return _interval(value)
    match value:
        case bool():
            return "t" if value else "f"
        case bytes():
            return "\\x" + value.hex()
        case float():
            return _float(value, case)
        case Decimal() | UUID() | date() | time() if not isinstance(value, datetime):
            return format(value, "f") if isinstance(value, Decimal) else str(value)
        case datetime():
            return _moment(value)
        case list():
            return _array(value, case)
        case _:
            return str(value)


def _float(value: float, case: Case) -> str:
    if value != value or value in (float("inf"), float("-inf")):
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[repr(value)]
    shortest = repr(value)
    if case.sql_type == "float4":
        texts = (f"{value:.{digits}g}" for digits in range(1, 10))
        shortest = next(
            text for text in texts if pa.scalar(float(text), pa.float32()) == pa.scalar(value, pa.float32())
        )
    return {"-0.0": "-0", "-0": "-0"}.get(shortest, shortest.removesuffix(".0"))


def _moment(value: datetime) -> str:
    text = value.replace(tzinfo=None).isoformat(" ")
    if "." in text:
        text = text.rstrip("0")
    return text + ("+00" if value.tzinfo else "")


def _interval(value: dict[str, int]) -> str:
    total, micros = divmod(abs(value["microseconds"]), 1_000_000)
    before_is_negative = value["months"] < 0 or value["days"] < 0
    sign = "-" if value["microseconds"] < 0 else "+" if before_is_negative else ""
    years, months = divmod(abs(value["months"]), 12)
    if value["months"] < 0:
        years, months = -years, -months
    counts = ((years, "year"), (months, "mon"), (value["days"], "day"))
    parts = [f"{n} {unit}{'' if n == 1 else 's'}" for n, unit in counts if n]
    if value["microseconds"] or not parts:
        clock = f"{sign}{total // 3600:02}:{total // 60 % 60:02}:{total % 60:02}"
        parts.append(clock + (f".{micros:06}".rstrip("0") if micros else ""))
    return " ".join(parts)


def _array(value: list[Any], case: Case) -> str:
    element = case.arrow
    while pa.types.is_list(element):
        element = element.value_type
    inner = Case(case.sql_type.removesuffix("[]"), element, ())
    joint = ";" if case.sql_type == "box[]" else ","
    return "{" + joint.join(_item(item, inner) for item in value) + "}"


def _item(value: Any, case: Case) -> str:
    if isinstance(value, list):
        return "{" + ",".join(_item(item, case) for item in value) + "}"
    if value is None:
        return "NULL"
    shown = _shown(value, case) or ""
    delimiter = ";" if case.sql_type == "box" else ","
    if shown == "" or shown.upper() == "NULL" or any(c in shown for c in f'{{}}"\\ {delimiter}'):
        return '"' + shown.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return shown
