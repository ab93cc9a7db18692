"""Values that Arrow cannot hold end as a typed error that names the column; odd shapes of results keep their form."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal

import pyarrow as pa
import pytest

from cluster.local.postgres import PostgresServer
from sandpool.outcome import Ending
from tests.support.pools import make_role, open_pool, read_inline, read_parts, statement
from workers.volumes.spec import VolumeSpec

pytestmark = pytest.mark.may_block("file volumes work on the loop: workers.volumes.local")

DATABASE = "edges"


@pytest.fixture(scope="module")
def dsn(postgres: PostgresServer) -> Iterator[str]:
    postgres.create_database(DATABASE)
    yield make_role(postgres, DATABASE, {})
    postgres.drop_database(DATABASE)


@pytest.mark.parametrize("bulk_rows", [0.0, 1e9], ids=["batches", "rows"])
@pytest.mark.parametrize(
    "value",
    [
        "date 'infinity'",
        "date '-infinity'",
        "timestamp 'infinity'",
        "timestamp '-infinity'",
        "timestamptz 'infinity'",
        "timestamptz '-infinity'",
        "timestamp '294276-12-31 23:59:59.999999'",
        "time '24:00:00'",
    ],
)
async def test_a_value_beyond_arrow_fails_and_names_its_column(
    value: str, bulk_rows: float, dsn: str, tmp_volume: VolumeSpec
) -> None:
    async with open_pool(dsn, tmp_volume, bulk_rows=bulk_rows) as pool:
        attempt = await pool.run(statement(f"SELECT 1 AS fine, {value} AS broken"))
        as_text = await pool.run(statement(f"SELECT CAST({value} AS text) AS broken"))
    assert attempt.ending is Ending.Failed
    assert attempt.error is not None
    assert attempt.error.code == "result.unrepresentable"
    assert "'broken'" in attempt.error.message
    assert "CAST" in attempt.error.hint
    assert as_text.ending is Ending.Succeeded


@pytest.mark.parametrize("bulk_rows", [0.0, 1e9], ids=["batches", "rows"])
@pytest.mark.parametrize("value", ["4714-11-24 00:00:00 BC", "294246-12-31 23:59:59"])
async def test_the_whole_range_of_arrow_timestamps_is_exact(
    value: str, bulk_rows: float, dsn: str, tmp_volume: VolumeSpec
) -> None:
    sql = f"SELECT v, (extract(epoch FROM v) * 1000000)::int8 AS us FROM (SELECT timestamp '{value}' AS v) AS t"
    async with open_pool(dsn, tmp_volume, bulk_rows=bulk_rows) as pool:
        attempt = await pool.run(statement(sql))
    table = read_inline(attempt)
    assert table["v"].cast(pa.int64()).to_pylist() == table["us"].to_pylist()


async def test_a_later_number_that_does_not_fit_a_stream_fails_and_leaves_nothing(
    dsn: str, tmp_volume: VolumeSpec
) -> None:
    sql = "SELECT CASE WHEN i < 2000 THEN 1.5 ELSE 1.25 END AS ratio FROM generate_series(1, 3000) AS g(i)"
    async with open_pool(dsn, tmp_volume, bulk_rows=1e9) as pool:
        attempt = await pool.run(statement(sql))
        declared = await pool.run(statement(sql.replace("END AS", "END::numeric(9,2) AS")))
    assert attempt.error is not None
    assert attempt.error.code == "result.unrepresentable"
    assert "'ratio'" in attempt.error.message
    assert "1.25" not in attempt.error.message
    assert declared.ending is Ending.Succeeded
    assert declared.manifest.columns[0].arrow_type == "decimal128(9, 2)"


async def test_mixed_array_dimensions_fail(dsn: str, tmp_volume: VolumeSpec) -> None:
    async with open_pool(dsn, tmp_volume) as pool:
        attempt = await pool.run(statement("SELECT v FROM (VALUES ('{1}'::int[]), ('{{1}}')) AS t(v)"))
    assert attempt.error is not None
    assert attempt.error.code == "result.unrepresentable"


async def test_unconstrained_numerics_get_the_smallest_scale_that_holds_all(dsn: str, tmp_volume: VolumeSpec) -> None:
    async with open_pool(dsn, tmp_volume) as pool:
        attempt = await pool.run(statement("SELECT v FROM (VALUES (1.10::numeric), (22.125), (-3)) AS t(v)"))
    table = read_inline(attempt)
    assert table.schema.field("v").type == pa.decimal128(38, 3)
    assert table["v"].to_pylist() == [Decimal("1.100"), Decimal("22.125"), Decimal("-3.000")]


@pytest.mark.parametrize("bulk_rows", [0.0, 1e9], ids=["batches", "rows"])
async def test_empty_and_null_only_results_keep_their_types(bulk_rows: float, dsn: str, tmp_volume: VolumeSpec) -> None:
    columns = "NULL::int8 AS a, NULL::text AS b, NULL::timestamptz AS c, NULL::numeric(5,1) AS d, NULL::numeric AS e"
    async with open_pool(dsn, tmp_volume, bulk_rows=bulk_rows) as pool:
        nothing = await pool.run(statement(f"SELECT {columns} WHERE false"))
        nulls = await pool.run(statement(f"SELECT {columns}"))
    kinds = [pa.int64(), pa.utf8(), pa.timestamp("us", "UTC"), pa.decimal128(5, 1), pa.decimal128(38, 0)]
    for attempt, rows in ((nothing, 0), (nulls, 1)):
        table = await asyncio.to_thread(read_parts, tmp_volume, attempt)
        assert table.schema.types == kinds
        assert table.num_rows == attempt.manifest.rows == rows


async def test_repeated_column_names_are_numbered_everywhere(dsn: str, tmp_volume: VolumeSpec) -> None:
    async with open_pool(dsn, tmp_volume) as pool:
        attempt = await pool.run(statement("SELECT 1 AS a, 2 AS a, 3 AS a_2, 4 AS a, 5, 6"))
    names = ["a", "a_3", "a_2", "a_4", "?column?", "?column?_2"]
    assert read_inline(attempt).column_names == names
    assert [column.name for column in attempt.manifest.columns] == names
    assert (await asyncio.to_thread(read_parts, tmp_volume, attempt)).column_names == names


async def test_a_result_without_columns_has_its_rows_counted(dsn: str, tmp_volume: VolumeSpec) -> None:
    async with open_pool(dsn, tmp_volume) as pool:
        attempt = await pool.run(statement("SELECT FROM generate_series(1, 7)"))
    assert attempt.ending is Ending.Succeeded
    assert attempt.manifest.rows == 7
    assert attempt.manifest.columns == ()


@pytest.mark.parametrize("bulk_rows", [0.0, 1e9], ids=["batches", "rows"])
async def test_1600_columns_arrive(bulk_rows: float, dsn: str, tmp_volume: VolumeSpec) -> None:
    sql = "SELECT " + ", ".join(f"{i} AS c{i}" for i in range(1600))
    async with open_pool(dsn, tmp_volume, bulk_rows=bulk_rows) as pool:
        attempt = await pool.run(statement(sql))
    table = await asyncio.to_thread(read_parts, tmp_volume, attempt)
    assert table.to_pylist() == [{f"c{i}": i for i in range(1600)}]


async def test_a_type_made_after_the_connection_is_found(
    postgres: PostgresServer, dsn: str, tmp_volume: VolumeSpec
) -> None:
    async with open_pool(dsn, tmp_volume, budget=1) as pool:
        await pool.run(statement("SELECT 1"))
        await asyncio.to_thread(postgres.execute, "CREATE TYPE late AS (a int, b inet)", DATABASE)
        attempt = await pool.run(statement("SELECT '(1,10.0.0.1)'::late AS v, ARRAY['(2,)'::late] AS w"))
    assert attempt.error is None
    assert read_inline(attempt).to_pylist() == [{"v": "(1,10.0.0.1)", "w": ["(2,)"]}]
