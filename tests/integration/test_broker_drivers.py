"""Real drivers through the broker, each in its own ways; what they see is what a direct connection shows."""

from __future__ import annotations

import asyncio
import datetime as dt
import decimal
import io
import json
import os
import re
import shutil
import subprocess
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import adbc_driver_postgresql.dbapi
import asyncpg
import pandas as pd
import pg8000.dbapi
import pg8000.native
import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

from cluster.local.postgres import PostgresServer
from tests.support.broker_house import BrokerHouse, broker_on

COUNT = "select carrier, count(*) n from flights where month = %s group by 1 order by 1"
NODE_VERSION = "pg@8"


@pytest.fixture(scope="module")
def house(postgres: PostgresServer, flights_dsn: str) -> Iterator[BrokerHouse]:
    with broker_on(postgres) as found:
        yield found


@pytest.fixture(scope="module")
def door(house: BrokerHouse) -> Path:
    return house.door()


@pytest.fixture(scope="module")
def direct(flights_dsn: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(flights_dsn, autocommit=True) as connection:
        yield connection


def connect(door: Path, **fields: Any) -> psycopg.Connection[Any]:
    return psycopg.connect(host=str(door), dbname="flights", user="agent", **fields)


# --- psycopg 3 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_binary", [False, True])
def test_psycopg_reads_the_same_values_as_without_the_broker(
    door: Path, direct: psycopg.Connection[Any], is_binary: bool
) -> None:
    text = """select 1::int2, 2::int8, 3.50::numeric, 'x'::text, null::text, true, now() - now(), date '2024-02-29',
        timestamptz '2024-01-01 12:00+03', '{1,2}'::int[], '{"a": 1}'::jsonb, 'infinity'::float8, '\\xdead'::bytea"""
    with connect(door) as connection:
        assert (
            connection.execute(text, binary=is_binary).fetchone() == direct.execute(text, binary=is_binary).fetchone()
        )
        for month in (1, 2, 1, 2, 1, 2, 1, 2):  # prepared on the way
            assert connection.execute(COUNT, (month,)).fetchall() == direct.execute(COUNT, (month,)).fetchall()


def test_psycopg_prepares_once_and_goes_on_over_any_connection(house: BrokerHouse, door: Path) -> None:
    connections = [connect(door, autocommit=True) for _ in range(3 * house.spec.budget)]
    for turn in range(3):
        for number, connection in enumerate(connections):
            found = connection.execute("select %s::int + 1", (number + turn,), prepare=True).fetchone()
            assert found == (number + turn + 1,)
    for connection in connections:
        connection.close()


def test_psycopg_transactions_and_savepoints_keep_their_states(door: Path) -> None:
    with connect(door) as connection:
        with connection.transaction():
            connection.execute("select 1")
            with pytest.raises(psycopg.errors.DivisionByZero), connection.transaction():
                connection.execute("select 1/0")
            with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                connection.execute("select * from pg_authid")
            assert connection.execute("select 2").fetchone() == (2,)
        connection.execute("select 1")
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("select * from nowhere")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute("select 1")
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
        connection.rollback()
        assert connection.execute("select 3").fetchone() == (3,)


@pytest.mark.parametrize("level", list(psycopg.IsolationLevel))
def test_psycopg_chooses_its_isolation_level(door: Path, level: psycopg.IsolationLevel) -> None:
    with connect(door) as connection:
        connection.isolation_level = level
        shown = connection.execute("show transaction_isolation").fetchone()
        assert shown == (level.name.lower().replace("_", " "),)


def test_psycopg_reads_by_server_side_cursors(door: Path) -> None:
    with connect(door) as connection:
        with connection.cursor("january") as cursor:
            cursor.itersize = 5000
            cursor.execute("select * from flights where month = %s", (1,))
            assert sum(1 for _ in cursor) == 27_004
        with connection.cursor("back", scrollable=True) as cursor:
            cursor.execute("select carrier from airlines order by 1")
            first = cursor.fetchone()
            cursor.scroll(0, mode="absolute")
            assert cursor.fetchone() == first


def test_psycopg_pipelines_with_and_without_errors(door: Path) -> None:
    for is_autocommit in (True, False):
        with connect(door, autocommit=is_autocommit) as connection:
            with connection.pipeline():
                cursors = [connection.execute("select %s::int", (number,)) for number in range(100)]
                assert [cursor.fetchone() for cursor in cursors] == [(number,) for number in range(100)]
            with pytest.raises(psycopg.Error) as failed, connection.pipeline():
                connection.execute("select 1")
                connection.execute("select * from pg_shadow")
                connection.execute("select 2")
            assert failed.value.sqlstate == "42501"
            connection.rollback()
            assert connection.execute("select 3").fetchone() == (3,)


def test_psycopg_copies_out(door: Path, direct: psycopg.Connection[Any]) -> None:
    for text in ("copy (select * from planes order by tailnum) to stdout", "copy airlines to stdout (format binary)"):
        with connect(door) as connection, connection.cursor() as cursor, cursor.copy(text) as copy:
            found = b"".join(bytes(piece) for piece in copy)
        with direct.cursor() as cursor, cursor.copy(text) as copy:
            assert b"".join(bytes(piece) for piece in copy) == found


def test_psycopg_cancels_its_own_statement(door: Path) -> None:
    with connect(door, autocommit=True) as connection:
        over = threading.Event()

        def cancel() -> None:
            while not over.wait(0.3):  # again: the first may come before the statement
                connection.cancel_safe()

        thread = threading.Thread(target=cancel, daemon=True)
        thread.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("select count(*) from flights a, flights b where a.arr_time < b.dep_time")
        over.set()
        thread.join()
        assert connection.execute("select 1").fetchone() == (1,)


async def test_psycopg_works_with_an_event_loop(door: Path) -> None:
    async with await psycopg.AsyncConnection.connect(host=str(door), dbname="flights", user="agent") as connection:
        for month in range(1, 8):
            cursor = await connection.execute(COUNT, (month,))
            assert await cursor.fetchall()


def test_settings_are_the_sessions_own_and_roll_back(door: Path) -> None:
    text = "select timestamptz '2024-01-01 00:00Z'::text"
    with connect(door) as connection, connect(door) as other:
        connection.execute("set timezone to 'Asia/Tokyo'")
        assert connection.execute(text).fetchone() == ("2024-01-01 09:00:00+09",)
        assert other.execute(text).fetchone() == ("2024-01-01 00:00:00+00",)
        connection.rollback()
        assert connection.execute(text).fetchone() == ("2024-01-01 00:00:00+00",)
        connection.execute("set timezone to 'Asia/Tokyo'")
        connection.commit()
        assert connection.execute(text).fetchone() == ("2024-01-01 09:00:00+09",)
        assert connection.info.parameter_status("TimeZone") == "Asia/Tokyo"
        assert connection.execute("show timezone").fetchone() == ("Asia/Tokyo",)
    with connect(door, options="-c timezone=Asia/Tokyo -c statement_timeout=5s") as connection:
        assert connection.execute(text).fetchone() == ("2024-01-01 09:00:00+09",)


def test_what_set_local_says_holds_until_the_transaction_ends(door: Path) -> None:
    slow = "select count(*) from generate_series(1, 100000000) a"
    with connect(door) as connection:
        connection.execute("set statement_timeout = 90000")
        for _ in range(2):  # before the server heard of the transaction, and after
            connection.execute("set local statement_timeout = '200ms'")
            assert connection.execute("show statement_timeout").fetchone() == ("200ms",)
            connection.execute("select 1")
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute(slow)
        connection.rollback()
        connection.execute("set statement_timeout = 90000")
        connection.execute("set local statement_timeout = 300")
        connection.execute("set local timezone = 'Asia/Tokyo'")
        assert connection.execute("show timezone").fetchone() == ("Asia/Tokyo",)
        connection.execute("set statement_timeout = '2min'")
        assert connection.execute("show statement_timeout").fetchone() == ("2min",)
        connection.execute("set local statement_timeout = 300")
        connection.execute("reset statement_timeout")
        assert connection.execute("show timezone").fetchone() == ("Asia/Tokyo",)
        assert connection.execute("show statement_timeout").fetchone() != ("300ms",)
        connection.commit()
        assert connection.execute("show timezone").fetchone() == ("UTC",)


# --- asyncpg ---------------------------------------------------------------------------------------------------------


async def test_asyncpg_prepares_walks_and_copies(door: Path) -> None:
    connection = await asyncpg.connect(host=str(door), database="flights", user="agent")
    statement = await connection.prepare("select $1::int + $2::int")
    assert [await statement.fetchval(n, 1) for n in range(3)] == [1, 2, 3]
    assert await connection.fetchval("select $1::numeric", decimal.Decimal("1.50")) == decimal.Decimal("1.50")
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        cursor = await connection.cursor("select flight from flights where month = 1")
        rows = []
        while page := await cursor.fetch(4000):
            rows += page
        assert len(rows) == 27_004
        assert len([row async for row in connection.cursor("select * from planes", prefetch=500)]) == 3322
    output = io.BytesIO()
    assert await connection.copy_from_query("select * from airlines where carrier > $1", "U", output=output) == "COPY 5"
    assert await connection.copy_from_table("airlines", output=output) == "COPY 16"
    with pytest.raises(asyncpg.DivisionByZeroError):
        await connection.fetch("select 1/0")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.fetch("select * from pg_authid")
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await connection.execute("delete from flights")
    await connection.close()


async def test_two_hundred_clients_of_asyncpg_share_four_connections(house: BrokerHouse, door: Path) -> None:
    async def client(number: int) -> int:
        connection = await asyncpg.connect(host=str(door), database="flights", user="agent")
        found = 0
        for _ in range(3):
            async with connection.transaction():
                found += await connection.fetchval("select $1::int + count(*)::int from airlines", number)
        await connection.reset()
        await connection.close()
        return found

    assert await asyncio.gather(*map(client, range(200))) == [3 * (number + 16) for number in range(200)]
    assert house.facts()["open"] <= house.spec.budget


async def test_an_asyncpg_pool_gives_back_clean_sessions(door: Path) -> None:
    pool = asyncpg.create_pool(host=str(door), database="flights", user="agent", min_size=2, max_size=8)
    async with pool:

        async def one(number: int) -> str:
            async with pool.acquire() as connection:
                await connection.execute(f"set timezone to 'Etc/GMT+{number % 3 + 1}'")
                await asyncio.sleep(0)
                return str(await connection.fetchval("show timezone"))

        shown = await asyncio.gather(*map(one, range(60)))
        assert shown == [f"Etc/GMT+{number % 3 + 1}" for number in range(60)]
        assert await pool.fetchval("show timezone") == "UTC"


# --- SQLAlchemy, pandas, pg8000 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("driver", ["psycopg", "pg8000"])
def test_sqlalchemy_reads_and_reflects(door: Path, driver: str) -> None:
    socket = f"{door}/.s.PGSQL.5432"
    arguments = {"host": str(door)} if driver == "psycopg" else {"unix_sock": socket}
    engine = sa.create_engine(f"postgresql+{driver}://agent@/flights", connect_args=arguments)
    inspector = sa.inspect(engine)
    assert set(inspector.get_table_names()) >= {"flights", "airlines"}
    columns = {column["name"]: column["type"] for column in inspector.get_columns("flights")}
    assert isinstance(columns["month"], sa.Integer) and "tailnum" in columns
    metadata = sa.MetaData()
    flights = sa.Table("flights", metadata, autoload_with=engine)
    count = sa.func.count().label("n")
    asked = (
        sa.select(flights.c.carrier, count)
        .where(flights.c.month == 1)
        .group_by(flights.c.carrier)
        .order_by(sa.desc("n"))
    )
    with engine.connect() as connection:
        assert connection.execute(asked).first() == ("UA", 4637)
        streamed = connection.execution_options(stream_results=True, yield_per=500).execute(
            sa.select(flights.c.year).limit(3000)
        )
        assert sum(1 for _ in streamed) == 3000
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        assert connection.scalar(sa.text("select 1")) == 1
    engine.dispose()


def test_pandas_reads_by_sqlalchemy_and_by_a_plain_connection(door: Path) -> None:
    engine = sa.create_engine("postgresql+psycopg://agent@/flights", connect_args={"host": str(door)})
    frame = pd.read_sql("select carrier, avg(arr_delay) delay from flights group by 1", engine)
    assert frame.shape == (16, 2)
    chunks = pd.read_sql("select * from planes", engine, chunksize=1000)
    assert [len(chunk) for chunk in chunks] == [1000, 1000, 1000, 322]
    assert pd.read_sql_table("airlines", engine).shape == (16, 2)
    engine.dispose()
    with warnings.catch_warnings(), connect(door) as connection:
        warnings.simplefilter("ignore")
        assert len(pd.read_sql("select * from weather where month = 1", connection)) == 2226


def test_pg8000_speaks_by_both_of_its_doors(door: Path) -> None:
    socket = f"{door}/.s.PGSQL.5432"
    native = pg8000.native.Connection("agent", database="flights", unix_sock=socket)
    assert native.run("select count(*) from flights where carrier = :carrier", carrier="UA") == [[58_665]]
    prepared = native.prepare("select :n + 1")
    assert [prepared.run(n=n) for n in (1, 2)] == [[[2]], [[3]]]
    native.close()
    connection = pg8000.dbapi.connect("agent", database="flights", unix_sock=socket)
    cursor = connection.cursor()
    cursor.execute("select name from airlines where carrier = %s", ("AA",))
    assert cursor.fetchall() == (["American Airlines Inc."],)
    with pytest.raises(pg8000.dbapi.DatabaseError) as refused:
        cursor.execute("select * from pg_authid")
    assert refused.value.args[0]["C"] == "42501"
    connection.rollback()
    cursor.execute("select date '2024-02-29'")
    assert cursor.fetchone() == [dt.date(2024, 2, 29)]
    connection.close()


# --- programs --------------------------------------------------------------------------------------------------------


def run(*command: str, door: Path, given: str = "") -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    environment = {**kept, "PGHOST": str(door), "PGDATABASE": "flights", "PGUSER": "agent"}
    return subprocess.run(
        command, env=environment, input=given, capture_output=True, text=True, timeout=60, check=False
    )


def test_psql_queries_describes_and_copies(door: Path) -> None:
    script = r"""
        \set ON_ERROR_STOP on
        select count(*) from flights where month = 12;
        \dt
        \d flights
        begin; savepoint a; select 1; rollback to a; commit;
        \copy (select carrier from airlines order by 1 limit 2) to stdout
        select 7 \gdesc
    """
    done = run("psql", "-X", "-q", door=door, given=script)
    assert done.returncode == 0, done.stderr
    assert "28135" in done.stdout and "tailnum" in done.stdout and "9E\nAA" in done.stdout
    refused = run("psql", "-X", "-c", "drop table flights", door=door)
    assert refused.returncode == 1 and "statement.kind" in refused.stderr
    verbose = run("psql", "-X", "-v", "VERBOSITY=verbose", "-c", "select * from pg_authid", door=door)
    assert "42501" in verbose.stderr


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (r"\d", "flights_pkey|airlines"), (r"\d planes", "planes_pkey"), (r"\d+ airlines", "carrier"),
        (r"\dt+", "flights"), (r"\di", "planes_pkey"), (r"\dv", "Did not find any|No "), (r"\df", "0 rows"),
        (r"\dn", "public"), (r"\l", "flights"), (r"\du", "wire_"), (r"\dT", "0 rows"),
    ],
)  # fmt: skip
def test_psqls_commands_describe_what_may_be_seen(door: Path, command: str, shown: str) -> None:
    done = run("psql", "-X", "-v", "ON_ERROR_STOP=1", door=door, given=command + "\n")
    assert done.returncode == 0, done.stderr
    assert re.search(shown, done.stdout + done.stderr), done.stdout + done.stderr
    assert "notes" not in done.stdout


