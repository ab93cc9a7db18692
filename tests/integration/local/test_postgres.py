"""The private PostgreSQL server: the system's and the wheel's, restarts, crashes, roles, the flights data."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from cluster.local.errors import ServiceFailed, ServiceMissing
from cluster.local.flights import ROWS
from cluster.local.ports import answers
from cluster.local.postgres import PostgresServer, find_postgres, find_wheel_postgres, run_psql, start_postgres


def programs(kind: str) -> Path:
    folder = find_postgres() if kind == "system" else find_wheel_postgres()
    assert folder is not None, f"the {kind} PostgreSQL is missing: run `make setup`"
    return folder


@pytest.fixture(scope="module", params=["system", "wheel"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """One server of its own: these tests end it."""
    folder = tmp_path_factory.mktemp("own") / "server"
    durable = request.param == "system"
    server = start_postgres(folder, durable=durable, programs=programs(request.param), temporary=True)
    yield server
    server.remove()
    assert not server.folder.exists()
    assert not answers(server.port)


def test_data_survive_a_clean_restart_and_a_crash(server: PostgresServer) -> None:
    dsn = server.create_database("lasting")
    run_psql(dsn, b"CREATE TABLE kept (x int); INSERT INTO kept VALUES (1);")
    server.stop()
    assert not answers(server.port)
    server.start()
    run_psql(dsn, b"INSERT INTO kept VALUES (2);")
    server.kill()
    server.start()
    assert run_psql(dsn, b"SELECT sum(x) FROM kept;") == "3"
    server.drop_database("lasting")


async def test_a_stop_does_not_wait_for_open_sessions(server: PostgresServer) -> None:
    connection = await asyncpg.connect(server.admin_dsn)
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 5.0
    connection.terminate()
    server.start()


def test_a_database_is_closed_to_other_roles(server: PostgresServer) -> None:
    server.create_database("closed")
    server.create_role("outsider", "pass'word")
    with pytest.raises(ServiceFailed, match="permission denied for database"):
        run_psql(server.dsn("closed", "outsider", "pass'word"), b"SELECT 1;")
    with pytest.raises(ServiceFailed, match="password authentication failed"):
        run_psql(server.dsn("closed", "outsider", "wrong"), b"SELECT 1;")
    server.drop_database("closed")


def test_a_failed_statement_is_an_error_with_the_servers_words(server: PostgresServer) -> None:
    with pytest.raises(ServiceFailed, match='relation "nothing" does not exist'):
        server.execute("SELECT * FROM nothing;")


def test_names_that_need_quotes_work(server: PostgresServer) -> None:
    name = 'we"ird näme/%'
    assert run_psql(server.create_database(name), b"SELECT current_database();") == name
    server.drop_database(name)


async def test_drivers_connect_with_the_dsn(server: PostgresServer) -> None:
    connection = await asyncpg.connect(server.admin_dsn)
    assert await connection.fetchval("SHOW timezone") == "UTC"
    assert urlsplit(server.admin_dsn).hostname == "127.0.0.1"
    await connection.close()


async def test_the_flights_are_complete_typed_and_indexed(flights_dsn: str) -> None:
    connection = await asyncpg.connect(flights_dsn)
    counts = {table: await connection.fetchval(f"SELECT count(*) FROM {table}") for table in ROWS}
    assert counts == ROWS
    flight = await connection.fetchrow(
        "SELECT * FROM flights WHERE origin = 'EWR' AND month = 1 AND day = 1 ORDER BY 4 LIMIT 1"
    )
    assert (flight["dep_time"], flight["carrier"], flight["time_hour"].isoformat()) == (
        517,
        "UA",
        "2013-01-01T10:00:00+00:00",
    )
    assert await connection.fetchval("SELECT count(*) FROM flights WHERE dep_time IS NULL") == 8_255
    plan = await connection.fetch("EXPLAIN SELECT 1 FROM flights WHERE origin = 'EWR' AND month = 1 AND day = 1")
    assert "flights_origin_month_day" in "\n".join(row[0] for row in plan)
    await connection.close()


def test_a_machine_without_postgresql_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.local.postgres.SYSTEM_FOLDERS", ("/no/such/folder",))
    monkeypatch.setattr("cluster.local.postgres.find_wheel_postgres", lambda: None)
    with pytest.raises(ServiceMissing, match="make setup"):
        find_postgres()
