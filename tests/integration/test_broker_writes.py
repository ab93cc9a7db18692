"""Writes and COPY FROM STDIN through the broker, where the policy lists them, and nowhere else."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest

from cluster.local.postgres import PostgresServer
from tests.support.broker_house import BrokerHouse, RawClient, broker_on, frame, kinds_of, sqlstate_in


@pytest.fixture(scope="module")
def house(postgres: PostgresServer, flights_dsn: str) -> Iterator[BrokerHouse]:
    with broker_on(postgres, writes=True) as found:
        yield found


@pytest.fixture
def door(house: BrokerHouse, postgres: PostgresServer) -> Iterator[Path]:
    postgres.execute("TRUNCATE notes", "flights")
    folder = house.door()
    yield folder
    house.withdraw(folder)


@pytest.fixture
def notes(postgres: PostgresServer) -> Any:
    """What is really there."""
    return lambda: postgres.execute("SELECT id, body FROM notes ORDER BY id", "flights").splitlines()


def connect(door: Path, **fields: Any) -> psycopg.Connection[Any]:
    return psycopg.connect(host=str(door), dbname="flights", user="agent", **fields)


def test_what_is_committed_stays_and_what_is_rolled_back_is_gone(door: Path, notes: Any) -> None:
    with connect(door) as connection:
        for number in range(8):  # the driver prepares it by itself after a few times
            connection.execute("insert into notes values (%s, %s)", (number, f"note {number}"))
        connection.commit()
        connection.execute("delete from notes where id > 3")
        connection.rollback()
        changed = connection.execute("update notes set body = 'x' where id = 0 returning id, body").fetchall()
        assert changed == [(0, "x")]
        assert connection.execute("delete from notes where id >= 2").rowcount == 6
        with pytest.raises(psycopg.errors.UniqueViolation), connection.transaction():
            connection.execute("insert into notes values (1, 'again')")
    assert notes() == ["0|x", "1|note 1"]


@pytest.mark.parametrize(
    "text",
    ["delete from airlines", "insert into flights select * from flights", "create table t (n int)", "truncate notes",
     "copy airlines from stdin", "copy notes from '/etc/passwd'", "copy notes from program 'id'",
     "with gone as (delete from airlines returning *) select * from gone"],
)  # fmt: skip
def test_writes_that_the_policy_does_not_list_are_refused(door: Path, text: str) -> None:
    with connect(door, autocommit=True) as connection, pytest.raises(psycopg.Error) as refused:
        connection.execute(text)
    assert refused.value.sqlstate in ("42501", "25006", "0A000", "42P01")


def test_psycopg_copies_in_and_a_broken_copy_leaves_nothing(door: Path, notes: Any) -> None:
    with connect(door) as connection, connection.cursor() as cursor:
        with cursor.copy("copy notes (id, body) from stdin") as copy:
            for number in range(5000):
                copy.write_row((number, "row"))
        assert cursor.rowcount == 5000
        connection.rollback()
        with pytest.raises(psycopg.errors.BadCopyFileFormat), cursor.copy("copy notes from stdin") as copy:
            copy.write(b"1\n")
        connection.rollback()
        with pytest.raises(ZeroDivisionError), cursor.copy("copy notes from stdin (format binary)") as copy:
            raise ZeroDivisionError
        connection.rollback()
        with cursor.copy("copy notes from stdin (format csv)") as copy:
            copy.write(b'1,"a,b"\n2,\n')
        connection.commit()
        assert cursor.execute("select count(*) from notes").fetchone() == (2,)
    assert notes() == ["1|a,b", "2|"]


async def test_asyncpg_copies_in_and_writes_many(door: Path) -> None:
    connection = await asyncpg.connect(host=str(door), database="flights", user="agent")
    await connection.copy_records_to_table("notes", records=[(number, "n") for number in range(100)])
    await connection.copy_to_table("notes", source=io.BytesIO(b"200\tx\n"), columns=["id", "body"])
    await connection.executemany("insert into notes values ($1, $2)", [(300 + number, "m") for number in range(50)])
    assert await connection.fetchval("select count(*) from notes") == 151
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.copy_records_to_table("airlines", records=[("x", "y")])
    assert await connection.fetchval("select 1") == 1
    await connection.close()


def test_a_copy_by_the_extended_protocol_ends_with_its_sync(door: Path, notes: Any) -> None:
    parse = frame(b"P", b"\0copy notes from stdin\0\0\0")
    run = frame(b"B", b"\0\0\0\0\0\0\0\0") + frame(b"E", b"\0\0\0\0\0")
    with RawClient(door) as client:
        client.send(parse + run + frame(b"H"))
        assert [client.receive()[0] for _ in range(3)] == [b"1", b"2", b"G"]
        client.send(frame(b"d", b"7\tseven\n") + frame(b"c") + frame(b"S"))
        assert kinds_of(client.until_ready()) == "CZ"
        client.send(parse + run + frame(b"H"))
        assert [client.receive()[0] for _ in range(3)] == [b"1", b"2", b"G"]
        client.send(frame(b"d", b"8\teight\n") + frame(b"f", b"no more\0") + frame(b"S"))
        assert sqlstate_in(client.until_ready()) == "57014"
        assert kinds_of(client.query("select 1")) == "TDCZ"
    assert notes() == ["7|seven"]


def test_a_client_that_vanishes_within_its_copy_leaves_nothing(house: BrokerHouse, door: Path, notes: Any) -> None:
    with RawClient(door) as client:
        client.send(frame(b"Q", b"copy notes from stdin\0"))
        assert client.receive()[0] == b"G"
        client.send(frame(b"d", b"1\tlost\n"))
    with RawClient(door) as client:
        for _ in range(house.spec.most_wires):
            assert kinds_of(client.query("select count(*) from notes")) == "TDCZ"
    assert notes() == []