def test_adbc_reads_arrow_as_polars_would_through_it(door: Path) -> None:
    uri = f"postgresql://agent@/flights?host={door}"
    with adbc_driver_postgresql.dbapi.connect(uri) as connection, connection.cursor() as cursor:
        cursor.execute("select carrier, month, arr_delay from flights where month = 1")
        table = cursor.fetch_arrow_table()
        assert table.num_rows == 27_004
        assert table.schema.names == ["carrier", "month", "arr_delay"]
        cursor.execute("select count(*) from airlines where carrier = $1", ("UA",))
        assert cursor.fetchone() == (1,)
        assert connection.adbc_get_table_types() is not None
        assert "tailnum" in connection.adbc_get_table_schema("planes").names


@pytest.mark.parametrize("protocol", ["simple", "extended", "prepared"])
def test_pgbench_runs_without_an_error(door: Path, tmp_path: Path, protocol: str) -> None:
    script = tmp_path / "script.sql"
    script.write_text("\\set m random(1, 12)\nbegin;\nselect count(*) from airlines where length(name) > :m;\nend;\n")
    done = run("pgbench", "-n", "-M", protocol, "-f", str(script), "-c", "16", "-t", "20", door=door)
    assert done.returncode == 0, done.stderr
    assert "320/320" in done.stdout and "number of failed transactions: 0" in done.stdout


