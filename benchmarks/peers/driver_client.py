"""A client of a database as code in a sandbox is one: psycopg, one connection, one statement after the other.

`benchmarks.broker` runs these on the host, and their text inside a sandbox (`benchmarks.peers.inside`), so that the
same program is measured everywhere. Imports nothing of ours.
"""

from __future__ import annotations

import json
import random
import time

import psycopg

POINT_SQL = "select name from airlines where carrier = 'UA' and length(name) > %s"


def point_latencies(conninfo: str, seconds: float) -> list[float]:
    """Seconds of each point query, for so long; unprepared, as PgBouncer wants it."""
    found = []
    with psycopg.connect(conninfo, autocommit=True, prepare_threshold=None) as connection:
        until_s = time.perf_counter() + seconds
        while (started_s := time.perf_counter()) < until_s:
            connection.execute(POINT_SQL, (random.randint(1, 20),)).fetchall()
            found.append(time.perf_counter() - started_s)
    return found


def query_latencies(conninfo: str, sql: str, arguments: list[list[object]]) -> list[float]:
    """Seconds of the query with each of these arguments; unprepared, alike."""
    found = []
    with psycopg.connect(conninfo, autocommit=True, prepare_threshold=None) as connection:
        for each in arguments:
            started_s = time.perf_counter()
            connection.execute(sql, each).fetchall()
            found.append(time.perf_counter() - started_s)
    return found


def measure(conninfo: str, seconds: float, sql: str, arguments: list[list[object]]) -> str:
    """Both, as JSON."""
    return json.dumps([point_latencies(conninfo, seconds), query_latencies(conninfo, sql, arguments)])
