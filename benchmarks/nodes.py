"""Claim: the same jobs on one machine whose Ray nodes go from one to four, and what each further node costs or brings.

All nodes share this machine's processors, the database and its budget of connections, so more of them cannot bring more
jobs a second here: the figure is the price of spreading, in jobs a second and in CPU for each job. On several machines
it would be a gain; nothing of that is claimed. Each size is a cluster of its own, with the whole system under it.
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.options import Options
from benchmarks.report import Report
from benchmarks.timings import median, percentile
from benchmarks.usage import children, cpu_s, tree
from cluster.demo import acts
from cluster.demo.house import House, open_house
from sandpool import SqlJob

NAME = "nodes"
TITLE = "SQL jobs per second as Ray nodes on one machine go from 1 to 4"
NODES = (1, 2, 4)
QUICK_NODES = (1, 2)
JOBS, QUICK_JOBS = 2_000, 200
WARM_UP = 100
ROUNDS = 3
IN_FLIGHT = 64
COLUMNS = ("Ray nodes", "jobs/s", "of one node", "p50 ms", "p95 ms", "CPU ms per job")


@dataclass(frozen=True, slots=True)
class Turn:
    jobs_per_s: float
    p50_ms: float
    p95_ms: float
    cpu_ms: float


def run(options: Options) -> Report:
    """Every size, one after the other."""
    count, found = QUICK_JOBS if options.quick else JOBS, {}
    for nodes in QUICK_NODES if options.quick else NODES:
        options.say(f"{NAME}: {nodes} nodes")
        # A short name: Ray puts sockets below it.
        with (
            tempfile.TemporaryDirectory(prefix="spn-") as folder,
            open_house(Path(folder), options.say, nodes) as house,
        ):
            _turn(house, WARM_UP)
            turns = [_turn(house, count) for _ in range(1 if options.quick else ROUNDS)]
        found[nodes] = turns
    alone = median([turn.jobs_per_s for turn in found[1]])
    rows = tuple(_row(nodes, turns, alone) for nodes, turns in found.items())
    notes = (
        f"{count:,} jobs a round, {IN_FLIGHT} in flight, 8 connections in all; median of {len(found[1])} rounds.",
        "Work for a pool on the scheduler's own node travels over a socket, to the others by Ray calls.",
        "All nodes share this machine: no more jobs a second are to be expected of more of them.",
        "CPU: of the cluster's processes, with RabbitMQ and PostgreSQL, without the client.",
    )
    return Report(NAME, TITLE, COLUMNS, rows, (), notes)


def _turn(house: House, count: int) -> Turn:
    routes = acts.ROUTES
    jobs = [SqlJob(database="flights", sql=acts.SMALL, params=routes[number % len(routes)]) for number in range(count)]
    roots = children(os.getpid())
    before, begun = cpu_s(tree(roots)), time.perf_counter()
    ended: list[float] = []
    with house.client("acme") as client:
        for outcome in client.run_many(jobs, max_in_flight=IN_FLIGHT):
            acts.succeeded(outcome)
            ended.append(outcome.usage.wait_s + outcome.usage.run_s)
    wall_s = time.perf_counter() - begun
    spent_s = cpu_s(tree(roots)) - before
    return Turn(count / wall_s, percentile(ended, 0.5) * 1000, percentile(ended, 0.95) * 1000, 1000 * spent_s / count)


def _row(nodes: int, turns: list[Turn], alone: float) -> tuple[str | float, ...]:
    jobs_per_s = median([turn.jobs_per_s for turn in turns])
    return (
        nodes,
        jobs_per_s,
        f"{jobs_per_s / alone:.0%}",
        median([turn.p50_ms for turn in turns]),
        median([turn.p95_ms for turn in turns]),
        median([turn.cpu_ms for turn in turns]),
    )
