"""Whatever a client of the broker sends, it is told by a SQLSTATE, nobody else suffers, and nothing is left behind."""

from __future__ import annotations

import random
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from cluster.local.postgres import PostgresServer
from tests.support.broker_house import (
    BrokerHouse,
    RawClient,
    broker_on,
    frame,
    kinds_of,
    opening,
    sqlstate_in,
)
from workers.sql.broker.door import Limits

LIMITS = Limits(
    most_sessions=60, startup_s=1.0, half_message_s=1.0, stalled_s=1.5, wait_s=1.0, idle_in_transaction_s=1.5,
    statement_s=3.0, most_statements=50, most_portals=10, most_buffered_bytes=20 << 20,
)  # fmt: skip
SLOW = "select count(*) from flights a, flights b where a.arr_time < b.dep_time"


@pytest.fixture(scope="module")
def house(postgres: PostgresServer, flights_dsn: str) -> Iterator[BrokerHouse]:
    with broker_on(postgres, limits=LIMITS) as found:
        yield found


@pytest.fixture
def door(house: BrokerHouse) -> Iterator[Path]:
    folder = house.door()
    yield folder
    house.withdraw(folder)
    eventually(lambda: house.facts()["lent"] == house.facts()["sessions"] == house.facts()["waiting"] == 0)


def eventually(check: Callable[[], bool], timeout_s: float = 8.0) -> None:
    until_s = time.monotonic() + timeout_s
    while not check():
        assert time.monotonic() < until_s, "did not happen in time"
        time.sleep(0.05)


def end_of(client: RawClient) -> tuple[str, bool]:
    """(SQLSTATE of the last words, whether the stream ended)."""
    found = client.until_ready()
    return sqlstate_in(found), not found or found[-1][0] != b"Z"


@pytest.mark.parametrize(
    ("data", "sqlstate"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "08P01"),
        (b"\0" * 64, "08P01"),
        (b"\xff" * 64, "08P01"),
        (opening(2 << 16, {"user": "x"}), "08P01"),
        (struct.pack(">II", 1 << 30, 3 << 16), "08P01"),
        (opening(3 << 16, {"user": "x", "database": "other"}), "3D000"),
        (opening(3 << 16, {"user": "x", "database": "flights", "session_authorization": "postgres"}), "42501"),
        (opening(3 << 16, {"user": "x", "database": "flights", "options": "-c role=postgres"}), "42501"),
    ],
)
def test_bytes_that_begin_no_session_end_it_with_a_reason(door: Path, data: bytes, sqlstate: str) -> None:
    with RawClient(door, hello=False) as client:
        client.send(data)
        found, has_ended = end_of(client)
    assert (found[:2], has_ended) == (sqlstate[:2], True)


def test_silence_before_and_within_the_opening_is_ended(door: Path) -> None:
    for data in (b"", opening(3 << 16, {"user": "x"})[:-3]):
        with RawClient(door, hello=False) as client:
            client.send(data)
            assert end_of(client) == ("08P01", True)


@pytest.mark.parametrize(
    ("data", "sqlstate"),
    [
        (b"~garbage", "08P01"),
        (b"Q" + struct.pack(">I", 1 << 30), "54000"),
        (b"B" + struct.pack(">I", (1 << 31) - 1), "54000"),
        (b"d" + struct.pack(">I", 1 << 30), "54000"),
        (b"Q" + struct.pack(">I", 3), "08P01"),
        (frame(b"p", b"secret\0"), "08P01"),
        (b"Q" + struct.pack(">I", 100) + b"select 1", "08P01"),
    ],
)
def test_a_message_that_cannot_be_one_ends_the_session_with_a_reason(door: Path, data: bytes, sqlstate: str) -> None:
    with RawClient(door) as client, RawClient(door) as neighbour:
        client.send(data)
        assert end_of(client) == (sqlstate, True)
        assert kinds_of(neighbour.query("select 1")) == "TDCZ"


