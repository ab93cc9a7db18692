"""A job's JSON parameters mean on the server what PostgreSQL's text form of them means."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cluster.local.postgres import PostgresServer
from sandpool.outcome import Ending
from tests.support.pools import make_role, open_pool, read_inline, statement
from workers.volumes.spec import VolumeSpec

pytestmark = pytest.mark.may_block("file volumes work on the loop: workers.volumes.local")

DATABASE = "params"

GOOD: list[tuple[str, Any, str]] = [
    ("int2", 7, "7"),
    ("int4", "-12", "-12"),
    ("int4", 3.0, "3"),
    ("int8", 9223372036854775807, "9223372036854775807"),
    ("float8", 1.5, "1.5"),
    ("float8", "NaN", "NaN"),
    ("float8", "-Infinity", "-Infinity"),
    ("float4", "1e10", "1e+10"),
    ("numeric", "12345678901234567890.123456789", "12345678901234567890.123456789"),
    ("numeric", 0.1, "0.1"),
    ("numeric", 1e-7, "0.0000001"),
    ("numeric", "NaN", "NaN"),
    ("bool", True, "t"),
    ("bool", "off", "f"),
    ("text", "é😀 'quoted' \\ $1", "é😀 'quoted' \\ $1"),
    ("text", 5, "5"),
    ("date", "2024-02-29", "2024-02-29"),
    ("date", "9999-12-31", "9999-12-31"),
    ("date", "infinity", "infinity"),
    ("date", "Feb 29, 2024", "2024-02-29"),
    ("date", "0044-03-15 BC", "0044-03-15 BC"),
    ("timestamp", "2024-02-29T12:30:00.5", "2024-02-29 12:30:00.5"),
    ("timestamp", "2024-02-29 12:30:00+05", "2024-02-29 12:30:00"),
    ("timestamp", "2024-02-29", "2024-02-29 00:00:00"),
    ("timestamptz", "2024-02-29T12:30:00+02:00", "2024-02-29 10:30:00+00"),
    ("timestamptz", "2024-02-29T12:30:00Z", "2024-02-29 12:30:00+00"),
    ("timestamptz", "2024-02-29 12:30 America/New_York", "2024-02-29 17:30:00+00"),
    ("time", "23:59:59.999999", "23:59:59.999999"),
    ("time", "24:00:00", "24:00:00"),
    ("timetz", "04:05:06+02", "04:05:06+02"),
    ("interval", "1 mon -2 days 03:00", "1 mon -2 days +03:00:00"),
    ("interval", "P1Y2M", "1 year 2 mons"),
    ("uuid", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("bytea", r"\x00ff", r"\x00ff"),
    ("json", '{"a":1}', '{"a":1}'),
    ("jsonb", {"a": [1, None, "x"]}, '{"a": [1, null, "x"]}'),
    ("jsonb", 5, "5"),
    ("inet", "10.0.0.1/8", "10.0.0.1/8"),
    ("int4range", "[1,5]", "[1,6)"),
    ("mood", "ok", "ok"),
    ("money", "12.5", "$12.50"),
    ("bit varying", "101", "101"),
    ("pair", "(1,2)", "(1,2)"),
    ("int4[]", [1, None, 3], "{1,NULL,3}"),
    ("int4[]", "{4,5}", "{4,5}"),
    ("int4[]", [[1, 2], [3, 4]], "{{1,2},{3,4}}"),
    ("int4[]", [], "{}"),
    ("date[]", ["2024-01-01", "today - 1" and "2024-01-02", None], "{2024-01-01,2024-01-02,NULL}"),
    ("date[]", "{2024-01-01}", "{2024-01-01}"),
    ("timestamptz[]", ["2024-01-01T00:00:00Z"], '{"2024-01-01 00:00:00+00"}'),
    ("interval[]", ["1 day"], '{"1 day"}'),
    ("mood[]", ["sad", "ok"], "{sad,ok}"),
    ("mood[]", "{sad}", "{sad}"),
    ("text[]", ["a,b", '"', "NULL", ""], '{"a,b","\\"","NULL",""}'),
    ("numeric[]", ["1.50", 2], "{1.50,2}"),
    ("oid", 4294967295, "4294967295"),
    ("positive", 5, "5"),
]

BAD: list[tuple[str, Any]] = [
    ("int2", 40000),
    ("int4", "twelve"),
    ("int4", 1.5),
    ("int4", True),
    ("int4", [1]),
    ("int4", "1_000"),
    ("float8", "abc"),
    ("float8", 10**400),
    ("bool", "perhaps"),
    ("bool", 2),
    ("date", "2024-02-30"),
    ("date", 20240101),
    ("timestamp", "not a moment"),
    ("uuid", "xyz"),
    ("uuid", 5),
    ("bytea", r"\xzz"),
    ("text", "nul \x00"),
    ("text", "lone \ud800 surrogate"),
    ("int4[]", 5),
    ("int4[]", ["x"]),
    ("int4[]", [[1], [2, 3]]),
    ("mood", "furious"),
    ("inet", "999.0.0.1"),
    ("jsonb", "{not json"),
    ("numeric", "12,5"),
    ("positive", -1),
]


@pytest.fixture(scope="module")
def dsn(postgres: PostgresServer) -> Iterator[str]:
    postgres.create_database(DATABASE)
    postgres.execute(
        "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TYPE pair AS (x int, y int); "
        "CREATE DOMAIN positive AS int CHECK (value > 0)",
        DATABASE,
    )
    yield make_role(postgres, DATABASE, {})
    postgres.drop_database(DATABASE)


@pytest.mark.parametrize(("kind", "value", "shown"), GOOD, ids=[f"{kind}-{value!r}" for kind, value, _ in GOOD])
async def test_a_parameter_arrives_as_the_server_would_read_it(
    kind: str, value: Any, shown: str, dsn: str, tmp_volume: VolumeSpec
) -> None:
    async with open_pool(dsn, tmp_volume) as pool:
        attempt = await pool.run(statement(f"SELECT format('%s', $1::{kind}) AS v", value))
    assert attempt.error is None
    assert read_inline(attempt)["v"].to_pylist() == [shown]


@pytest.mark.parametrize(("kind", "value"), BAD, ids=[f"{kind}-{value!r:.30}" for kind, value in BAD])
async def test_a_parameter_without_a_value_of_its_type_is_refused_by_position(
    kind: str, value: Any, dsn: str, tmp_volume: VolumeSpec
) -> None:
    async with open_pool(dsn, tmp_volume, budget=1) as pool:
        attempt = await pool.run(statement(f"SELECT $1::int4 AS first, $2::{kind} AS v", 1, value))
        after = await pool.run(statement("SELECT 1"))
    assert attempt.ending is Ending.Failed
    assert attempt.error is not None
    assert attempt.error.code == "statement.parameter", attempt.error
    assert "$2" in attempt.error.message
    assert len(str(value)) < 3 or str(value) not in attempt.error.message
    assert after.ending is Ending.Succeeded


@pytest.mark.parametrize("values", [(), (1, 2)])
async def test_too_few_and_too_many_parameters_are_refused(
    values: tuple[int, ...], dsn: str, tmp_volume: VolumeSpec
) -> None:
    async with open_pool(dsn, tmp_volume) as pool:
        attempt = await pool.run(statement("SELECT $1::int", *values))
    assert attempt.error is not None
    assert attempt.error.code == "statement.parameter"


async def test_null_parameters_arrive_as_null(dsn: str, tmp_volume: VolumeSpec) -> None:
    async with open_pool(dsn, tmp_volume) as pool:
        attempt = await pool.run(statement("SELECT $1::int IS NULL AS a, $2::date[] IS NULL AS b", None, None))
    assert read_inline(attempt).to_pylist() == [{"a": True, "b": True}]
