"""A write happens exactly once, together with its row in the ledger, whatever is cancelled, repeated or cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from cluster.local.postgres import PostgresServer
from sandpool.outcome import Ending
from tests.support.pools import make_role, open_pool, read_inline, read_parts, statement
from workers.attempt import Statement
from workers.sql.pool import Pool
from workers.sql.session import Session
from workers.volumes.spec import VolumeSpec

pytestmark = pytest.mark.may_block("file volumes work on the loop: workers.volumes.local")

DATABASE = "writes"
WRITES = {"public.accounts": ("INSERT", "UPDATE", "DELETE")}
MERGE = """
    MERGE INTO accounts a USING (VALUES (1, 5), (9, 7)) AS n(id, amount) ON a.id = n.id
    WHEN MATCHED THEN UPDATE SET balance = a.balance + n.amount
    WHEN NOT MATCHED THEN INSERT (id, balance) VALUES (n.id, n.amount)
"""
POOL: dict[str, Any] = {"writes": True, "write_tables": WRITES}


@pytest.fixture(scope="module")
def dsn(postgres: PostgresServer) -> Iterator[str]:
    postgres.create_database(DATABASE)
    postgres.execute(
        "CREATE TABLE accounts (id int PRIMARY KEY, balance numeric(12,2) NOT NULL CHECK (balance >= 0), "
        "parent int REFERENCES accounts DEFERRABLE INITIALLY DEFERRED)",
        DATABASE,
    )
    yield make_role(postgres, DATABASE, {"public.accounts": ()}, WRITES, role="writer")
    postgres.drop_database(DATABASE)


@pytest.fixture(autouse=True)
def _fresh_accounts(postgres: PostgresServer, dsn: str) -> None:
    postgres.execute(
        "TRUNCATE accounts, sandpool_jobs; INSERT INTO accounts SELECT i, 100 FROM generate_series(1, 5) AS g(i)",
        DATABASE,
    )


def _total(postgres: PostgresServer) -> str:
    return postgres.execute("SELECT sum(balance) FROM accounts", DATABASE)


def _ledger(postgres: PostgresServer) -> str:
    return postgres.execute("SELECT job_id, tenant, rows_affected FROM sandpool_jobs ORDER BY 1", DATABASE)


def write(sql: str, *params: Any, **fields: Any) -> Statement:
    return statement(sql, *params, writes=True, **fields)


async def _again(pool: Pool, job: Statement) -> Any:
    return await pool.run(msgspec.structs.replace(job, attempt_id="2-again"))


@pytest.mark.parametrize(
    ("sql", "affected", "total"),
    [
        ("UPDATE accounts SET balance = balance + 10 WHERE id <= 3", 3, "530.00"),
        ("INSERT INTO accounts (id, balance) VALUES (6, 1), (7, 2)", 2, "503.00"),
        ("DELETE FROM accounts WHERE id = 5", 1, "400.00"),
        (
            MERGE,
            2,
            "512.00",
        ),
        ("UPDATE accounts SET balance = 0 WHERE id = 99", 0, "500.00"),
    ],
    ids=["update", "insert", "delete", "merge", "nothing"],
)
async def test_a_write_redelivered_has_one_effect_and_one_answer(
    sql: str, affected: int, total: str, postgres: PostgresServer, dsn: str, tmp_volume: VolumeSpec
) -> None:
    job = write(sql)
    async with open_pool(dsn, tmp_volume, **POOL) as pool:
        first = await pool.run(job)
        second = await _again(pool, job)
    assert first.ending is second.ending is Ending.Succeeded, first.error
    assert first.manifest.rows_affected == second.manifest.rows_affected == affected
    assert await asyncio.to_thread(_total, postgres) == total
    assert await asyncio.to_thread(_ledger, postgres) == f"{job.job_id}|acme|{affected}"


async def test_returning_is_data_and_a_redelivery_adopts_it(
    postgres: PostgresServer, dsn: str, tmp_volume: VolumeSpec
) -> None:
    job = write("UPDATE accounts SET balance = balance - $1 WHERE id < 3 RETURNING id, balance", "30.50")
    async with open_pool(dsn, tmp_volume, **POOL) as pool:
        first = await pool.run(job)
        second = await _again(pool, job)
    assert sorted(read_inline(first)["id"].to_pylist()) == [1, 2]
    assert second.manifest == first.manifest
    assert (await asyncio.to_thread(read_parts, tmp_volume, second)).num_rows == 2
    assert await asyncio.to_thread(_total, postgres) == "439.00"


async def test_two_attempts_at_once_have_one_effect(postgres: PostgresServer, dsn: str, tmp_volume: VolumeSpec) -> None:
    job = write("UPDATE accounts SET balance = balance + 1")
    async with open_pool(dsn, tmp_volume, **POOL) as pool:
        tries = [msgspec.structs.replace(job, attempt_id=f"1-{i}") for i in range(6)]
        attempts = await asyncio.gather(*map(pool.run, tries))
    assert {attempt.ending for attempt in attempts} == {Ending.Succeeded}
    assert {attempt.manifest.rows_affected for attempt in attempts} == {5}
    assert await asyncio.to_thread(_total, postgres) == "505.00"


async def test_another_tenants_equal_job_id_is_another_write(
    postgres: PostgresServer, dsn: str, tmp_volume: VolumeSpec
) -> None:
    job = write("UPDATE accounts SET balance = balance + 1")
    async with open_pool(dsn, tmp_volume, **POOL) as pool:
        await pool.run(job)
        attempt = await pool.run(msgspec.structs.replace(job, attempt_id="1-other", tenant="rival"))
    assert attempt.ending is Ending.Succeeded
    assert await asyncio.to_thread(_total, postgres) == "510.00"


async def test_a_job_id_used_for_other_work_is_a_conflict(
    postgres: PostgresServer, dsn: str, tmp_volume: VolumeSpec
) -> None:
    job = write("UPDATE accounts SET balance = balance + 1")
    async with open_pool(dsn, tmp_volume, **POOL) as pool:
        await pool.run(job)
        attempt = await pool.run(msgspec.structs.replace(job, attempt_id="1-other", digest="another"))
    assert attempt.ending is Ending.Failed
    assert attempt.error is not None
    assert attempt.error.code == "job.id_conflict"
    assert not attempt.error.retryable
    assert await asyncio.to_thread(_total, postgres) == "505.00"


@pytest.mark.parametrize(
    ("sql", "sqlstate"),
    [
        ("UPDATE accounts SET balance = balance - 1000", "23514"),
        ("INSERT INTO accounts (id, balance) VALUES (1, 1)", "23505"),
        ("UPDATE accounts SET parent = 4242 WHERE id = 1", "23503"),
        ("UPDATE accounts SET balance = 1 / 0", "22012"),
        ("UPDATE nowhere SET x = 1", "42P01"),
        ("UPDATE sandpool_jobs SET tenant = 'me'", "42501"),
        ("TRUNCATE accounts", "42501"),
    ],
)
async def test_a_failed_write_leaves_neither_effect_nor_ledger_row(
    sql: str, sqlstate: str, postgres: PostgresServer, dsn: str, tmp_volume: VolumeSpec
) -> None:
    """The third is found by the server only at the commit."""
    async with open_pool(dsn, tmp_volume, **POOL) as pool:
        attempt = await pool.run(write(sql))
        after = await pool.run(write("UPDATE accounts SET balance = balance + 1 WHERE id = 1"))
    assert attempt.ending is Ending.Failed
    assert attempt.error is not None
    assert attempt.error.sqlstate == sqlstate
    assert "1000" not in attempt.error.message
    assert "4242" not in attempt.error.message
    assert after.manifest.rows_affected == 1
    assert await asyncio.to_thread(_total, postgres) == "501.00"
    assert (await asyncio.to_thread(_ledger, postgres)).count("\n") == 0


async def test_returning_over_its_limit_changes_nothing(
    postgres: PostgresServer, dsn: str, tmp_volume: VolumeSpec
) -> None:
    job = write("UPDATE accounts SET balance = 0 RETURNING id", max_rows=3)
    async with open_pool(dsn, tmp_volume, **POOL) as pool:
        attempt = await pool.run(job)
    assert attempt.ending is Ending.OutputCapped
    assert attempt.manifest.parts == ()
    assert await asyncio.to_thread(_total, postgres) == "500.00"
    assert await asyncio.to_thread(_ledger, postgres) == ""


async def test_a_large_returning_is_streamed_and_counted(
    postgres: PostgresServer, dsn: str, tmp_volume: VolumeSpec
) -> None:
    sql = "INSERT INTO accounts (id, balance) SELECT i, 1 FROM generate_series(10, 4009) AS g(i) RETURNING id, balance"
    async with open_pool(dsn, tmp_volume, **POOL) as pool:
        attempt = await pool.run(write(sql))
    assert attempt.manifest.rows == attempt.manifest.rows_affected == 4000
    assert (await asyncio.to_thread(read_parts, tmp_volume, attempt)).num_rows == 4000


async def test_a_cancelled_write_has_no_effect(postgres: PostgresServer, dsn: str, tmp_volume: VolumeSpec) -> None:
    endless = "UPDATE accounts SET balance = (SELECT count(*) FROM generate_series(1, 1000000000000))"
    job = write(endless)
    async with open_pool(dsn, tmp_volume, **POOL) as pool:
        running = asyncio.create_task(pool.run(job))
        await asyncio.sleep(0.3)
        assert await pool.cancel(job.job_id)
        attempt = await running
    assert attempt.ending is Ending.Cancelled
    assert await asyncio.to_thread(_total, postgres) == "500.00"
    assert await asyncio.to_thread(_ledger, postgres) == ""


async def test_a_cancellation_during_the_commit_tells_what_happened(
    postgres: PostgresServer, dsn: str, tmp_volume: VolumeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit is on its way when the job is cancelled: it happens, and the ending says so."""
    committing = asyncio.Event()
    control = Session.control

    async def slow_commit(self: Session, constant: str) -> None:
        if constant == "COMMIT":
            committing.set()
            await asyncio.sleep(0.3)
        await control(self, constant)

    monkeypatch.setattr(Session, "control", slow_commit)
    job = write("UPDATE accounts SET balance = balance + 1")
    async with open_pool(dsn, tmp_volume, **POOL) as pool:
        running = asyncio.create_task(pool.run(job))
        await committing.wait()
        await pool.cancel(job.job_id)
        attempt = await running
    assert attempt.ending is Ending.Succeeded
    assert attempt.manifest.rows_affected == 5
    assert await asyncio.to_thread(_total, postgres) == "505.00"