BIND = b"\0\0\0\0\0\0\0\0"


@pytest.mark.parametrize(
    ("messages", "sqlstate"),
    [
        (frame(b"B", b"\0nowhere\0\0\0\0\0\0\0"), "26000"),
        (frame(b"E", b"nowhere\0\0\0\0\0"), "34000"),
        (frame(b"D", b"Pnowhere\0"), "34000"),
        (frame(b"D", b"Snowhere\0"), "26000"),
        (frame(b"D", b"Xnowhere\0"), "08P01"),
        (frame(b"D"), "08P01"),
        (frame(b"B", b"no end"), "08P01"),
        (frame(b"P", b"no end"), "08P01"),
        (frame(b"P", b"\0select 1\0"), "08P01"),
        (frame(b"P", b"\0select 1\0\0\x05"), "08P01"),
        (frame(b"P", b"\0select $1::int\0\0\0") + frame(b"B", BIND), "08P01"),
        (frame(b"P", b"\0select 1\0\0\0") + frame(b"B", b"\0\0\0\0\0\1\0\0\0\1x\0\0"), "08P01"),
        (frame(b"P", b"\0select 1\0\0\0") + frame(b"B", b"\0\0\0\0\xff\xff"), "08P01"),
        (frame(b"P", b"\0select 1\0\0\0") + frame(b"B", BIND) + frame(b"E", b"\0"), "08P01"),
        (frame(b"P", b"a\0select 1\0\0\0") + frame(b"P", b"a\0select 2\0\0\0"), "42P05"),
        (frame(b"P", b"\0select \xff\0\0\0"), "22021"),
        (frame(b"P", b"\0" + b"select 1 --" + b"x" * 70_000 + b"\0\0\0"), "54000"),
        (frame(b"F", b"\0\0\0\1"), "0A000"),
        (frame(b"P", b"\0select 1\0\0\1" + struct.pack(">I", 4_000_000_000)), ""),
    ],
)
def test_a_wrong_message_is_an_error_and_the_session_goes_on(door: Path, messages: bytes, sqlstate: str) -> None:
    with RawClient(door) as client:
        client.send(messages + frame(b"S"))
        found = client.until_ready()
        assert sqlstate_in(found).startswith(sqlstate) and found[-1] == (b"Z", b"I")
        if messages[:1] == b"F":
            client.until_ready()  # a function call is a turn of its own, then comes the Sync
        assert kinds_of(client.query("select 1")) == "TDCZ"


def test_everything_behind_an_error_is_ignored_up_to_the_sync(door: Path) -> None:
    with RawClient(door) as client:
        client.send(
            frame(b"E", b"nowhere\0\0\0\0\0")
            + frame(b"P", b"\0select 1\0\0\0")
            + frame(b"B", BIND)
            + frame(b"E", b"\0\0\0\0\0")
            + frame(b"S")
        )
        assert kinds_of(client.until_ready()) == "EZ"


def test_random_messages_never_break_the_broker(door: Path) -> None:
    source = random.Random(7)
    for _ in range(60):
        with RawClient(door) as client:
            for _ in range(source.randint(1, 12)):
                kind = bytes([source.choice(b"QPBDECSHFdcf")])
                body = source.choice([b"", b"\0", b"S\0", b"P\0", b"a\0select 1\0\0\0", BIND, source.randbytes(20)])
                client.send(frame(kind, body))
            client.send(frame(b"S") + frame(b"X"))
            while client.receive()[0]:
                pass
    with RawClient(door) as client:
        assert kinds_of(client.query("select 1")) == "TDCZ"


