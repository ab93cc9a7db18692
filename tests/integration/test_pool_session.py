"""What a session relies on inside asyncpg and ADBC beyond their public API: a new release that moves it fails here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from cluster.local.postgres import PostgresServer
from tests.support.pools import make_role
from workers.sql.connection import BulkSession
from workers.sql.session import Session
from workers.sql.spec import PoolSpec

DATABASE = "session"


@pytest.fixture(scope="module")
def spec(postgres: PostgresServer) -> Iterator[PoolSpec]:
    postgres.create_database(DATABASE)
    yield PoolSpec(database="test", dsn=make_role(postgres, DATABASE, {}))
    postgres.drop_database(DATABASE)


@pytest.mark.may_block("asyncpg looks for certificate files when it connects")
async def test_a_prepared_statement_tells_type_modifiers(spec: PoolSpec) -> None:
    session = await Session.open(spec)
    try:
        prepared = await session.prepare("SELECT 1::numeric(12,3) AS a, 'x'::varchar(7) AS b, 1::numeric AS c, 2 AS d")
        assert [plan.database_type for plan in prepared.plans] == ["numeric(12,3)", "varchar(7)", "numeric", "int4"]
    finally:
        await session.close()


@pytest.mark.may_block("asyncpg looks for certificate files when it connects")
async def test_rows_come_in_pieces_from_one_portal(spec: PoolSpec) -> None:
    session = await Session.open(spec)
    try:
        await session.begin(5.0)
        prepared = await session.prepare("SELECT i FROM generate_series(1, 5) AS g(i)")
        first, _, complete = await session.execute(prepared, [], 3)
        rest, tag, ended = await session.fetch_more(prepared, 3)
        await session.rollback()
    finally:
        await session.close()
    assert [row[0] for row in (*first, *rest)] == [1, 2, 3, 4, 5]
    assert (complete, ended, tag) == (False, True, "SELECT 2")
    assert not session.broken


@pytest.mark.may_block("asyncpg looks for certificate files when it connects")
async def test_the_statement_cache_is_bounded_on_both_sides(spec: PoolSpec) -> None:
    small = PoolSpec(database="test", dsn=spec.dsn, statement_cache_size=5)
    session = await Session.open(small)
    try:
        for number in range(20):
            await session.prepare(f"SELECT {number}")
        rows = await session.query("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'SELECT _%'")
        assert rows[0][0] <= 7
        await session.reset_for("a")
        await session.reset_for("b")
        rows = await session.query("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'SELECT _%'")
        assert rows[0][0] <= 1
    finally:
        await session.close()


@pytest.mark.may_block("asyncpg looks for certificate files when it connects")
async def test_small_and_bulk_connections_have_the_same_pinned_settings(spec: PoolSpec) -> None:
    names = ", ".join(f"current_setting('{name}')" for name in spec.server_settings)
    session, bulk = await Session.open(spec), await BulkSession.open(spec)
    try:
        small = list((await session.query(f"SELECT {names}"))[0])
        batches = await asyncio.to_thread(lambda: list(bulk.read(f"SELECT {names}")))
        large = [column[0].as_py() for column in batches[0].columns]
        await asyncio.to_thread(bulk.end)
    finally:
        await session.close()
        await bulk.close()
    assert small == large
    assert "UTC" in small
