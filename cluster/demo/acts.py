"""What the demo does, act by act, as a service would: through the client, against a running cluster.

Each act checks what it claims and raises DemoFailed when the product does not keep its word; none knows how the product
works inside. Called by `cluster.demo.play`.
"""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from sandpool import Client, Ending, Outcome, SqlJob
from sandpool.errors import JobDenied

SMALL = (
    "select carrier, count(*) as n, avg(arr_delay) as delay from flights "
    "where origin = $1 and month = $2 and day = $3 group by carrier order by carrier"
)
ROUTES = [(origin, month, day) for origin in ("EWR", "JFK", "LGA") for month in (1, 4, 7, 10) for day in range(1, 18)]
FLIGHTS = 336_776
NODE_JOBS = 400
HOSTILE = (
    "select 1; drop table flights",
    "with d as (delete from flights returning *) select * from d",
    "select pg_read_file('/etc/passwd')",
    "select usename, passwd from pg_catalog.pg_shadow",
    "select query_to_xml('select * from flights', true, false, '')",
    "select ('select * from flights'::text).ts_stat",
    "set transaction read write",
    "select * from flights where pg_sleep(60) is null",
)
TIMEOUT_S = 120.0


class DemoFailed(Exception):
    """The product did not do what the demo shows."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One line of the demo's table."""

    act: str
    jobs: int
    result: str
    p50_ms: float
    p95_ms: float
    files: str = ""
    """The result's Parquet parts, as a pattern that another engine has read."""


def first_job(client: Client) -> Shown:
    """One job on a cluster that has just started: its text is new to the policy and the pool's connections to it."""
    job = SqlJob(database="flights", sql=SMALL, params=ROUTES[0], priority="interactive")
    started = time.perf_counter()
    outcome = succeeded(client.submit(job).outcome(timeout=TIMEOUT_S))
    took_ms = 1000 * (time.perf_counter() - started)
    return Shown("the first job", 1, f"{outcome.manifest.rows} rows", took_ms, took_ms)


def small_queries(client: Client, on_progress: Callable[[int], None], count: int = 200) -> Shown:
    """`count` real queries, many at once."""
    jobs = [SqlJob(database="flights", sql=SMALL, params=ROUTES[i % len(ROUTES)]) for i in range(count)]
    started = time.perf_counter()
    outcomes = []
    for outcome in client.run_many(jobs, max_in_flight=32):
        outcomes.append(succeeded(outcome))
        on_progress(len(outcomes))
    took_s = time.perf_counter() - started
    rows = sum(outcome.table().num_rows for outcome in outcomes)
    check(len(outcomes) == count and rows > count, f"{len(outcomes)} outcomes with {rows} rows")
    return shown_of(f"{count} queries, 32 in flight", outcomes, f"{rows:,} rows, {count / took_s:.0f} jobs/s")


def lose_a_node(client: Client, raylets: Sequence[int], on_progress: Callable[[int], None]) -> Shown:
    """A batch during which one of these nodes, not the head, is killed half-way: every job ends once, and succeeds."""
    jobs = [
        SqlJob(database="flights", sql=SMALL, params=ROUTES[i % len(ROUTES)], max_attempts=5) for i in range(NODE_JOBS)
    ]
    outcomes: dict[str, Outcome] = {}
    for outcome in client.run_many(jobs, max_in_flight=32):
        check(outcome.job_id not in outcomes, f"job {outcome.job_id} ended twice")
        outcomes[outcome.job_id] = succeeded(outcome)
        on_progress(len(outcomes))
        if len(outcomes) == NODE_JOBS // 2:
            os.kill(raylets[-1], signal.SIGKILL)
    check(len(outcomes) == NODE_JOBS, f"{NODE_JOBS - len(outcomes)} jobs lost")
    again = sum(outcome.attempt > 1 for outcome in outcomes.values())
    act = f"{NODE_JOBS} queries, 1 of {len(raylets)} nodes killed"
    return shown_of(act, list(outcomes.values()), f"each ended once, {again} after a retry")


def one_at_a_time(client: Client, count: int = 30) -> Shown:
    """What a waiting user feels: submit, wait for the outcome, submit the next."""
    times_ms = []
    for i in range(count):
        job = SqlJob(database="flights", sql=SMALL, params=ROUTES[i], priority="interactive")
        started = time.perf_counter()
        succeeded(client.submit(job).outcome(timeout=TIMEOUT_S))
        times_ms.append(1000 * (time.perf_counter() - started))
    p50, p95 = _percentiles(times_ms)
    return Shown("one at a time", count, "round trip of the caller", p50, p95)