def test_a_key_that_was_guessed_or_is_from_another_door_cancels_nothing(house: BrokerHouse, door: Path) -> None:
    other = house.door("other")
    with RawClient(door) as victim:
        victim.send(frame(b"Q", SLOW.encode() + b"\0"))
        time.sleep(0.3)
        for folder, key in ((other, victim.key), (door, b"\0" * 8), (door, victim.key[:4] + b"\0\0\0\0"), (door, b"")):
            with RawClient(folder, hello=False) as attacker:
                attacker.send(struct.pack(">II", 8 + len(key), 80877102) + key)
                assert attacker.receive() == (b"", b"")
        started_s = time.monotonic()
        with RawClient(door, hello=False) as friend:
            friend.send(struct.pack(">II", 16, 80877102) + victim.key)
        assert sqlstate_in(victim.until_ready()) == "57014"
        assert time.monotonic() - started_s < 2.0
        assert kinds_of(victim.query("select 1")) == "TDCZ"
    house.withdraw(other)


def test_a_statement_that_waits_for_a_connection_can_be_cancelled(house: BrokerHouse, door: Path) -> None:
    holders = [RawClient(door) for _ in range(house.spec.most_wires)]
    for holder in holders:
        assert kinds_of(holder.query("begin")) == "CZ"
        assert kinds_of(holder.query("select 1")) == "TDCZ"
    with RawClient(door) as waiting:
        waiting.send(frame(b"Q", b"select 1\0"))
        eventually(lambda: house.facts()["waiting"] == 1)
        with RawClient(door, hello=False) as friend:
            friend.send(struct.pack(">II", 16, 80877102) + waiting.key)
        assert sqlstate_in(waiting.until_ready()) == "57014"
        assert house.facts()["waiting"] == 0
        for holder in holders:
            holder.close()
        assert kinds_of(waiting.query("select 1")) == "TDCZ"


def test_a_thousand_connections_of_one_client_leave_its_neighbours_alone(house: BrokerHouse, door: Path) -> None:
    other = house.door("other")
    clients, endings = [], Counter[str]()
    for _ in range(1000):
        client = RawClient(door, hello=False)
        client.send(opening(3 << 16, {"user": "x", "database": "flights"}))
        clients.append(client)
    with RawClient(other) as neighbour:
        assert kinds_of(neighbour.query("select 1")) == "TDCZ"
    for client in clients:
        endings[sqlstate_in(client.until_ready())] += 1
    for client in clients:
        client.close()
    assert endings == {"": LIMITS.most_sessions, "53300": 1000 - LIMITS.most_sessions}
    house.withdraw(other)


def test_a_client_that_stops_reading_is_ended_and_its_connection_freed(house: BrokerHouse, door: Path) -> None:
    client = RawClient(door)
    client.send(frame(b"Q", b"select * from flights\0"))
    eventually(lambda: house.facts()["lent"] == 1)
    eventually(lambda: house.facts()["lent"] == 0)
    client.close()


@pytest.mark.parametrize("rows", [500, 2000, 6000])
def test_a_slow_reader_leaves_its_connection_fit_for_the_next(door: Path, rows: int) -> None:
    """The end of its result may be waiting here when the connection is lent on."""
    with RawClient(door) as slow, RawClient(door) as other:
        for _ in range(4):
            slow.send(frame(b"Q", f"select * from flights limit {rows}".encode() + b"\0"))
            time.sleep(0.2)
            assert kinds_of(other.query("select * from flights limit 3000")).count("D") == 3000
            assert kinds_of(slow.until_ready()).count("D") == rows
            assert kinds_of(other.query("select * from flights limit 3000")).count("D") == 3000


def test_a_client_that_vanishes_frees_its_connection_and_rolls_back(house: BrokerHouse, door: Path) -> None:
    for last in (SLOW, "select 1"):
        client = RawClient(door)
        client.query("begin")
        client.send(frame(b"Q", last.encode() + b"\0"))
        eventually(lambda: house.facts()["lent"] == 1)
        client.close()
        eventually(lambda: house.facts()["lent"] == 0, 3.0)


def test_a_transaction_that_idles_too_long_is_ended_with_a_reason(door: Path) -> None:
    with RawClient(door) as client:
        client.query("begin")
        assert kinds_of(client.query("select 1")) == "TDCZ"
        assert end_of(client) == ("25P03", True)


