"""Claim 1: SQL jobs per second, every result durable as Parquet, beside Celery, taskiq and bare asyncpg.

All peers do the same calls on the same servers with the same number in flight. They take turns, round by round, each
with workers of its own that start before and end after its turn, so that no idle peer costs another one anything; a
turn starts with unmeasured calls. Figures are medians over the rounds; ratios are medians of the ratios within one
round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from benchmarks.machine import describe_filesystem
from benchmarks.options import Options
from benchmarks.peers.asyncpg_peer import AsyncpgPeer
from benchmarks.peers.peer import Peer, Run
from benchmarks.peers.sandpool_peer import SandpoolPeer
from benchmarks.profiling import profiled
from benchmarks.report import Budget, Report
from benchmarks.results import Checksum, require_equal
from benchmarks.services import CpuSeconds, Services
from benchmarks.timings import median, percentile
from benchmarks.workload import Call, calls

NAME = "jobs"
TITLE = "SQL jobs per second, 180 real queries on flights, each result durable as Parquet"
JOBS = 2_000
QUICK_JOBS = 400
ROUNDS = 3
WARM_UP = 180
IN_FLIGHT = 32
CONNECTIONS = 8
"""To the database, in all; Celery's prefork worker holds one per process by its nature."""
LEAST_OF_TASKIQ = 1.3
LEAST_OF_CELERY = 2.3
LEAST_OF_ASYNCPG = 0.60


@dataclass(frozen=True, slots=True)
class Turn:
    """One peer in one round."""

    run: Run
    cpu: CpuSeconds
    jobs: int

    @property
    def jobs_per_s(self) -> float:
        return self.jobs / self.run.wall_s

    def latency_ms(self, share: float) -> float:
        return percentile(self.run.latencies_s, share) * 1000


def celery_peer(services: Services) -> Peer:
    from benchmarks.peers.celery_peer import CeleryPeer  # takes 0.3 s, and all tests load the table of benchmarks

    return CeleryPeer(services)


def taskiq_peer(services: Services, **results: Any) -> Peer:
    """`results`: how they come back, where it is not the best way."""
    from benchmarks.peers.taskiq_peer import TaskiqPeer  # takes 0.5 s

    return TaskiqPeer(services, CONNECTIONS, **results)


def run(services: Services, options: Options) -> Report:
    """Every peer, ROUNDS times."""
    peers: list[Callable[[], Peer]] = [
        lambda: SandpoolPeer(services, CONNECTIONS),
        lambda: taskiq_peer(services),
        lambda: celery_peer(services),
        lambda: AsyncpgPeer(services, CONNECTIONS),
    ]
    count = QUICK_JOBS if options.quick else JOBS
    turns: dict[str, list[Turn]] = {}
    checksums: dict[str, Checksum] = {}
    by_results: dict[str, str] = {}
    for number in range(1 if options.quick else ROUNDS):
        for make in peers:
            peer = make()
            options.say(f"{NAME}: round {number + 1}, {peer.name}")
            turn, checksums[peer.name] = take_turn(peer, services, count, IN_FLIGHT)
            turns.setdefault(peer.name, []).append(turn)
            by_results[peer.name] = peer.results
        agreed = require_equal(checksums)
    notes = (
        f"{count:,} jobs a round, {IN_FLIGHT} in flight, median of {len(turns[SandpoolPeer.name])} interleaved rounds.",
        f"{CONNECTIONS} connections to the database in all for each peer; Celery has one per process, as prefork does.",
        f"Checked after every round: all gave the same {agreed.results:,} results of {agreed.rows:,} rows in all.",
        *(f"{name}: {results}." for name, results in by_results.items()),
        "CPU is that of all processes together; then its parts.",
        f"Results lie on {describe_filesystem(services.folder)}.",
    )
    rows = tuple((name, median([turn.jobs_per_s for turn in own]), *figures(own)) for name, own in turns.items())
    profile = profile_ours(services, calls(count), IN_FLIGHT) if options.profile else ()
    return Report(NAME, TITLE, COLUMNS, rows, _budgets(turns), notes, profile)


def take_turn(peer: Peer, services: Services, count: int, in_flight: int) -> tuple[Turn, Checksum]:
    """Start, warm up, measure, check, stop.

    Every turn has new folders, and nothing is removed before the last has ended: a filesystem may make those pay who
    create files after somebody has deleted many. On ext4 without a journal a new file then takes up to 1 ms, not 0.05.
    """
    warm_up, folder = (Path(mkdtemp(prefix="results-", dir=services.folder)) for _ in range(2))
    work = calls(count)
    try:
        peer.start()
        peer.run(work[: min(count, WARM_UP)], in_flight, warm_up)
        before = services.cpu()
        measured = peer.run(work, in_flight, folder)
        cpu = services.cpu() - before
        return Turn(measured, cpu, count), peer.checksum(folder)
    finally:
        peer.stop()


def profile_ours(services: Services, work: Sequence[Call], in_flight: int) -> tuple[str, ...]:
    """Where our own processes spend their time under this load; in a run of its own, for tracing slows it."""
    peer = SandpoolPeer(services, CONNECTIONS)
    lines: list[str] = []
    try:
        peer.start()
        peer.run(work[:WARM_UP], in_flight, services.folder)
        with profiled(peer.pid, services.folder, lines):
            peer.run(work, in_flight, services.folder)
        return tuple(lines)
    finally:
        peer.stop()


FIGURES = ("p50 ms", "p95 ms", "p99 ms", "CPU ms/job", "submitter", "workers", "RabbitMQ", "PostgreSQL")
COLUMNS = ("", "jobs/s", *FIGURES)


def figures(turns: Sequence[Turn]) -> tuple[float, ...]:
    """FIGURES of one peer's turns: medians."""

    def per_job_ms(pick: Callable[[CpuSeconds], float]) -> float:
        return median([pick(turn.cpu) / turn.jobs * 1000 for turn in turns])

    return (
        *(median([turn.latency_ms(share) for turn in turns]) for share in (0.50, 0.95, 0.99)),
        per_job_ms(lambda cpu: cpu.total),
        per_job_ms(lambda cpu: cpu.submitter),
        per_job_ms(lambda cpu: cpu.workers),
        per_job_ms(lambda cpu: cpu.broker),
        per_job_ms(lambda cpu: cpu.database),
    )


def _budgets(turns: dict[str, list[Turn]]) -> tuple[Budget, ...]:
    def against(name: str) -> float:
        pairs = zip(turns["Sandpool"], turns[name], strict=True)
        return median([ours.jobs_per_s / theirs.jobs_per_s for ours, theirs in pairs])

    return (
        Budget("jobs/s against taskiq + aio-pika + asyncpg", against("taskiq"), "at least", LEAST_OF_TASKIQ, "x"),
        Budget("jobs/s against Celery", against("Celery"), "at least", LEAST_OF_CELERY, "x"),
        Budget("jobs/s against bare asyncpg", against("bare asyncpg") * 100, "at least", LEAST_OF_ASYNCPG * 100, "%"),
    )
