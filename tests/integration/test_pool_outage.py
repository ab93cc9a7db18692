"""A database that is away, starting, frozen or slow: typed, retryable, and the pool recovers by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from cluster.local.postgres import PostgresServer, start_postgres
from sandpool.outcome import Ending
from tests.support.pools import make_role, open_pool, read_inline, statement
from workers.attempt import Attempt
from workers.sql.pool import Pool
from workers.volumes.spec import VolumeSpec

pytestmark = pytest.mark.may_block("file volumes work on the loop: workers.volumes.local")

DATABASE = "outage"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A server of this module's own, to stop and kill."""
    server = start_postgres(tmp_path_factory.mktemp("outage") / "server", durable=False)
    server.create_database(DATABASE)
    server.execute("CREATE TABLE t AS SELECT i FROM generate_series(1, 200000) AS g(i); ANALYZE", DATABASE)
    yield server
    server.remove()


@pytest.fixture(scope="module")
def dsn(server: PostgresServer) -> str:
    return make_role(server, DATABASE, {"public.t": ()})


async def _until_it_works(pool: Pool, timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while (await pool.run(statement("SELECT 1"))).ending is not Ending.Succeeded:
        assert time.monotonic() < deadline, "the pool did not recover"
        await asyncio.sleep(0.1)


def _is_unavailable(attempt: Attempt) -> bool:
    return attempt.error is not None and attempt.error.code == "database.unavailable" and attempt.error.retryable


async def test_a_stopped_server_is_unavailable_and_a_started_one_works_again(
    server: PostgresServer, dsn: str, tmp_volume: VolumeSpec
) -> None:
    async with open_pool(dsn, tmp_volume, connect_timeout_s=2.0) as pool:
        await asyncio.gather(*(pool.run(statement("SELECT 1")) for _ in range(8)))
        await asyncio.to_thread(server.stop)
        try:
            attempts = [await pool.run(statement("SELECT 1")) for _ in range(3)]
            attempts += await asyncio.gather(*(pool.run(statement("SELECT 1")) for _ in range(17)))
        finally:
            await asyncio.to_thread(server.start)
        assert all(map(_is_unavailable, attempts))
        await _until_it_works(pool)
        assert pool.status().running == 0


async def test_a_restart_while_idle_goes_unnoticed(server: PostgresServer, dsn: str, tmp_volume: VolumeSpec) -> None:
    async with open_pool(dsn, tmp_volume) as pool:
        for sql in ("SELECT 1", "SELECT * FROM t"):
            assert (await pool.run(statement(sql))).ending is Ending.Succeeded
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)
        assert (await pool.run(statement("SELECT 1"))).ending is Ending.Succeeded
        bulk = await pool.run(statement("SELECT * FROM t"))
        assert bulk.ending is Ending.Succeeded or _is_unavailable(bulk)
        assert (await pool.run(statement("SELECT * FROM t"))).ending is Ending.Succeeded


@pytest.mark.parametrize("bulk_rows", [0.0, 1e9], ids=["batches", "rows"])
async def test_a_crash_in_the_middle_is_retryable(
    bulk_rows: float, server: PostgresServer, dsn: str, tmp_volume: VolumeSpec
) -> None:
    endless = "SELECT count(*) FROM generate_series(1, 1000000000000)"
    async with open_pool(dsn, tmp_volume, connect_timeout_s=2.0, bulk_rows=bulk_rows) as pool:
        running = [asyncio.create_task(pool.run(statement(endless))) for _ in range(2)]
        await asyncio.sleep(0.5)
        await asyncio.to_thread(server.kill)
        attempts = await asyncio.gather(*running)
        await asyncio.to_thread(server.start)
        assert all(map(_is_unavailable, attempts)), attempts
        await _until_it_works(pool)
    count = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'agent'"
    async with asyncio.timeout(10):
        while await asyncio.to_thread(server.execute, count) != "0":
            await asyncio.sleep(0.1)


async def test_a_killed_backend_costs_one_attempt(server: PostgresServer, dsn: str, tmp_volume: VolumeSpec) -> None:
    kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'agent' AND state = 'active'"
    async with open_pool(dsn, tmp_volume) as pool:
        running = asyncio.create_task(pool.run(statement("SELECT count(*) FROM generate_series(1, 1000000000000)")))
        async with asyncio.timeout(20):
            while not await asyncio.to_thread(server.execute, kill):
                await asyncio.sleep(0.05)
        assert _is_unavailable(await running)
        assert (await pool.run(statement("SELECT 1"))).ending is Ending.Succeeded


async def test_a_frozen_server_ends_every_job_within_its_time_limit(
    server: PostgresServer, dsn: str, tmp_volume: VolumeSpec
) -> None:
    async with open_pool(dsn, tmp_volume, connect_timeout_s=1.0, budget=2) as pool:
        await pool.run(statement("SELECT 1"))
        await asyncio.to_thread(server.freeze)
        started = time.monotonic()
        try:
            attempts = await asyncio.gather(*(pool.run(statement("SELECT 1", timeout_s=1.5)) for _ in range(4)))
        finally:
            await asyncio.to_thread(server.thaw)
        assert time.monotonic() - started < 10
        for attempt in attempts:
            assert attempt.ending is Ending.TimedOut or _is_unavailable(attempt)
        await _until_it_works(pool)


async def test_too_many_connections_is_retryable(server: PostgresServer, dsn: str, tmp_volume: VolumeSpec) -> None:
    await asyncio.to_thread(server.execute, "ALTER ROLE agent CONNECTION LIMIT 1")
    try:
        async with open_pool(dsn, tmp_volume, budget=3) as pool:
            jobs = [statement("SELECT count(*) FROM generate_series(1, 3000000)", tenant=f"t{i}") for i in range(3)]
            attempts = await asyncio.gather(*map(pool.run, jobs))
            assert any(attempt.ending is Ending.Succeeded for attempt in attempts)
            assert all(attempt.ending is Ending.Succeeded or _is_unavailable(attempt) for attempt in attempts)
            assert any(map(_is_unavailable, attempts))
    finally:
        await asyncio.to_thread(server.execute, "ALTER ROLE agent CONNECTION LIMIT 50")


async def test_a_drained_pool_finishes_what_runs_and_refuses_what_comes(
    server: PostgresServer, dsn: str, tmp_volume: VolumeSpec
) -> None:
    async with open_pool(dsn, tmp_volume) as pool:
        running = asyncio.create_task(pool.run(statement("SELECT count(*) AS n FROM generate_series(1, 2000000)")))
        await asyncio.sleep(0.05)
        drained = asyncio.create_task(pool.drain(10.0))
        await asyncio.sleep(0)
        late = await pool.run(statement("SELECT 1"))
        assert await drained is True
    assert read_inline(await running).to_pylist() == [{"n": 2000000}]
    assert late.error is not None
    assert late.error.code == "pool.closed"
    assert late.error.retryable


async def test_an_unknown_volume_is_a_typed_failure(dsn: str, tmp_volume: VolumeSpec) -> None:
    async with open_pool(dsn, tmp_volume) as pool:
        attempt = await pool.run(statement("SELECT 1", volume="nowhere"))
    assert attempt.error is not None
    assert attempt.error.code == "configuration.invalid"
