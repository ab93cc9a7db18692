"""Reads on a real server: limits, isolation between tenants, cancellation, deadlines, outages; nothing leaks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pyarrow as pa
import pytest

from cluster.local.postgres import PostgresServer
from sandpool.outcome import Ending
from tests.support.pools import make_role, open_pool, read_inline, read_parts, statement
from workers.sql.session import Session
from workers.volumes.spec import VolumeSpec

pytestmark = pytest.mark.may_block("file volumes work on the loop: workers.volumes.local")

DATABASE = "reads"
TABLES = {"public.numbers": (), "public.secrets": ("id",)}
# Work that the server cannot finish in the time of a test and that can be cancelled; pg_sleep is revoked.
ENDLESS = "SELECT count(*) FROM generate_series(1, 1000000000000) AS g(i)"


@pytest.fixture(scope="module")
def dsn(postgres: PostgresServer) -> Iterator[str]:
    postgres.create_database(DATABASE)
    postgres.execute(
        "CREATE TABLE numbers AS SELECT i AS id, 'row ' || i AS label, i / 7.0::float8 AS ratio "
        "FROM generate_series(1, 60000) AS g(i); CREATE TABLE secrets (id int, ssn text); "
        "INSERT INTO secrets VALUES (1, '123-45-6789'); ANALYZE",
        DATABASE,
    )
    yield make_role(postgres, DATABASE, TABLES)
    postgres.drop_database(DATABASE)


def _sessions(postgres: PostgresServer, state: str = "%") -> int:
    sql = f"SELECT count(*) FROM pg_stat_activity WHERE usename = 'agent' AND state LIKE '{state}'"
    return int(postgres.execute(sql))


async def _wait_until(check: object, timeout_s: float = 5.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not await asyncio.to_thread(check):  # type: ignore[arg-type]
        assert time.monotonic() < deadline, "condition not reached in time"
        await asyncio.sleep(0.05)


async def test_the_event_loop_is_not_blocked_with_a_volume_in_memory(dsn: str, request: pytest.FixtureRequest) -> None:
    guard = request.getfixturevalue("_blocking_guard")
    async with open_pool(dsn, VolumeSpec(name="results", url="memory:///reads")) as pool:
        await pool.run(statement("SELECT 1"))  # connects: asyncpg looks for certificate files then
        guard.activate()
        try:
            small = await pool.run(statement("SELECT * FROM numbers WHERE id < 10"))
            large = await pool.run(statement("SELECT * FROM numbers"))
        finally:
            guard.deactivate()
    assert (small.ending, large.ending) == (Ending.Succeeded, Ending.Succeeded)
    assert (small.usage.rows, large.usage.rows) == (9, 60000)


@pytest.mark.parametrize("bulk_rows", [0.0, 1e9], ids=["batches", "rows"])
@pytest.mark.parametrize("max_rows", [1, 10, 499, 500, 501, 5000])
async def test_a_result_over_its_row_limit_ends_capped_with_the_first_rows(
    max_rows: int, bulk_rows: float, dsn: str, tmp_volume: VolumeSpec
) -> None:
    async with open_pool(dsn, tmp_volume, bulk_rows=bulk_rows) as pool:
        attempt = await pool.run(statement("SELECT id FROM numbers ORDER BY id", max_rows=max_rows))
        exact = await pool.run(statement(f"SELECT id FROM numbers LIMIT {max_rows}", max_rows=max_rows))
        after = await pool.run(statement("SELECT 1"))
    assert attempt.ending is Ending.OutputCapped
    assert attempt.manifest.partial
    assert attempt.manifest.rows == max_rows
    table = await asyncio.to_thread(read_parts, tmp_volume, attempt)
    assert table["id"].to_pylist() == list(range(1, max_rows + 1))
    assert exact.ending is Ending.Succeeded
    assert not exact.manifest.partial
    assert after.ending is Ending.Succeeded


@pytest.mark.parametrize("bulk_rows", [0.0, 1e9], ids=["batches", "rows"])
@pytest.mark.parametrize("max_bytes", [100, 50_000, 1_500_000])
async def test_a_result_over_its_byte_limit_ends_capped_below_it(
    max_bytes: int, bulk_rows: float, dsn: str, tmp_volume: VolumeSpec
) -> None:
    async with open_pool(dsn, tmp_volume, bulk_rows=bulk_rows) as pool:
        sql = "SELECT id, label, repeat('x', 100) AS pad FROM numbers"
        attempt = await pool.run(statement(sql, max_bytes=max_bytes))
    assert attempt.ending is Ending.OutputCapped
    table = await asyncio.to_thread(read_parts, tmp_volume, attempt)
    assert table.num_rows == attempt.manifest.rows
    # A batch's own overhead (validity bits, last offsets) is all that may be over.
    assert table.combine_chunks().nbytes <= max_bytes * 1.01 + 100
    assert table.num_rows > 0 or max_bytes < 200


@pytest.mark.parametrize("bulk_rows", [0.0, 1e9], ids=["batches", "rows"])
async def test_a_statement_over_its_time_limit_times_out_and_ends_on_the_server(
    bulk_rows: float, postgres: PostgresServer, dsn: str, tmp_volume: VolumeSpec
) -> None:
    async with open_pool(dsn, tmp_volume, bulk_rows=bulk_rows) as pool:
        attempt = await pool.run(statement(ENDLESS, timeout_s=0.5))
        assert attempt.ending is Ending.TimedOut, attempt.error
        assert await asyncio.to_thread(_sessions, postgres, "active") == 0
        assert (await pool.run(statement("SELECT 1"))).ending is Ending.Succeeded


async def test_a_statement_that_lifts_the_servers_timeout_is_ended_by_the_pools_own(
    postgres: PostgresServer, dsn: str, tmp_volume: VolumeSpec
) -> None:
    sql = f"SELECT set_config('statement_timeout', '0', false), ({ENDLESS})"
    async with open_pool(dsn, tmp_volume) as pool:
        attempt = await pool.run(statement("SELECT set_config('statement_timeout', '0', false)"))
        assert attempt.ending is Ending.Succeeded
        attempt = await pool.run(statement(sql, timeout_s=0.5))
        assert attempt.ending is Ending.TimedOut
        assert await asyncio.to_thread(_sessions, postgres, "active") == 0


@pytest.mark.parametrize("bulk_rows", [0.0, 1e9], ids=["batches", "rows"])
async def test_cancelling_a_job_ends_its_statement_on_the_server(
    bulk_rows: float, postgres: PostgresServer, dsn: str, tmp_volume: VolumeSpec
) -> None:
    slow = "SELECT i, i * 2 AS twice FROM generate_series(1, 1000000000000) AS g(i) WHERE i % 10000000 = 0"
    async with open_pool(dsn, tmp_volume, bulk_rows=bulk_rows) as pool:
        job = statement(slow)
        running = asyncio.create_task(pool.run(job))
        await _wait_until(lambda: _sessions(postgres, "active") == 1)
        assert await pool.cancel(job.job_id, tenant="somebody else") is False
        started = time.monotonic()
        assert await pool.cancel(job.job_id) is True
        assert time.monotonic() - started < 3
        assert await asyncio.to_thread(_sessions, postgres, "active") == 0
        attempt = await running
        assert attempt.ending is Ending.Cancelled
        assert await pool.cancel(job.job_id) is False
        assert (await pool.run(statement("SELECT 1"))).ending is Ending.Succeeded


async def test_cancelling_a_job_that_waits_for_a_connection_frees_its_place(dsn: str, tmp_volume: VolumeSpec) -> None:
    async with open_pool(dsn, tmp_volume, budget=1) as pool:
        blocker, waiter = statement(ENDLESS), statement("SELECT 1")
        first = asyncio.create_task(pool.run(blocker))
        second = asyncio.create_task(pool.run(waiter))
        async with asyncio.timeout(10):
            while pool.status().waiting != 1:
                await asyncio.sleep(0.01)
        assert await pool.cancel(waiter.job_id)
        assert (await second).ending is Ending.Cancelled
        assert pool.status().waiting == 0
        await pool.cancel(blocker.job_id)
        assert (await first).ending is Ending.Cancelled


async def test_a_second_cancellation_during_the_rollback_loses_no_connection(
    dsn: str, tmp_volume: VolumeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    rolling_back = asyncio.Event()

    async def stuck(self: Session) -> None:
        rolling_back.set()
        await asyncio.sleep(60)

    async with open_pool(dsn, tmp_volume, budget=1) as pool:
        await pool.run(statement("SELECT 1"))
        monkeypatch.setattr(Session, "rollback", stuck)
        job = statement("SELECT 2")
        running = asyncio.create_task(pool.run(job))
        await rolling_back.wait()
        await pool.cancel(job.job_id)
        assert (await running).ending is Ending.Cancelled
        monkeypatch.undo()
        assert (await pool.run(statement("SELECT 3"))).ending is Ending.Succeeded
        status = pool.status()
    assert (status.connections, status.idle, status.running) == (1, 1, 0)


async def test_a_job_that_waits_too_long_for_a_connection_may_be_retried(dsn: str, tmp_volume: VolumeSpec) -> None:
    async with open_pool(dsn, tmp_volume, budget=1, acquire_timeout_s=0.3) as pool:
        blocker = statement(ENDLESS)
        first = asyncio.create_task(pool.run(blocker))
        await asyncio.sleep(0.1)
        attempt = await pool.run(statement("SELECT 1"))
        await pool.cancel(blocker.job_id)
        await first
    assert attempt.error is not None
    assert attempt.error.code == "pool.busy"
    assert attempt.error.retryable


async def test_a_failed_statement_says_why_without_showing_rows(dsn: str, tmp_volume: VolumeSpec) -> None:
    async with open_pool(dsn, tmp_volume) as pool:
        cast = await pool.run(statement("SELECT label::int FROM numbers"))
        name = await pool.run(statement("SELECT (label || ' x')::regclass FROM numbers"))
        missing = await pool.run(statement("SELECT nope FROM numbers"))
        denied = await pool.run(statement("SELECT ssn FROM secrets"))
    for attempt in (cast, name):
        assert attempt.ending is Ending.Failed
        assert "row 1" not in repr(attempt.error)
    assert cast.error is not None
    assert cast.error.sqlstate == "22P02"
    assert missing.error is not None
    assert missing.error.message == 'column "nope" does not exist'
    assert denied.error is not None
    assert denied.error.sqlstate == "42501"


async def test_two_statements_in_one_text_are_refused_by_the_protocol(dsn: str, tmp_volume: VolumeSpec) -> None:
    async with open_pool(dsn, tmp_volume) as pool:
        for sql in ("SELECT 1; SELECT 2", "COMMIT; SELECT 1"):
            attempt = await pool.run(statement(sql))
            assert attempt.error is not None
            assert attempt.error.sqlstate == "42601"


async def test_a_statement_that_ends_the_transaction_costs_its_connection_nothing_else(
    dsn: str, tmp_volume: VolumeSpec
) -> None:
    """No policy would pass these; the pool holds on its own."""
    async with open_pool(dsn, tmp_volume, budget=1) as pool:
        for sql in ("COMMIT", "ROLLBACK", "BEGIN", "SET TRANSACTION READ WRITE", "DISCARD ALL", "DEALLOCATE ALL"):
            await pool.run(statement(sql))
            after = await pool.run(statement("SELECT current_setting('transaction_read_only') AS v"))
            assert read_inline(after)["v"].to_pylist() == ["on"], sql


async def test_nothing_passes_from_one_tenant_to_the_next_on_one_connection(dsn: str, tmp_volume: VolumeSpec) -> None:
    poison = (
        "SELECT set_config('search_path', 'evil', false), set_config('TimeZone', 'Asia/Tokyo', false)",
        "PREPARE stolen AS SELECT 1",
        "SET search_path = evil",
        "LISTEN channel",
        "COMMIT",
        "SET application_name = 'poisoned'",
    )
    look = (
        "SELECT current_setting('search_path') AS path, current_setting('TimeZone') AS zone, "
        "current_setting('application_name') AS name, (SELECT count(*) FROM pg_prepared_statements "
        "WHERE NOT from_sql = false OR statement LIKE '%stolen%') AS prepared"
    )
    async with open_pool(dsn, tmp_volume, budget=1) as pool:
        before = read_inline(await pool.run(statement(look, tenant="b"))).to_pylist()
        for sql in poison:
            await pool.run(statement(sql, tenant="a"))
        after = read_inline(await pool.run(statement(look, tenant="b"))).to_pylist()
    # The name is the job's, so that the server's views and logs tell whose statement runs.
    assert before[0].pop("name").startswith("sandpool:") and after[0].pop("name") != "poisoned"
    assert after == before
    assert before[0]["zone"] == "UTC"
    assert before[0]["path"] == "public"


@pytest.mark.parametrize("large", [False, True])
async def test_the_server_names_the_job_whose_statement_runs(dsn: str, tmp_volume: VolumeSpec, large: bool) -> None:
    sql = "SELECT current_setting('application_name') AS name" + (
        ", n FROM generate_series(1, 50000) n" if large else ""
    )
    async with open_pool(dsn, tmp_volume, budget=2) as pool:
        job = statement(sql)
        attempt = await pool.run(job)
        table = read_parts(tmp_volume, attempt) if large else read_inline(attempt)
        assert set(table["name"].to_pylist()) == {f"sandpool:{job.job_id}"}


async def test_an_attempt_tells_how_long_each_stage_took(dsn: str, tmp_volume: VolumeSpec) -> None:
    async with open_pool(dsn, tmp_volume) as pool:
        attempts = await asyncio.gather(
            pool.run(statement("SELECT * FROM numbers WHERE id < 10")),
            pool.run(statement("SELECT * FROM numbers")),
        )
        failed = await pool.run(statement("SELECT 1 / (id - 1) FROM numbers WHERE id = 1"))
    for attempt in attempts:
        assert [timing.stage for timing in attempt.timings] == ["connect", "execute", "stream"]
        assert 0 < sum(timing.took_s for timing in attempt.timings) <= attempt.usage.run_s
    assert [timing.stage for timing in failed.timings] == ["connect", "execute"]


async def test_a_tenant_keeps_its_connection_and_prepared_statements(dsn: str, tmp_volume: VolumeSpec) -> None:
    who = "SELECT pg_backend_pid() AS pid, (SELECT count(*) FROM pg_prepared_statements) AS prepared"
    async with open_pool(dsn, tmp_volume, budget=2) as pool:
        for tenant in ("a", "b", "a", "b"):
            await pool.run(statement(who, tenant=tenant))
        pids = {}
        for tenant in ("a", "b", "b", "a"):
            row = read_inline(await pool.run(statement(who, tenant=tenant))).to_pylist()[0]
            assert row["prepared"] == 1
            assert pids.setdefault(tenant, row["pid"]) == row["pid"]
    assert len(set(pids.values())) == 2


async def test_a_changed_table_is_read_with_its_new_columns(
    postgres: PostgresServer, dsn: str, tmp_volume: VolumeSpec
) -> None:
    grant = "GRANT SELECT ON changing TO agent"
    await asyncio.to_thread(postgres.execute, f"CREATE TABLE changing (a int); {grant}", DATABASE)
    async with open_pool(dsn, tmp_volume, budget=1) as pool:
        first = await pool.run(statement("SELECT * FROM changing"))
        await asyncio.to_thread(postgres.execute, "ALTER TABLE changing ADD b text", DATABASE)
        second = await pool.run(statement("SELECT * FROM changing"))
    assert [c.name for c in first.manifest.columns] == ["a"]
    assert second.error is None
    assert [c.name for c in second.manifest.columns] == ["a", "b"]


async def test_the_connection_budget_holds_and_every_connection_is_returned(
    postgres: PostgresServer, dsn: str, tmp_volume: VolumeSpec
) -> None:
    peak = 0

    async def watch() -> None:
        nonlocal peak
        while True:
            peak = max(peak, await asyncio.to_thread(_sessions, postgres))
            await asyncio.sleep(0.05)

    async with open_pool(dsn, tmp_volume, budget=3, bulk_budget=1, bulk_rows=50_000) as pool:
        watcher = asyncio.create_task(watch())
        jobs = [statement("SELECT * FROM numbers WHERE id < 300", tenant=f"t{i % 5}") for i in range(150)]
        jobs += [statement("SELECT * FROM numbers", tenant=f"t{i % 5}") for i in range(6)]
        attempts = await asyncio.gather(*map(pool.run, jobs))
        watcher.cancel()
        status = pool.status()
    assert {attempt.ending for attempt in attempts} == {Ending.Succeeded}
    assert peak <= 3
    assert (status.running, status.waiting) == (0, 0)
    assert status.connections == status.idle <= 3
    await _wait_until(lambda: _sessions(postgres) == 0)


async def test_max_cost_denies_before_anything_runs(dsn: str, tmp_volume: VolumeSpec) -> None:
    async with open_pool(dsn, tmp_volume) as pool:
        cheap = await pool.run(statement("SELECT 1", max_cost=10.0))
        dear = await pool.run(statement("SELECT * FROM numbers a CROSS JOIN numbers b", max_cost=10_000.0))
    assert cheap.ending is Ending.Succeeded
    assert dear.ending is Ending.Denied
    assert dear.error is not None
    assert dear.error.code == "cost.max"


async def test_a_parallel_plan_keeps_its_workers_and_its_inline_copy(
    postgres: PostgresServer, dsn: str, tmp_volume: VolumeSpec
) -> None:
    for setting in ("parallel_setup_cost = 0", "parallel_tuple_cost = 0", "min_parallel_table_scan_size = 0"):
        await asyncio.to_thread(postgres.execute, f"ALTER ROLE agent SET {setting}")
    try:
        async with open_pool(dsn, tmp_volume) as pool:
            attempt = await pool.run(statement("SELECT count(*) AS n, sum(ratio) > 0 AS some FROM numbers"))
    finally:
        await asyncio.to_thread(
            postgres.execute,
            "ALTER ROLE agent RESET parallel_setup_cost; ALTER ROLE agent RESET parallel_tuple_cost; "
            "ALTER ROLE agent RESET min_parallel_table_scan_size",
        )
    assert read_inline(attempt).to_pylist() == [{"n": 60000, "some": True}]


async def test_large_results_are_the_same_by_batches_and_by_rows(dsn: str, tmp_volume: VolumeSpec) -> None:
    sql = "SELECT id, label, ratio, id::numeric(12,3) AS n, id % 3 = 0 AS third FROM numbers ORDER BY id"
    async with open_pool(dsn, tmp_volume, bulk_rows=1000) as bulk, open_pool(dsn, tmp_volume, bulk_rows=1e9) as rows:
        one, other = await bulk.run(statement(sql)), await rows.run(statement(sql))
    left, right = [await asyncio.to_thread(read_parts, tmp_volume, attempt) for attempt in (one, other)]
    assert left.equals(right)
    assert left.num_rows == 60000
    assert pa.types.is_decimal(left.schema.field("n").type)
