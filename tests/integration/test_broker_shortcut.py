"""The quick way of a usual turn and the general way tell a client the same, whatever it sends and in whatever order."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.local.postgres import PostgresServer
from tests.support.broker_house import BrokerHouse, RawClient, broker_on, frame
from workers.sql.broker.broker import SOCKET_NAME

SYNC = frame(b"S")
PLAIN = (
    "select 1", "select carrier from airlines order by 1 limit 3", "select name from airlines where carrier = 'none'",
    "select 1 / 0", "select nothing", "select * from pg_authid", "", "begin", "commit", "rollback", "savepoint a",
    "rollback to a", "set timezone to 'Asia/Tokyo'", "reset timezone", "show timezone", "set local datestyle to german",
    "select now() is not null, timestamptz '2024-01-01 12:00+00'", "fetch 1 from c", "close all", "discard all",
    "declare c cursor for select carrier from airlines order by 1", "drop table airlines", "select 1; select 2",
)  # fmt: skip
BOUND = (
    "select $1::int + 1",
    "select name from airlines where carrier = $1",
    "select 1",
    "begin",
    "commit",
    "select 1/$1",
)
names = st.sampled_from([b"", b"s", b"t"])
portals = st.sampled_from([b"", b"p"])
counts = st.sampled_from([0, 1, 2])


def parse(name: bytes, sql: str) -> bytes:
    return frame(b"P", name + b"\0" + sql.encode() + b"\0" + bytes(2))


def bind(portal: bytes, name: bytes, values: list[bytes]) -> bytes:
    sent = b"".join(struct.pack(">I", len(value)) + value for value in values)
    return frame(b"B", portal + b"\0" + name + b"\0" + bytes(2) + struct.pack(">H", len(values)) + sent + bytes(2))


def execute(portal: bytes, most: int) -> bytes:
    return frame(b"E", portal + b"\0" + struct.pack(">I", most))


values = st.lists(st.sampled_from([b"1", b"0", b"UA", b"x"]), max_size=2)
queries = st.sampled_from(PLAIN).map(lambda sql: frame(b"Q", sql.encode() + b"\0"))
usual = st.builds(
    lambda sql, given, described: (
        parse(b"", sql) + bind(b"", b"", given) + (frame(b"D", b"P\0") if described else b"") + execute(b"", 0) + SYNC
    ),
    st.sampled_from(BOUND),
    values,
    st.booleans(),
)
again = st.builds(lambda name, given: bind(b"", name, given) + execute(b"", 0) + SYNC, names, values)
messages = st.one_of(
    st.builds(parse, names, st.sampled_from((*PLAIN, *BOUND))),
    st.builds(bind, portals, names, values),
    st.builds(execute, portals, counts),
    st.builds(lambda kind, name: frame(b"D", kind + name + b"\0"), st.sampled_from([b"S", b"P"]), names),
    st.builds(lambda kind, name: frame(b"C", kind + name + b"\0"), st.sampled_from([b"S", b"P"]), names),
    st.just(frame(b"H")),
)
odd = st.lists(messages, max_size=6).map(lambda frames: b"".join(frames) + SYNC)
turns = st.lists(st.one_of(queries, usual, again, odd), min_size=1, max_size=12)


@pytest.fixture(scope="module")
def house(postgres: PostgresServer, flights_dsn: str) -> Iterator[BrokerHouse]:
    with broker_on(postgres, budget=4, wire_budget=4) as found:
        yield found


@cache
def doors(house: BrokerHouse) -> tuple[Path, Path]:
    return house.door(), house.door()


def told(house: BrokerHouse, sent: list[bytes], *, is_general: bool) -> list[list[tuple[bytes, bytes]]]:
    folder = doors(house)[is_general]
    with RawClient(folder) as client:
        if is_general:
            door = house.broker._doors[str(folder / SOCKET_NAME)][0]
            for session in door.sessions.values():
                session.try_turn = lambda _: False
        found = []
        for turn in sent:
            client.send(turn)
            found.append(client.until_ready())
        return found


@pytest.mark.timeout(300)
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sent=turns)
def test_the_quick_way_and_the_general_way_answer_the_same(house: BrokerHouse, sent: list[bytes]) -> None:
    assert told(house, sent, is_general=False) == told(house, sent, is_general=True)


def test_what_follows_an_error_is_passed_over_also_where_its_verdict_came_later(house: BrokerHouse) -> None:
    for number, follows in enumerate(("show timezone", "begin", "select 7")):
        with RawClient(house.door()) as client:  # whose verdicts nobody asked for yet
            wrong = parse(b"", f"select $1::int + {number}") + bind(b"", b"", [b"1", b"0"])
            client.send(wrong + parse(b"", follows) + bind(b"", b"", []) + execute(b"", 0) + SYNC)
            assert [kind for kind, _ in client.until_ready()] == [b"1", b"E", b"Z"]
            client.send(frame(b"Q", b"select 1\0"))
            assert client.until_ready()[-1] == (b"Z", b"I")