def extraction(client: Client, volume: Path) -> Shown:
    """Every row of the real table into Parquet, read back from the files by another engine."""
    outcome = succeeded(
        client.submit(SqlJob(database="flights", sql="select * from flights", timeout_s=TIMEOUT_S)).outcome(TIMEOUT_S)
    )
    folder = (volume / outcome.manifest.parts[0].key).parent
    files = f"{folder}/*.parquet"
    row = duckdb.connect().execute("select count(*) from read_parquet($1)", [files]).fetchone()
    check(row is not None and outcome.manifest.rows == row[0] == FLIGHTS, f"{row} read back, {FLIGHTS} in the table")
    result = f"{outcome.manifest.rows:,} rows, {outcome.manifest.size_bytes / 1e6:.1f} MB"
    return replace(shown_of("the whole table to Parquet", [outcome], result), files=files)


def tenant_view(client: Client) -> Shown:
    """The same table through another tenant's policy: only its own airline's rows, tail numbers masked."""
    sql = "select carrier, min(tailnum) as tail, max(tailnum) as last_tail, count(*) as n from flights group by carrier"
    outcome = succeeded(client.submit(SqlJob(database="airline", sql=sql)).outcome(TIMEOUT_S))
    table = outcome.table().to_pylist()
    check([row["carrier"] for row in table] == [client.tenant], f"tenant {client.tenant} saw {table}")
    check("*" in table[0]["tail"] and "*" in table[0]["last_tail"], f"tail number not masked: {table[0]}")
    result = f"{table[0]['n']:,} all {client.tenant}, tail {table[0]['tail']}"
    return shown_of("another tenant's view", [outcome], result)


def write_twice(client: Client, booking: int) -> Shown:
    """One write submitted twice under one id: one effect."""
    sql = "insert into bookings (booking_id, carrier, seats) values ($1, $2, $3)"
    job = SqlJob(database="bookings", sql=sql, params=(booking, "UA", 2), writes=True, id=f"booking-{booking}")
    outcomes = [succeeded(client.submit(job).outcome(TIMEOUT_S)) for _ in range(2)]
    count = "select count(*) as n from bookings where booking_id = $1"
    counted = client.submit(SqlJob(database="bookings", sql=count, params=(booking,))).outcome(TIMEOUT_S)
    rows = succeeded(counted).table().to_pylist()
    check(rows == [{"n": 1}], f"bookings: {rows}")
    check({outcome.manifest.rows_affected for outcome in outcomes} == {1}, "rows_affected differs")
    return shown_of("a write, sent twice", outcomes, "2 submissions, 1 row")


def hostile_statements(client: Client) -> tuple[Shown, list[tuple[str, str, str]]]:
    """Statements that must not run; (statement, rule, reason) of each refusal."""
    refusals, outcomes = [], []
    for sql in HOSTILE:
        outcome = client.submit(SqlJob(database="flights", sql=sql)).outcome(TIMEOUT_S)
        outcomes.append(outcome)
        try:
            outcome.raise_for_ending()
        except JobDenied:
            assert outcome.verdict is not None
            refusals.append((sql, outcome.verdict.rule, outcome.verdict.reason))
        else:
            raise DemoFailed(f"not denied: {sql}")
    return shown_of("hostile statements", outcomes, f"{len(refusals)} of {len(HOSTILE)} denied"), refusals


def succeeded(outcome: Outcome) -> Outcome:
    """The outcome itself. Raises DemoFailed."""
    if outcome.ending is not Ending.Succeeded:
        raise DemoFailed(f"job {outcome.job_id} ended {outcome.ending}: {outcome.error}")
    return outcome


def check(holds: bool, what: str) -> None:
    """Raises DemoFailed unless it holds."""
    if not holds:
        raise DemoFailed(what)


def shown_of(act: str, outcomes: list[Outcome], result: str) -> Shown:
    """An act's line, its times those from submission to data written."""
    p50, p95 = _percentiles([1000 * (outcome.usage.wait_s + outcome.usage.run_s) for outcome in outcomes])
    return Shown(act, len(outcomes), result, p50, p95)


def _percentiles(times_ms: list[float]) -> tuple[float, float]:
    ordered = sorted(times_ms)
    return statistics.median(ordered), ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
