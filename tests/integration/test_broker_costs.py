"""The policy's `max_cost` in sessions: what the planner thinks dear is refused before it runs, in whatever form it
comes. Where the policy has no ceiling nothing is asked."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psycopg
import pytest

from cluster.local.postgres import PostgresServer
from tests.support.broker_house import (
    FLIGHTS_POLICY,
    BrokerHouse,
    RawClient,
    broker_on,
    frame,
    kinds_of,
    sqlstate_in,
)

TOO_DEAR = psycopg.errors.ProgramLimitExceeded
DEAR = "select count(*) from flights"
DEAR_BY = "select count(*) from flights where dest = %s"
CHEAP = "select count(*) from airlines"


@pytest.fixture(scope="module")
def house(postgres: PostgresServer, flights_dsn: str) -> Iterator[BrokerHouse]:
    postgres.execute("ANALYZE", "flights")
    with broker_on(postgres, policy=FLIGHTS_POLICY + "max_cost = 5000\n", budget=2, wire_budget=2) as found:
        yield found


@pytest.fixture(scope="module")
def door(house: BrokerHouse) -> Path:
    return house.door()


def connect(door: Path, **fields: object) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(host=str(door), dbname="flights", user="agent", **fields)  # type: ignore[arg-type]


def test_a_dear_statement_is_refused_with_its_rule_and_cost_and_the_session_goes_on(door: Path) -> None:
    with connect(door, autocommit=True) as connection:
        for _ in range(3):  # asked for, remembered, by the short cut
            with pytest.raises(TOO_DEAR, match=r"cost \d+; the policy's ceiling is 5000") as caught:
                connection.execute(DEAR)
            assert caught.value.diag.message_detail == "rule cost.max"
            assert connection.execute(CHEAP).fetchone() == (16,)


def test_a_parameter_hides_no_cost_prepared_or_not(door: Path) -> None:
    with connect(door, autocommit=True) as connection:
        for is_prepared in (False, True, True):
            for value in ("IAH", None):
                with pytest.raises(TOO_DEAR):
                    connection.execute(DEAR_BY, (value,), prepare=is_prepared)
        by = "select name from airlines where carrier = %s"
        assert [connection.execute(by, ("UA",), prepare=True).fetchone() for _ in range(3)] == 3 * [
            ("United Air Lines Inc.",)
        ]


def test_within_a_transaction_a_pipeline_a_cursor_or_a_copy_it_is_the_same(door: Path) -> None:
    with connect(door) as connection:
        assert connection.execute(CHEAP).fetchone() == (16,)
        with pytest.raises(TOO_DEAR):
            connection.execute(DEAR)
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute(CHEAP)
        connection.rollback()
        with pytest.raises(TOO_DEAR), connection.cursor(name="walk") as cursor:
            cursor.execute("select * from flights order by dest")
        connection.rollback()
        with connection.cursor(name="walk") as cursor:
            cursor.execute("select carrier from airlines order by 1")
            assert cursor.fetchmany(2) == [("9E",), ("AA",)]
        with pytest.raises(TOO_DEAR), connection.cursor().copy("copy (select * from flights) to stdout") as copy:
            list(copy)
        connection.rollback()
        with connection.cursor().copy("copy (select carrier from airlines) to stdout") as copy:
            assert len(list(copy.rows())) == 16
        connection.rollback()
        with pytest.raises((TOO_DEAR, psycopg.errors.PipelineAborted)), connection.pipeline() as pipeline:
            first = connection.execute(CHEAP + " where carrier <> %s", ("none",))
            connection.execute(DEAR_BY, ("LAX",))
            connection.execute(CHEAP)
            pipeline.sync()
        assert first.fetchone() == (16,)
        connection.rollback()
        assert connection.execute(CHEAP).fetchone() == (16,)


async def test_asyncpg_is_told_too_and_its_cheap_statements_run(door: Path) -> None:
    connection = await asyncpg.connect(host=str(door), port=5432, database="flights", user="agent")
    try:
        with pytest.raises(asyncpg.ProgramLimitExceededError, match="the policy's ceiling"):
            await connection.fetch("select count(*) from flights where dest = $1", "IAH")
        statement = await connection.prepare("select count(*) from flights where dest = $1")
        for dest in ("IAH", "IAH", None):
            with pytest.raises(asyncpg.ProgramLimitExceededError):
                await statement.fetch(dest)
        assert await connection.fetchval("select name from airlines where carrier = $1", "AA") is not None
        async with connection.transaction():
            with pytest.raises(asyncpg.ProgramLimitExceededError):
                async with connection.transaction():
                    await connection.fetch("select * from flights order by $1::int", 1)
            assert await connection.fetchval("select count(*) from airlines") == 16
    finally:
        await connection.close()


def test_what_the_server_cannot_plan_is_its_error_once_and_the_session_goes_on(door: Path) -> None:
    with RawClient(door) as client:
        for _ in range(2):
            messages = client.query("select 1 / 0 from airlines")
            assert kinds_of(messages) == "EZ"
            assert sqlstate_in(messages) == "22012"
        wrong = frame(b"P", b"\0select 1 / 0 from airlines\0" + bytes(2)) + frame(b"B", bytes(8))
        client.send(wrong + frame(b"E", bytes(5)) + frame(b"S"))
        messages = client.until_ready()
        assert sqlstate_in(messages) == "22012"
        assert kinds_of(client.query(CHEAP)) == "TDCZ"


def test_a_type_that_is_declared_makes_another_plan_and_another_estimate(door: Path) -> None:
    def run(client: RawClient, types: tuple[int, ...], value: bytes) -> str:
        text = b"\0select count(*) from weather where month = $1\0"
        declared = struct.pack(f">H{len(types)}I", len(types), *types)
        bound = b"\0\0" + bytes(2) + struct.pack(">H", max(1, len(types)))
        bound += b"".join([struct.pack(">I", len(value)) + value] * max(1, len(types))) + bytes(2)
        client.send(frame(b"P", text + declared) + frame(b"B", bound) + frame(b"E", bytes(5)) + frame(b"S"))
        return sqlstate_in(client.until_ready())

    with RawClient(door) as client:
        assert run(client, (), b"1") == ""
        assert run(client, (1700,), b"1") == ""
        assert run(client, (1700, 25), b"1") == ""  # more than the statement uses
        assert run(client, (), b"1") == ""


def test_catalogs_are_read_whatever_that_costs(postgres: PostgresServer, flights_dsn: str) -> None:
    policy = FLIGHTS_POLICY + "max_cost = 0.001\n"
    with broker_on(postgres, policy=policy) as house, connect(house.door(), autocommit=True) as connection:
        found = connection.execute("select count(*) from pg_class where relname = 'flights'").fetchone()
        assert found == (1,)
        with pytest.raises(TOO_DEAR):
            connection.execute(CHEAP)


def test_a_refusal_is_on_record_with_its_rule(house: BrokerHouse) -> None:
    door = house.door()
    with connect(door, autocommit=True) as connection, pytest.raises(TOO_DEAR):
        connection.execute(DEAR)
    house.withdraw(door)
    assert b"cost.max" in b"".join(house.trails[door])


def test_without_a_ceiling_nothing_is_asked_of_the_planner(postgres: PostgresServer, flights_dsn: str) -> None:
    with broker_on(postgres) as house, connect(house.door(), autocommit=True) as connection:
        connection.execute(DEAR)
        assert house.broker._services.forced == {}
        assert connection.execute("show application_name").fetchone() is not None
        assert connection.execute("select count(*) from flights where month = %s", (1,)).fetchone() == (27004,)
