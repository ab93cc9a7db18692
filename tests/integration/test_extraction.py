"""Large reads in key ranges, and runs that read only what is new, on a real server and through the whole scheduler."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import msgspec
import pytest

from cluster.app import Conductor, open_volumes, parts_of
from cluster.embedded import EmbeddedBench
from cluster.local.postgres import PostgresServer
from cluster.settings import load
from queues.memory.broker import MemoryBroker
from queues.memory.door import MemoryDoor
from queues.memory.transport import MemoryTransport
from sandpool import AsyncClient, Ending, Extraction, Outcome, SqlJob
from sandpool.results import read_table
from tests.support.pools import make_role, open_pool, read_parts, statement
from workers.attempt import Statement
from workers.volumes.spec import VolumeSpec

pytestmark = pytest.mark.may_block("file volumes work on the loop: workers.volumes.local")

DATABASE = "extraction"
ROWS = 60_000
RANGES = tuple(
    f"SELECT * FROM accounts WHERE id >= {low} AND id < {low + ROWS // 6}" for low in range(0, ROWS, ROWS // 6)
)
CONFIG = """
[broker]
url = "memory://"
[volumes.results]
url = "file://./volume"
[databases.bank]
dsn = "{dsn}"
policy = "bank.toml"
[tenants.acme]
databases = ["bank"]
"""
POLICY = """
dialect = "postgres"
mode = "read-only"
tables = ["accounts", "log"]
"""


@pytest.fixture(scope="module")
def dsn(postgres: PostgresServer) -> Iterator[str]:
    postgres.create_database(DATABASE)
    postgres.execute(
        "CREATE TABLE accounts AS SELECT i AS id, 100 AS balance, i / 3::numeric AS share, repeat('x', 40) AS pad "
        f"FROM generate_series(0, {ROWS - 1}) AS g(i); CREATE INDEX ON accounts (id); "
        "CREATE TABLE log (id int, noted timestamptz); INSERT INTO log VALUES "
        "(1, '2026-01-01'), (2, '2026-01-02 03:04:05.678901+02'), (3, NULL); ANALYZE",
        DATABASE,
    )
    role = make_role(postgres, DATABASE, {"public.accounts": (), "public.log": ()})
    postgres.execute("GRANT EXECUTE ON FUNCTION pg_export_snapshot() TO agent", DATABASE)
    yield role
    postgres.drop_database(DATABASE)


def _split(**fields: object) -> Statement:
    return statement("SELECT * FROM accounts", ranges=RANGES, **fields)


async def test_ranges_together_are_the_whole_with_parts_in_order(dsn: str, tmp_volume: VolumeSpec) -> None:
    async with open_pool(dsn, tmp_volume, bulk_rows=0.0) as pool:
        attempt = await pool.run(_split())
        status = pool.status()
    assert attempt.error is None
    assert (attempt.ending, attempt.manifest.rows, attempt.usage.rows) == (Ending.Succeeded, ROWS, ROWS)
    assert len(attempt.manifest.parts) == len(RANGES)
    table = await asyncio.to_thread(read_parts, tmp_volume, attempt)
    assert table["id"].to_pylist() == list(range(ROWS))
    assert str(table.schema.field("share").type) == "decimal128(38, 20)"
    assert status.running == 0


async def test_ranges_are_read_by_as_many_connections_as_there_may_be(
    dsn: str, tmp_volume: VolumeSpec, postgres: PostgresServer
) -> None:
    most = 0
    async with open_pool(dsn, tmp_volume, bulk_rows=0.0, bulk_budget=3) as pool:
        run = asyncio.create_task(pool.run(_split()))
        while not run.done():
            most = max(most, pool.status().connections)
            await asyncio.sleep(0.001)
        assert (await run).ending is Ending.Succeeded
    assert most == 4  # three that stream, and the one that prepared the statement


async def test_all_ranges_see_one_moment(dsn: str, tmp_volume: VolumeSpec, postgres: PostgresServer) -> None:
    """Money moves between the first and the last range all the time; the sum never changes in any snapshot."""
    stop = threading.Event()
    moves = 0

    async def move() -> None:
        nonlocal moves
        connection = await asyncpg.connect(postgres.dsn(DATABASE))
        while not stop.is_set():
            await connection.execute(
                f"UPDATE accounts SET balance = balance + CASE id WHEN 0 THEN -1 ELSE 1 END WHERE id IN (0, {ROWS - 1})"
            )
            moves += 1
        await connection.close()

    mover = threading.Thread(target=lambda: asyncio.run(move()))
    mover.start()
    try:
        async with open_pool(dsn, tmp_volume, bulk_rows=0.0, bulk_budget=3) as pool:
            before = moves
            for _ in range(4):
                attempt = await pool.run(_split())
                table = await asyncio.to_thread(read_parts, tmp_volume, attempt)
                assert sum(table["balance"].to_pylist()) == 100 * ROWS
            assert moves > before
    finally:
        stop.set()
        await asyncio.to_thread(mover.join)


async def test_a_role_that_may_export_no_snapshot_reads_the_ranges_alone(
    dsn: str, tmp_volume: VolumeSpec, postgres: PostgresServer
) -> None:
    postgres.execute("REVOKE EXECUTE ON FUNCTION pg_export_snapshot() FROM agent", DATABASE)
    try:
        async with open_pool(dsn, tmp_volume, bulk_rows=0.0, bulk_budget=3) as pool:
            attempt = await pool.run(_split())
            after = await pool.run(statement("SELECT 1"))
    finally:
        postgres.execute("GRANT EXECUTE ON FUNCTION pg_export_snapshot() TO agent", DATABASE)
    assert (attempt.ending, attempt.manifest.rows, after.ending) == (Ending.Succeeded, ROWS, Ending.Succeeded)


async def test_limits_hold_for_all_ranges_together(dsn: str, tmp_volume: VolumeSpec) -> None:
    async with open_pool(dsn, tmp_volume, bulk_rows=0.0) as pool:
        attempt = await pool.run(_split(max_rows=25_000))
    table = await asyncio.to_thread(read_parts, tmp_volume, attempt)
    assert (attempt.ending, attempt.manifest.partial) == (Ending.OutputCapped, True)
    assert attempt.manifest.rows == table.num_rows == 25_000
    assert len(set(table["id"].to_pylist())) == 25_000


async def test_a_range_that_fails_fails_the_whole_and_leaves_nothing(
    dsn: str, tmp_volume: VolumeSpec, tmp_path: Path
) -> None:
    broken = (*RANGES, "SELECT id, balance, share, pad FROM accounts WHERE 1 / (id - 59999) > 0")
    async with open_pool(dsn, tmp_volume, bulk_rows=0.0) as pool:
        attempt = await pool.run(msgspec.structs.replace(_split(), ranges=broken))
        after = await pool.run(_split())
        idle = pool.status()
    assert (attempt.ending, attempt.error and attempt.error.sqlstate) == (Ending.Failed, "22012")
    assert (after.ending, after.manifest.rows) == (Ending.Succeeded, ROWS)
    assert idle.connections == idle.idle
    names = {path.name for path in (tmp_path / "volume").rglob("*.parquet")}
    assert len(names) == len(after.manifest.parts)


async def test_cancelling_ends_every_range_on_the_server(
    dsn: str, tmp_volume: VolumeSpec, postgres: PostgresServer
) -> None:
    endless = "SELECT i AS id FROM generate_series(1, 1000000000000) AS g(i) WHERE i < 0"
    async with open_pool(dsn, tmp_volume, bulk_rows=0.0, bulk_budget=3) as pool:
        job = statement(endless, ranges=("SELECT 1::bigint AS id", *(endless,) * 3))
        run = asyncio.create_task(pool.run(job))
        running = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'agent' AND state = 'active'"
        while int(await asyncio.to_thread(postgres.execute, running)) < 3:
            assert not run.done()
            await asyncio.sleep(0.05)
        assert await pool.cancel(job.job_id)
        attempt = await run
        assert int(await asyncio.to_thread(postgres.execute, running)) == 0
    assert attempt.ending is Ending.Cancelled


async def test_no_row_in_any_range_is_an_empty_result_with_its_columns(dsn: str, tmp_volume: VolumeSpec) -> None:
    none = tuple(text + " AND pad = ''" for text in RANGES)
    async with open_pool(dsn, tmp_volume, bulk_rows=0.0) as pool:
        attempt = await pool.run(msgspec.structs.replace(_split(), ranges=none))
    table = await asyncio.to_thread(read_parts, tmp_volume, attempt)
    assert (attempt.ending, table.num_rows, table.column_names) == (
        Ending.Succeeded,
        0,
        ["id", "balance", "share", "pad"],
    )


# ---- through the scheduler ----


@pytest.fixture
async def client(dsn: str, tmp_path: Path) -> AsyncIterator[AsyncClient]:
    (tmp_path / "volume").mkdir()
    (tmp_path / "bank.toml").write_text(POLICY)
    (tmp_path / "sandpool.toml").write_text(CONFIG.format(dsn=dsn))
    settings = load(tmp_path / "sandpool.toml")
    parts = parts_of(settings)
    volumes = open_volumes(parts.volumes)
    broker = MemoryBroker()
    broker.add_tenant("acme")
    conductor = Conductor(settings, parts, MemoryDoor(broker), EmbeddedBench(parts.pools, volumes), volumes)
    await conductor.start()
    async with AsyncClient(MemoryTransport(broker, "acme")) as opened:
        yield opened
    await conductor.drain(5.0)


async def _run(client: AsyncClient, sql: str, how: Extraction, **fields: object) -> Outcome:
    job = SqlJob(database="bank", sql=sql, extraction=how, max_attempts=1, **fields)  # type: ignore[arg-type]
    return await (await client.submit(job)).outcome(30)


async def test_a_job_in_ranges_has_the_rows_of_the_plain_job(client: AsyncClient) -> None:
    outcome = await _run(client, "select * from accounts;", Extraction(column="id", parts=5))
    assert (outcome.ending, outcome.manifest.rows, len(outcome.manifest.parts)) == (Ending.Succeeded, ROWS, 5)
    assert outcome.manifest.watermark is None
    assert sorted(read_table(outcome)["id"].to_pylist()) == list(range(ROWS))


async def test_each_incremental_run_reads_what_is_new_since_the_last(
    client: AsyncClient, postgres: PostgresServer
) -> None:
    sql = "select id, noted from log"
    first = await _run(client, sql, Extraction(column="noted", incremental=True), id="first")
    assert first.manifest.watermark is not None
    assert (sorted(first.table()["id"].to_pylist()), first.manifest.watermark.value) == (
        [1, 2, 3],
        "2026-01-02 01:04:05.678901+00",
    )
    postgres.execute("INSERT INTO log VALUES (4, '2026-02-01'), (5, '2026-02-02'), (6, '2025-01-01')", DATABASE)
    try:
        how = Extraction(column="noted", incremental=True, parts=2, after="first")
        second = await _run(client, sql, how, id="second")
        again = await _run(client, sql, how, id="second")
        third = await _run(client, sql, Extraction(column="noted", incremental=True, after="second"), id="third")
    finally:
        postgres.execute("DELETE FROM log WHERE id > 3", DATABASE)
    assert sorted(second.table()["id"].to_pylist()) == [4, 5]
    assert again.ended_at == second.ended_at
    assert (third.table().num_rows, third.manifest.watermark) == (0, second.manifest.watermark)


@pytest.mark.parametrize(
    ("sql", "how", "ending", "code"),
    [
        ("select * from accounts", Extraction(column="pad", parts=2), Ending.Failed, "extraction.column"),
        ("select * from accounts", Extraction(column="nowhere", parts=2), Ending.Denied, "column.unknown"),
        ("select * from pg_authid", Extraction(column="oid", parts=2), Ending.Denied, "table.system"),
        (
            "select 1 as id) as a, (select * from accounts",
            Extraction(column="id", parts=2),
            Ending.Denied,
            "statement.syntax",
        ),
        (
            "select * from accounts",
            Extraction(column="id", incremental=True, after="never-ran"),
            Ending.Failed,
            "extraction.after",
        ),
    ],
)
async def test_an_extraction_that_cannot_be_says_why(
    client: AsyncClient, sql: str, how: Extraction, ending: Ending, code: str
) -> None:
    outcome = await _run(client, sql, how)
    assert outcome.error is not None
    assert (outcome.ending, outcome.error.code) == (ending, code)