async def test_a_connection_lost_before_the_commit_is_retried_without_a_double_effect(
    postgres: PostgresServer, dsn: str, tmp_volume: VolumeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one lost after it: the answer is lost, the effect is not, and the retry adopts it."""
    control = Session.control
    cut = "before"

    async def cut_off(self: Session, constant: str) -> None:
        if constant == "COMMIT" and cut == "before":
            self.terminate()
        await control(self, constant)
        if constant == "COMMIT" and cut == "after":
            self.terminate()
            raise ConnectionResetError

    monkeypatch.setattr(Session, "control", cut_off)
    job = write("UPDATE accounts SET balance = balance + 1 RETURNING id")
    async with open_pool(dsn, tmp_volume, **POOL) as pool:
        first = await pool.run(job)
        cut = "after"
        second = await _again(pool, job)
        cut = ""
        third = await pool.run(msgspec.structs.replace(job, attempt_id="3-last"))
    for attempt in (first, second):
        assert attempt.error is not None
        assert attempt.error.code == "database.unavailable"
        assert attempt.error.retryable
    assert third.ending is Ending.Succeeded
    assert third.manifest.rows_affected == 5
    assert all("/2-again/" in part.key for part in third.manifest.parts)
    assert (await asyncio.to_thread(read_parts, tmp_volume, third)).num_rows == 5
    assert await asyncio.to_thread(_total, postgres) == "505.00"


async def test_a_pool_registered_read_only_writes_nothing(
    postgres: PostgresServer, dsn: str, tmp_volume: VolumeSpec
) -> None:
    async with open_pool(dsn, tmp_volume, **POOL) as pool:
        attempt = await pool.run(statement("UPDATE accounts SET balance = 0"))
    assert attempt.error is not None
    assert attempt.error.sqlstate == "25006"
    assert await asyncio.to_thread(_total, postgres) == "500.00"
