"""Clients that mean harm: nothing that the policy hides comes out by any order of messages, and nobody else suffers."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.local.postgres import PostgresServer
from tests.support.broker_house import BrokerHouse, RawClient, broker_on, frame, kinds_of, opening, sqlstate_in
from workers.sql.broker.session import MOST_OWED

POLICY = """
dialect = "postgres"
[tables.planes]
[tables.airlines]
filter = "carrier = {tenant}"
"""
BIND = frame(b"B", b"\0\0\0\0\0\0\0\0")
EXECUTE = frame(b"E", b"\0\0\0\0\0")
RUN = BIND + EXECUTE
SYNC = frame(b"S")
SLOW = b"select count(*) from planes a, planes b, planes c where a.tailnum < b.tailnum\0"


@pytest.fixture(scope="module")
def house(postgres: PostgresServer, flights_dsn: str) -> Iterator[BrokerHouse]:
    with broker_on(postgres, policy=POLICY, budget=2, wire_budget=2) as found:
        yield found


@pytest.fixture(scope="module")
def doors(house: BrokerHouse) -> dict[str, Path]:
    return {tenant: house.door(tenant) for tenant in ("UA", "AA")}


def parse(sql: str, name: bytes = b"") -> bytes:
    return frame(b"P", name + b"\0" + sql.encode() + b"\0\0\0")


def bind_to(name: bytes) -> bytes:
    return frame(b"B", b"\0" + name + b"\0" + bytes(6))


def values(messages: list[tuple[bytes, bytes]]) -> list[bytes]:
    """First column of each row."""
    found = []
    for kind, body in messages:
        if kind == b"D":
            (size,) = struct.unpack_from(">i", body, 2)
            found.append(body[6 : 6 + size])
    return found


def test_two_tenants_on_the_same_connections_with_the_same_words_see_their_own_rows(doors: dict[str, Path]) -> None:
    text = "select carrier from airlines order by 1"
    with RawClient(doors["UA"]) as ours, RawClient(doors["AA"]) as theirs:
        for _ in range(6):
            for client, own in ((ours, b"UA"), (theirs, b"AA")):
                assert values(client.query(text)) == [own]
                client.send(parse(text) + BIND + frame(b"D", b"P\0") + frame(b"E", b"\0\0\0\0\0") + SYNC)
                assert values(client.until_ready()) == [own]
                client.send(parse(text, b"mine") + bind_to(b"mine") + EXECUTE + SYNC)
                assert values(client.until_ready()) == [own]
                client.send(frame(b"C", b"Smine\0") + SYNC)
                client.until_ready()


@pytest.mark.parametrize(
    ("messages", "rows", "sqlstate"),
    [
        # the unnamed statement is another one by the time that the portal runs
        (parse("select 1") + BIND + parse("select * from pg_authid") + RUN + SYNC, [], "42501"),
        (parse("select 1") + BIND + parse("select 2") + frame(b"E", b"\0\0\0\0\0") + SYNC, [b"1"], ""),
        # a refused one between two allowed ones: nothing behind it runs
        (parse("select 1") + RUN + parse("table pg_shadow") + RUN + parse("select 2") + RUN + SYNC, [b"1"], "42501"),
        # a portal that was there before an error is gone behind it
        (parse("select 1") + BIND + frame(b"E", b"nowhere\0\0\0\0\0") + SYNC, [], "34000"),
        (frame(b"E", b"\0\0\0\0\0") + SYNC, [], "34000"),
        # names of the broker's own are nobody else's
        (frame(b"B", b"\0sandpool_1\0\0\0\0\0\0\0") + SYNC, [], "26000"),
        (frame(b"D", b"Ssandpool_1\0") + SYNC, [], "26000"),
        (parse("select 3", b"sandpool_1") + bind_to(b"sandpool_1") + EXECUTE + SYNC, [b"3"], ""),
        (parse("execute sandpool_1") + RUN + SYNC, [], "0A000"),
        (parse("prepare sandpool_1 as select 1") + RUN + SYNC, [], "0A000"),
        (parse("select statement from pg_prepared_statements") + RUN + SYNC, [], ""),
        # NUL characters and long names
        (frame(b"P", b"\0select 4\0drop table airlines\0\0\0") + RUN + SYNC, [], "08P01"),
        (parse("select 5", b"n" * 200_000) + SYNC, [], ""),
        # COPY by the extended protocol
        (parse("copy airlines to '/tmp/x'") + RUN + SYNC, [], "42501"),
        (parse("copy airlines from stdin") + RUN + frame(b"d", b"x\ty\n") + frame(b"c") + SYNC, [], "42501"),
        (parse("copy (select * from pg_authid) to stdout") + RUN + SYNC, [], "42501"),
        (frame(b"d", b"x") + frame(b"c") * 5 + parse("select 6") + RUN + SYNC, [b"6"], ""),
        # what a function would change for whoever comes next
        (parse("select set_config('role', 'postgres', false)") + RUN + SYNC, [], "42501"),
        (parse("select set_config('search_path', 'pg_temp', false)") + RUN + SYNC, [], "42501"),
        (parse("create temp table airlines (carrier text)") + RUN + SYNC, [], "42501"),
        (parse("select * from pg_temp.airlines") + RUN + SYNC, [], "42501"),
    ],
)  # fmt: skip
def test_no_order_of_messages_gets_around_the_verdicts(
    doors: dict[str, Path], messages: bytes, rows: list[bytes], sqlstate: str
) -> None:
    with RawClient(doors["UA"]) as client:
        for _ in range(2):  # the second time everything is known
            client.send(messages)
            found = client.until_ready()
            assert (values(found), sqlstate_in(found)[: len(sqlstate)], found[-1]) == (rows, sqlstate, (b"Z", b"I"))
            client.send(frame(b"C", b"Ssandpool_1\0") + frame(b"C", b"S" + b"n" * 200_000 + b"\0") + SYNC)
            client.until_ready()
        assert values(client.query("select carrier from airlines")) == [b"UA"]


def test_a_query_with_a_nul_in_it_is_one_statement_or_none(doors: dict[str, Path]) -> None:
    with RawClient(doors["UA"]) as client:
        for _ in range(2):
            client.send(frame(b"Q", b"select 1\0select * from pg_authid\0"))
            found = client.until_ready()
            assert (values(found), sqlstate_in(found) != "") == ([], True)


@pytest.mark.parametrize(
    ("name", "value"),
    [("replication", "database"), ("options", "-c session_replication_role=replica"), ("options", "-crole=postgres"),
     ("role", "postgres"),
     ("default_transaction_read_only", "off"), ("options", "-c statement_timeout=0 -c lock_timeout=0 -c wal_level=x"),
     ("row_security", "off"), ("session_preload_libraries", "x")],
)  # fmt: skip
def test_a_startup_message_brings_in_no_setting_that_matters(doors: dict[str, Path], name: str, value: str) -> None:
    with RawClient(doors["UA"], hello=False) as client:
        client.send(opening(3 << 16, {"user": "x", "database": "flights", name: value}))
        found = client.until_ready()
        assert sqlstate_in(found)[:2] in ("0A", "42", "22", "25") and found[-1][0] == b"E", found


@pytest.mark.parametrize("path", ["pg_temp", "pg_temp, public"])
def test_a_search_path_changes_nothing_of_what_names_mean(doors: dict[str, Path], path: str) -> None:
    with RawClient(doors["UA"], search_path=path) as client:
        client.query(f"set search_path to {path}")
        assert values(client.query("select carrier from airlines")) == [b"UA"]
        shown = "select current_setting('search_path')"
        assert values(client.query(shown)) == values(RawClient(doors["UA"]).query(shown))


def test_a_flush_without_a_sync_holds_a_connection_only_for_so_long_as_its_client_lives(
    house: BrokerHouse, doors: dict[str, Path]
) -> None:
    clients = [RawClient(doors["UA"]) for _ in range(house.spec.most_wires)]
    for client in clients:
        client.send(parse("select 1") + RUN + frame(b"H"))
        assert [client.receive()[0] for _ in range(4)] == [b"1", b"2", b"D", b"C"]
    for client in clients:
        client.close()
    with RawClient(doors["AA"]) as other:
        assert values(other.query("select carrier from airlines")) == [b"AA"]


def test_a_client_that_is_owed_too_much_is_read_no_further_and_gets_every_answer_in_the_end(
    house: BrokerHouse, doors: dict[str, Path]
) -> None:
    count = 20 * MOST_OWED
    with RawClient(doors["UA"], timeout_s=30.0) as client:
        client.send(frame(b"Q", SLOW))
        sender = threading.Thread(target=client.send, args=(frame(b"C", b"Sx\0") * count + SYNC,), daemon=True)
        sender.start()
        sender.join(1.5)
        assert sender.is_alive(), "all of it was taken"
        with RawClient(doors["UA"], hello=False) as friend:
            friend.send(struct.pack(">II", 16, 80877102) + client.key)
        assert sqlstate_in(client.until_ready()) == "57014"
        assert kinds_of(client.until_ready()) == "3" * count + "Z"
        sender.join(10)
    with RawClient(doors["AA"]) as other:
        assert values(other.query("select carrier from airlines")) == [b"AA"]


def test_no_setting_moves_the_rows_that_a_filter_hides(postgres: PostgresServer, flights_dsn: str) -> None:
    policy = """
dialect = "postgres"
[tables.weather]
filter = "time_hour < '2013-01-02 00:00'"
mask = {temp = "date_trunc('day', time_hour)::text"}
"""
    counted = "select count(*), min(temp), max(temp) from weather"
    with broker_on(postgres, policy=policy) as house:
        door = house.door()
        with RawClient(door) as client:
            honest = client.query(counted)
        for zone in ("-12", "+14", "Pacific/Kiritimati", "America/New_York"):
            with RawClient(door, TimeZone=zone) as client:
                assert client.parameters["TimeZone"] == "UTC"
                assert client.query(counted) == honest
                assert sqlstate_in(client.query(f"set timezone to '{zone}'")) == "42501"
                assert sqlstate_in(client.query("begin")) == ""
                assert sqlstate_in(client.query(f"set local time zone '{zone}'")) == "42501"
                client.query("rollback")
                assert client.query(counted) == honest
