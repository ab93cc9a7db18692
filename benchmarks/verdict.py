"""Claim 4: what a verdict costs, cached and first, beside sqlglot's own parse + qualify of the same text.

Ours does more than the peer: pre-scan, allow-lists over every node, filters and masks, printing, a second opinion by
the engine's own grammar. `first` goes through `Judge`, so it includes the way to the killable parser process and
back; every such text is new to the cache. The catalog is the one that a pool reads from the real database.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import sqlglot
import uvloop
from sqlglot.optimizer.qualify import qualify
from sqlglot.schema import MappingSchema

from benchmarks.options import Options
from benchmarks.peers.peer import PeerFailed
from benchmarks.peers.sandpool_peer import FLIGHTS_TABLES, POLICY, TENANT
from benchmarks.report import Budget, Report
from benchmarks.services import DATABASE, Services
from benchmarks.timings import median, percentile
from workers.sql.judge import Judge
from workers.sql.policy.catalog import Catalog
from workers.sql.policy.document import Policy, load_policy
from workers.sql.pool import Pool, PoolSpec

NAME = "verdict"
TITLE = "the policy's verdict on one statement"
FIRST_REPEATS = 200
CACHED_REPEATS = 20_000
MOST_CACHED_US = 20.0
MOST_OF_SQLGLOT = 2.0
FRESH = "424242"
"""A number in each text that is replaced, so that the cache has not seen the result."""

SMALL = (
    "select carrier, count(*) n, avg(arr_delay) delay from flights "
    f"where origin = $1 and month = $2 and day = $3 and flight < {FRESH} group by carrier"
)
MEDIUM = f"""
with daily as (
    select f.origin, f.month, f.day, a.name as airline, count(*) as departures,
           avg(f.dep_delay) filter (where f.dep_delay > 0) as late, sum(f.distance) as miles
    from flights f join airlines a on a.carrier = f.carrier
    where f.flight < {FRESH} and f.dep_time is not null
    group by f.origin, f.month, f.day, a.name
), ranked as (
    select daily.*, rank() over (partition by origin, month, day order by late desc nulls last) as place,
           avg(departures) over (
               partition by origin, airline order by month, day rows between 6 preceding and current row
           ) as week
    from daily
)
select r.origin, p.name as airport, r.airline, r.month, r.day, r.departures, r.late, r.week,
       case when r.late > 60 then 'bad' when r.late > 15 then 'so so' else 'good' end as verdict
from ranked r left join airports p on p.faa = r.origin
where r.place <= 3
  and exists (select 1 from weather w where w.origin = r.origin and w.month = r.month and w.day = r.day)
order by r.origin, r.month, r.day, r.place
limit 100
"""
ARM = """
select f.origin, f.dest, f.month, '{label}' as what, count(*) as n, avg(f.arr_delay) as delay,
       percentile_cont(0.9) within group (order by f.arr_delay) as worst, max(p.seats) as seats
from flights f left join planes p on p.tailnum = f.tailnum
where f.month = {month} and f.carrier in ('UA', 'AA', 'DL', 'B6')
  and coalesce(f.dep_delay, 0) between {low} and {low} + 30 and f.flight < {fresh}
group by f.origin, f.dest, f.month having count(*) > 10
"""
LARGE = " union all ".join(
    ARM.format(label=f"month {month}, from {low}", month=month, low=low, fresh=FRESH)
    for month in range(1, 13)
    for low in (0, 30)
)
QUERIES = {"small": SMALL, "medium": MEDIUM, "large": LARGE}


def run(services: Services, options: Options) -> Report:
    """Every query: sqlglot alone, first verdict, cached verdict; taking turns within each query."""
    repeats = FIRST_REPEATS // 10 if options.quick else FIRST_REPEATS
    rows = []
    ratios: dict[str, float] = {}
    cached_us: dict[str, float] = {}
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        catalog = runner.run(_read_catalog(services))
        policy = load_policy(POLICY.format(tables=list(FLIGHTS_TABLES)))
        for size, text in QUERIES.items():
            options.say(f"{NAME}: {size}")
            own, peer, cached = runner.run(_measure(text, policy, catalog, repeats))
            ratios[size], cached_us[size] = median(own) / median(peer), median(cached) * 1e6
            figures = (
                median(peer) * 1e3,
                median(own) * 1e3,
                percentile(own, 0.99) * 1e3,
                ratios[size],
                cached_us[size],
            )
            rows.append((f"{size}, {len(text):,} bytes", *figures))
    budgets = (
        Budget("cached verdict, small query", cached_us["small"], "at most", MOST_CACHED_US, "µs"),
        Budget("first verdict, small query, against sqlglot", ratios["small"], "at most", MOST_OF_SQLGLOT, "x"),
    )
    notes = (
        f"Medians of {repeats} new texts (sqlglot and ours in turns); cached: of {CACHED_REPEATS:,} repetitions.",
        "first: with the way to the killable parser process and back, and PostgreSQL's own grammar as second opinion.",
    )
    return Report(NAME, TITLE, COLUMNS, tuple(rows), budgets, notes)


COLUMNS = ("", "sqlglot parse + qualify ms", "first ms", "first p99 ms", "first / sqlglot", "cached µs")


async def _read_catalog(services: Services) -> Catalog:
    pool = Pool(PoolSpec(database=DATABASE, dsn=services.dsn), {})
    await pool.start()
    try:
        return await pool.catalog()
    finally:
        await pool.close()


async def _measure(
    text: str, policy: Policy, catalog: Catalog, repeats: int
) -> tuple[Sequence[float], Sequence[float], Sequence[float]]:
    """Seconds of first verdicts, of sqlglot alone, of cached verdicts."""
    schema = MappingSchema(
        {table.name: {column.name: column.type for column in table.columns} for table in catalog.tables},
        dialect="postgres",
    )
    judge = Judge(cache_size=10_000)
    await judge.start()
    own: list[float] = []
    peer: list[float] = []
    try:
        for number in range(repeats + repeats // 10):
            fresh = text.replace(FRESH, str(100_000 + number))
            begun = time.perf_counter()
            qualify(sqlglot.parse_one(fresh, dialect="postgres"), schema=schema, dialect="postgres")
            peer.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            verdict = await judge.judge(fresh, "postgres", policy, catalog, TENANT)
            own.append(time.perf_counter() - begun)
            if not verdict.allowed:
                raise PeerFailed(f"the policy refuses an honest query: {verdict.rule}: {verdict.reason}")
        cached = [await _cached(judge, fresh, policy, catalog) for _ in range(CACHED_REPEATS // 100)]
    finally:
        await judge.close()
    return own[repeats // 10 :], peer[repeats // 10 :], cached  # the first tenth warmed up


async def _cached(judge: Judge, text: str, policy: Policy, catalog: Catalog) -> float:
    begun = time.perf_counter()
    for _ in range(100):
        await judge.judge(text, "postgres", policy, catalog, TENANT)
    return (time.perf_counter() - begun) / 100
