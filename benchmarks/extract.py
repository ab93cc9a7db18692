"""Claim 3: a whole table of 336,776 x 19 as Parquet, beside ADBC, connectorx and asyncpg; memory flat as rows grow
tenfold.

Each extract runs in a fresh process (`benchmarks.peers.extractors`), kinds taking turns. `Sandpool, whole system` is
the same table as a job: envelope, broker, verdict, Ray, pool, manifest, outcome.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.jobs import CONNECTIONS
from benchmarks.options import Options
from benchmarks.peers.extractors import KINDS, TIMEOUT_S, WHOLE, Measured
from benchmarks.peers.peer import PeerFailed
from benchmarks.peers.sandpool_peer import SandpoolPeer
from benchmarks.peers.worker_process import DATABASE_VARIABLE, ROOT
from benchmarks.profiling import profiled
from benchmarks.report import Budget, Report
from benchmarks.results import DifferentResults
from benchmarks.services import DATABASE, READER, Services
from benchmarks.timings import median
from benchmarks.usage import PeakMemory, cpu_s, tree
from sandpool import Extraction

NAME = "extract"
TITLE = "bulk extract of 336,776 x 19 rows to Parquet (zstd)"
ROUNDS = 5
TABLE = "flights"
BIG_TABLE = "flights_grown"
GROWTH = 10
MORE_ROWS = """
CREATE TABLE {table} AS SELECT flights.* FROM flights, generate_series(1, {times});
VACUUM ANALYZE {table};
GRANT SELECT ON {table} TO {reader};
"""
LABELS = {"pool": "Sandpool, pool", "adbc": "ADBC", "connectorx": "connectorx", "asyncpg": "asyncpg, cursor"}
SYSTEM = "Sandpool, whole system"
PARTS = 4
PARALLEL = f"{SYSTEM}, in {PARTS} key ranges at once"
KEY = "time_hour"
LEAST_OF_ADBC = 1.0
MOST_GROWTH = 1.25
"""Of peak memory with ten times the rows: allocators are not exact, a buffer that holds all rows would show as 5x."""
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Extract:
    """One measured extract and what the server spent on it."""

    seen: Measured
    database_s: float


def run(services: Services, options: Options) -> Report:
    """Every kind ROUNDS times on the table as it is, once on the one that has grown."""
    services.postgres.execute(MORE_ROWS.format(table=BIG_TABLE, times=GROWTH, reader=READER), DATABASE)
    found: dict[str, list[Extract]] = {}
    for number in range(1 if options.quick else ROUNDS):
        for kind in KINDS:
            options.say(f"{NAME}: round {number + 1}, {LABELS[kind]}")
            found.setdefault(kind, []).append(_extract(services, kind, TABLE))
    grown = {}
    for kind in KINDS:
        options.say(f"{NAME}: {GROWTH} x the rows, {LABELS[kind]}")
        grown[kind] = _extract(services, kind, BIG_TABLE)
    profile: list[str] = []
    rounds = 1 if options.quick else ROUNDS
    system, system_grown = _through_the_system(services, options, rounds, profile)
    parallel, parallel_grown = _through_the_system(services, options, rounds, profile, PARTS)
    _require_same_rows(found, grown)
    rows = [_row(LABELS[kind], found[kind], grown[kind]) for kind in KINDS]
    rows.insert(1, _row(SYSTEM, system, system_grown))
    rows.insert(2, _row(PARALLEL, parallel, parallel_grown))
    pairs = zip(found["pool"], found["adbc"], strict=True)
    faster = median([adbc.seen.wall_s / own.seen.wall_s for own, adbc in pairs])
    swollen = grown["pool"].seen.peak_bytes / _peak(found["pool"])
    budgets = (
        Budget("rows/s of the pool against ADBC alone", faster, "at least", LEAST_OF_ADBC, "x"),
        Budget(f"peak memory of the pool with {GROWTH} x the rows", swollen, "at most", MOST_GROWTH, "x"),
    )
    notes = (
        f"Each extract in a fresh process on an open connection, median of {len(found['pool'])} interleaved rounds.",
        f"In key ranges: the same job with `extraction`, {PARTS} ranges of {KEY} in one snapshot, one manifest.",
        f"{SYSTEM}: one job at a time, submission to outcome; memory of all its processes but RabbitMQ and PostgreSQL.",
        "Ours also computes the file's SHA-256 and publishes it through a volume; all write zstd at its default level.",
        f"Peak memory is of the whole process, imports included; {GROWTH} x: one run with {GROWTH} times the rows.",
    )
    return Report(NAME, TITLE, COLUMNS, tuple(rows), budgets, notes, tuple(profile))


def _extract(services: Services, kind: str, table: str) -> Extract:
    folder = services.folder / "extract"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    before = services.cpu().database
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.peers.extractors", kind, table, str(folder)],
        capture_output=True,
        cwd=ROOT,
        env={**os.environ, DATABASE_VARIABLE: services.dsn},
        timeout=TIMEOUT_S,
        check=False,
    )
    if process.returncode != 0:
        raise PeerFailed(f"{kind}: {process.stderr.decode(errors='replace')[-2000:]}")
    shutil.rmtree(folder)
    seen = Measured(**json.loads(process.stdout.splitlines()[-1]))
    return Extract(seen, services.cpu().database - before)


def _through_the_system(
    services: Services, options: Options, rounds: int, profile: list[str], parts: int = 1
) -> tuple[list[Extract], Extract]:
    peer = SandpoolPeer(services, CONNECTIONS, tables=(BIG_TABLE,))
    split = Extraction(column=KEY, parts=parts) if parts > 1 else None
    options.say(f"{NAME}: {PARALLEL if split else SYSTEM}")
    try:
        peer.start()
        peer.extract(WHOLE.format(table=TABLE), split)
        measured = [_system_extract(services, peer, TABLE, split) for _ in range(rounds)]
        if options.profile and split is None:
            with profiled(peer.pid, services.folder, profile):
                _system_extract(services, peer, BIG_TABLE)
        return measured, _system_extract(services, peer, BIG_TABLE, split)
    finally:
        peer.stop()


def _system_extract(services: Services, peer: SandpoolPeer, table: str, split: Extraction | None) -> Extract:
    before, cpu_before = services.cpu(), cpu_s(tree([peer.pid]))
    with PeakMemory(peer.pid) as memory:
        begun = time.perf_counter()
        outcome = peer.extract(WHOLE.format(table=table), split)
        wall_s = time.perf_counter() - begun
    cpu = cpu_s(tree([peer.pid])) - cpu_before
    manifest = outcome.manifest
    return Extract(
        Measured(manifest.rows, wall_s, cpu, memory.size_bytes, manifest.size_bytes),
        (services.cpu() - before).database,
    )


COLUMNS = ("", "rows/s", "wall s", "CPU s", "PostgreSQL CPU s", "peak MiB", f"peak MiB, {GROWTH} x", "file MiB")


def _row(name: str, extracts: Sequence[Extract], grown: Extract) -> tuple[str | float, ...]:
    wall_s = median([extract.seen.wall_s for extract in extracts])
    return (
        name,
        round(extracts[0].seen.rows / wall_s),
        wall_s,
        median([extract.seen.cpu_s for extract in extracts]),
        median([extract.database_s for extract in extracts]),
        _peak(extracts) / MIB,
        grown.seen.peak_bytes / MIB,
        extracts[0].seen.file_bytes / MIB,
    )


def _peak(extracts: Sequence[Extract]) -> float:
    return median([extract.seen.peak_bytes for extract in extracts])


def _require_same_rows(found: dict[str, list[Extract]], grown: dict[str, Extract]) -> None:
    small = {extract.seen.rows for extracts in found.values() for extract in extracts}
    large = {extract.seen.rows for extract in grown.values()}
    if len(small) != 1 or large != {GROWTH * row for row in small}:
        raise DifferentResults(f"extracts of {sorted(small)} and {sorted(large)} rows")