@pytest.mark.skipif(shutil.which("npm") is None, reason="node-postgres needs node and npm, which this machine lacks")
def test_node_postgres_queries_prepares_and_reports_errors(door: Path, tmp_path: Path) -> None:
    installed = subprocess.run(
        ["npm", "install", "--silent", "--no-audit", "--no-fund", NODE_VERSION], cwd=tmp_path, timeout=110, check=False
    )
    assert installed.returncode == 0
    (tmp_path / "script.js").write_text("""
        const { Client } = require('pg');
        (async () => {
          const client = new Client({ host: process.env.PGHOST, database: 'flights', user: 'agent' });
          await client.connect();
          const out = [];
          out.push((await client.query('select count(*)::int n from flights where carrier = $1', ['UA'])).rows[0].n);
          for (const n of [1, 2]) {
            out.push((await client.query({ name: 'plus', text: 'select $1::int + 1 as n', values: [n] })).rows[0].n);
          }
          try { await client.query('select * from pg_authid'); } catch (error) { out.push(error.code); }
          await client.query('begin');
          out.push((await client.query('select 1 as n')).rows[0].n);
          await client.query('commit');
          console.log(JSON.stringify(out));
          await client.end();
        })();
    """)
    done = subprocess.run(
        ["node", "script.js"], cwd=tmp_path, env={**os.environ, "PGHOST": str(door)}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert json.loads(done.stdout) == [58_665, 2, 3, "42501", 1], done.stderr


def test_names_are_quoted_by_psycopg_as_usual(door: Path) -> None:
    asked = sql.SQL("select {} from {} limit 1").format(sql.Identifier("carrier"), sql.Identifier("public", "airlines"))
    with connect(door) as connection:
        assert connection.execute(asked).fetchone() is not None
