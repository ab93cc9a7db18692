"""What the demo does, act by act, as a service would: through the client, against a running cluster.

Each act checks what it claims and raises DemoFailed when the product does not keep its word; none knows how the product
works inside. Called by `cluster.demo.play`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
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
HOSTILE = (
    ("a second statement", "select 1; drop table flights"),
    ("a delete in a CTE", "with d as (delete from flights returning *) select * from d"),
    ("a file of the server", "select pg_read_file('/etc/passwd')"),
    ("the catalog", "select usename, passwd from pg_catalog.pg_shadow"),
    ("SQL in a string", "select query_to_xml('select * from flights', true, false, '')"),
    ("attribute notation", "select ('select * from flights'::text).ts_stat"),
    ("leaving read-only", "set transaction read write"),
    ("sleeping on a connection", "select * from flights where pg_sleep(60) is null"),
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


def small_queries(client: Client, on_progress: Callable[[int], None], count: int = 200) -> Shown:
    """`count` real queries, many at once."""
    jobs = [SqlJob(database="flights", sql=SMALL, params=ROUTES[i % len(ROUTES)]) for i in range(count)]
    started = time.perf_counter()
    outcomes = []
    for outcome in client.run_many(jobs, max_in_flight=32):
        outcomes.append(_succeeded(outcome))
        on_progress(len(outcomes))
    took_s = time.perf_counter() - started
    rows = sum(outcome.table().num_rows for outcome in outcomes)
    _check(len(outcomes) == count and rows > count, f"{len(outcomes)} outcomes with {rows} rows")
    return _shown("small queries", outcomes, f"{rows} rows, {count / took_s:.0f} jobs/s")


def one_at_a_time(client: Client, count: int = 30) -> Shown:
    """What a waiting user feels: submit, wait for the outcome, submit the next."""
    times_ms = []
    for i in range(count):
        job = SqlJob(database="flights", sql=SMALL, params=ROUTES[i], priority="interactive")
        started = time.perf_counter()
        _succeeded(client.submit(job).outcome(timeout=TIMEOUT_S))
        times_ms.append(1000 * (time.perf_counter() - started))
    p50, p95 = _percentiles(times_ms)
    return Shown("one at a time, submit to outcome", count, "round trip seen by the caller", p50, p95)


def extraction(client: Client, volume: Path) -> Shown:
    """Every row of the real table into Parquet, read back from the files by another engine."""
    outcome = _succeeded(
        client.submit(SqlJob(database="flights", sql="select * from flights", timeout_s=TIMEOUT_S)).outcome(TIMEOUT_S)
    )
    rows, delay = _read_back(volume, outcome, "count(*), avg(arr_delay)")
    _check(outcome.manifest.rows == rows == FLIGHTS, f"{rows} rows in the files, {FLIGHTS} in the table")
    size_mb = outcome.manifest.size_bytes / 1e6
    return _shown("full extraction", [outcome], f"{rows:,} rows, {size_mb:.1f} MB Parquet, mean delay {delay:.2f} min")


def tenant_view(client: Client) -> Shown:
    """The same table through another tenant's policy: only its own airline's rows, tail numbers masked."""
    sql = "select carrier, min(tailnum) as tail, max(tailnum) as last_tail, count(*) as n from flights group by carrier"
    outcome = _succeeded(client.submit(SqlJob(database="airline", sql=sql)).outcome(TIMEOUT_S))
    table = outcome.table().to_pylist()
    _check([row["carrier"] for row in table] == [client.tenant], f"tenant {client.tenant} saw {table}")
    _check("*" in table[0]["tail"] and "*" in table[0]["last_tail"], f"tail number not masked: {table[0]}")
    result = f"{table[0]['n']} rows, all {client.tenant}, tail {table[0]['tail']}"
    return _shown("tenant filter and mask", [outcome], result)


def write_twice(client: Client, booking: int) -> Shown:
    """One write submitted twice under one id: one effect."""
    sql = "insert into bookings (booking_id, carrier, seats) values ($1, $2, $3)"
    job = SqlJob(database="bookings", sql=sql, params=(booking, "UA", 2), writes=True, id=f"booking-{booking}")
    outcomes = [_succeeded(client.submit(job).outcome(TIMEOUT_S)) for _ in range(2)]
    count = "select count(*) as n from bookings where booking_id = $1"
    counted = client.submit(SqlJob(database="bookings", sql=count, params=(booking,))).outcome(TIMEOUT_S)
    rows = _succeeded(counted).table().to_pylist()
    _check(rows == [{"n": 1}], f"bookings: {rows}")
    _check({outcome.manifest.rows_affected for outcome in outcomes} == {1}, "rows_affected differs")
    return _shown("a write, sent twice", outcomes, "2 submissions, 1 row")


def hostile_statements(client: Client) -> tuple[Shown, list[tuple[str, str, str]]]:
    """Statements that must not run; (what, rule, reason) of each refusal."""
    refusals, outcomes = [], []
    for what, sql in HOSTILE:
        outcome = client.submit(SqlJob(database="flights", sql=sql)).outcome(TIMEOUT_S)
        outcomes.append(outcome)
        try:
            outcome.raise_for_ending()
        except JobDenied:
            assert outcome.verdict is not None
            refusals.append((what, outcome.verdict.rule, outcome.verdict.reason))
        else:
            raise DemoFailed(f"{what} was not denied: {sql}")
    return _shown("hostile statements", outcomes, f"{len(refusals)} of {len(HOSTILE)} denied"), refusals


def _succeeded(outcome: Outcome) -> Outcome:
    if outcome.ending is not Ending.Succeeded:
        raise DemoFailed(f"job {outcome.job_id} ended {outcome.ending}: {outcome.error}")
    return outcome


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise DemoFailed(what)


def _read_back(volume: Path, outcome: Outcome, expressions: str) -> tuple[int, float]:
    files = [str(volume / part.key) for part in outcome.manifest.parts]
    row = duckdb.connect().execute(f"select {expressions} from read_parquet($1)", [files]).fetchone()  # noqa: S608
    assert row is not None
    return int(row[0]), float(row[1])


def _shown(act: str, outcomes: list[Outcome], result: str) -> Shown:
    p50, p95 = _percentiles([1000 * (outcome.usage.wait_s + outcome.usage.run_s) for outcome in outcomes])
    return Shown(act, len(outcomes), result, p50, p95)


def _percentiles(times_ms: list[float]) -> tuple[float, float]:
    ordered = sorted(times_ms)
    return statistics.median(ordered), ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