def test_a_statement_over_its_time_is_cancelled_and_the_session_goes_on(door: Path) -> None:
    with RawClient(door) as client:
        assert sqlstate_in(client.query(SLOW)) == "57014"
        assert kinds_of(client.query("select 1")) == "TDCZ"
        client.query("set statement_timeout = '200ms'")
        started_s = time.monotonic()
        assert sqlstate_in(client.query(SLOW)) == "57014"
        assert time.monotonic() - started_s < 2.5


def test_clients_without_a_connection_wait_in_line_and_are_told_in_time(house: BrokerHouse, door: Path) -> None:
    holders = [RawClient(door) for _ in range(house.spec.budget)]
    for holder in holders:
        holder.query("begin")
        holder.query("select 1")
    with RawClient(door) as waiting:
        started_s = time.monotonic()
        assert sqlstate_in(waiting.query("select 1")) == "53300"
        assert 0.8 < time.monotonic() - started_s < 4.0
        holders[0].query("commit")
        assert kinds_of(waiting.query("select 1")) == "TDCZ"
    for holder in holders:
        holder.close()


def test_too_many_statements_and_portals_are_refused_by_number(door: Path) -> None:
    with RawClient(door) as client:
        for number in range(LIMITS.most_statements + 1):
            client.send(frame(b"P", b"s%d\0select 1\0\0\0" % number))
        client.send(frame(b"S"))
        assert sqlstate_in(client.until_ready()) == "54000"
        client.query("begin")
        for number in range(LIMITS.most_portals + 1):
            client.send(frame(b"B", b"p%d\0s1\0\0\0\0\0\0\0" % number))
        client.send(frame(b"S"))
        assert sqlstate_in(client.until_ready()) == "54000"


def test_large_parameters_are_bounded_in_sum(door: Path) -> None:
    half = b"B" + struct.pack(">I", 15 << 20) + b"\0" * (8 << 20)
    with RawClient(door) as first, RawClient(door) as second, RawClient(door) as third:
        for client in (first, second, third):
            with suppress(BrokenPipeError):
                client.send(half)
        endings = {end_of(client)[0] for client in (first, second, third)}
    assert "53200" in endings


def test_a_server_killed_in_mid_result_is_an_error_and_the_next_statement_works(
    house: BrokerHouse, door: Path, postgres: PostgresServer
) -> None:
    def kill() -> None:
        role = psycopg.conninfo.conninfo_to_dict(house.spec.dsn)["user"]
        postgres.execute(f"select pg_terminate_backend(pid) from pg_stat_activity where usename = '{role}'", "flights")

    with RawClient(door) as client, RawClient(door) as idle:
        idle.query("begin")
        idle.query("select 1")
        threading.Timer(0.4, kill).start()
        found = client.query(SLOW)
        assert sqlstate_in(found) == "57P01" and found[-1] == (b"Z", b"I")
        assert kinds_of(client.query("select 1")) == "TDCZ"
        assert sqlstate_in(idle.query("select 1")) == "08006"
        assert sqlstate_in(idle.query("select 1")) == "25P02"
        assert kinds_of(idle.query("rollback")) == "CZ"
        assert kinds_of(idle.query("select 1")) == "TDCZ"


def test_rights_taken_away_are_an_error_and_given_back_work_again(
    house: BrokerHouse, door: Path, postgres: PostgresServer
) -> None:
    role = psycopg.conninfo.conninfo_to_dict(house.spec.dsn)["user"]
    with RawClient(door) as client:
        assert kinds_of(client.query("select count(*) from airports")) == "TDCZ"
        postgres.execute(f"revoke select on airports from {role}", "flights")
        try:
            assert sqlstate_in(client.query("select count(*) from airports")) == "42501"
        finally:
            postgres.execute(f"grant select on airports to {role}", "flights")
        assert kinds_of(client.query("select count(*) from airports")) == "TDCZ"
