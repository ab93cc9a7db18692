"""Claim 5: a database through the broker, beside a direct connection and PgBouncer in transaction mode.

All three are reached by the same programs on this host: pgbench for a point query (its own log gives each latency),
psycopg for a point query and the 180 flights queries, a bare socket for the whole table. The same psycopg program also
runs inside a sandbox and reaches the same broker by the mounted socket and by the forwarder on its loopback. PgBouncer
and the broker have eight server connections each. The broker does more: each statement is judged, runs as its printed
text in a read-only session, and is put on record.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.options import Options
from benchmarks.peers.driver_client import point_latencies, query_latencies
from benchmarks.peers.inside import Inside, inside
from benchmarks.peers.sandpool_peer import FLIGHTS_TABLES, POLICY
from benchmarks.report import Budget, Report
from benchmarks.services import DATABASE, Services
from benchmarks.timings import median
from benchmarks.workload import ARGUMENTS, QUERY_PSYCOPG

NAME = "broker"
TITLE = "a database through the broker"
CONNECTIONS = 8
CLIENTS = 32
IDLE = 500
POINT = "\\set n random(1, 20)\nselect name from airlines where carrier = 'UA' and length(name) > :n;\n"
TABLE = "select * from flights"
QUESTIONS: list[list[object]] = [list(each) for each in ARGUMENTS]
Times = dict[str, list[float]]
START_S = 60.0
MOST_OF_P50, LEAST_OF_RATE, LEAST_OF_STREAM, MOST_IDLE_MB = 1.5, 0.6, 0.8, 100.0


@dataclass(frozen=True, slots=True)
class Way:
    """One way to the database: what pgbench and psycopg connect to."""

    name: str
    conninfo: str
    socket: str = ""
    """Of a server that asks for no password."""


def run(services: Services, options: Options) -> Report:
    seconds, rounds = (4, 1) if options.quick else (5, 3)
    script = services.folder / "point.sql"
    script.write_text(POINT)
    with inside(DATABASE) as box, pgbouncer(services) as bouncer, broker(services, box) as (ours, pid):
        ways = (Way("direct", services.dsn), bouncer, ours)
        within = box.conninfos if box else {}
        point: Times = defaultdict(list)
        rate: Times = defaultdict(list)
        driver: Times = defaultdict(list)
        flights: Times = defaultdict(list)
        stream: Times = defaultdict(list)
        idle_mb = idle_cost_mb(ours.socket, pid)  # first: later it would live in memory that the rounds gave back
        for number in range(rounds):
            options.say(f"broker: round {number + 1} of {rounds}")
            for way in ways:
                point[way.name].append(pgbench(way, script, clients=1, seconds=seconds)[0])
                rate[way.name].append(pgbench(way, script, clients=CLIENTS, seconds=seconds)[1])
                driver[way.name] += point_latencies(way.conninfo, seconds)
                flights[way.name] += query_latencies(way.conninfo, QUERY_PSYCOPG, QUESTIONS)
                if way.socket:
                    stream[way.name].append(stream_s(way.socket))
            for name, conninfo in within.items():
                assert box is not None
                points, queries = box.measure(conninfo, seconds, QUERY_PSYCOPG, QUESTIONS)
                driver[f"broker, inside by {name}"] += points
                flights[f"broker, inside by {name}"] += queries
    rows = tuple(
        (
            name,
            1000 * median(point[name]) if point[name] else None,
            max(rate[name]) if rate[name] else None,
            1000 * median(driver[name]),
            1000 * median(flights[name]),
            min(stream[name]) if stream[name] else None,
        )
        for name in driver
    )
    peer, own = bouncer.name, ours.name
    return Report(
        name=NAME,
        title=TITLE,
        columns=(
            "way",
            "point p50 ms",
            f"point tps, {CLIENTS} clients",
            "psycopg point p50 ms",
            "flights query p50 ms",
            "336,776 rows s",
        ),
        rows=rows,
        budgets=(
            Budget(
                "p50 of a point query of PgBouncer's",
                median(point[own]) / median(point[peer]),
                "at most",
                MOST_OF_P50,
                "x",
            ),
            Budget(
                f"throughput of PgBouncer's, {CLIENTS} clients",
                max(rate[own]) / max(rate[peer]),
                "at least",
                LEAST_OF_RATE,
                "x",
            ),
            Budget(
                "336,776 rows of PgBouncer's speed",
                min(stream[peer]) / min(stream[own]),
                "at least",
                LEAST_OF_STREAM,
                "x",
            ),
            Budget(f"{IDLE} idle clients", idle_mb, "at most", MOST_IDLE_MB, "MB"),
        ),
        notes=(
            "pgbench -M extended, over Unix sockets for PgBouncer and the broker, TCP for the direct connection",
            f"PgBouncer in transaction mode and the broker have {CONNECTIONS} server connections each",
            "psycopg: one connection, nothing prepared; the same program on the host and in a sandbox of image `data`"
            if within
            else "nothing was measured inside a sandbox: that needs root and runsc",
        ),
    )


# --- ways ------------------------------------------------------------------------------------------------------------


@contextmanager
def pgbouncer(services: Services) -> Iterator[Way]:
    """PgBouncer in transaction mode, as a user that may not be root."""
    program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    folder = services.folder / "pgbouncer"
    folder.mkdir()
    where = urlsplit(services.dsn)
    target = (
        f"host={where.hostname} port={where.port} dbname={DATABASE} user={where.username} password={where.password}"
    )
    lines = [
        "[databases]", f"{DATABASE} = {target}", "[pgbouncer]", "listen_addr =", "listen_port = 6432",
        f"unix_socket_dir = {folder}", "auth_type = any", "pool_mode = transaction",
        f"default_pool_size = {CONNECTIONS}", "max_client_conn = 1200", f"logfile = {folder}/log",
    ]  # fmt: skip
    settings = folder / "pgbouncer.ini"
    settings.write_text("\n".join(lines) + "\n")
    command = [program, "-q", str(settings)]
    if os.geteuid() == 0:
        services.folder.chmod(0o711)
        shutil.chown(folder, "postgres")
        command = [program, "-q", "-u", "postgres", str(settings)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        path = folder / ".s.PGSQL.6432"
        wait_for(path.exists, "PgBouncer")
        yield Way("PgBouncer", f"host={folder} port=6432 user=bench dbname={DATABASE}", str(path))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


@contextmanager
def broker(services: Services, box: Inside | None) -> Iterator[tuple[Way, int]]:
    """`sandpool database proxy`, as a user starts it; and its process id. Its socket lies where the sandbox sees it."""
    folder = services.folder / "proxy"
    folder.mkdir()
    socket_folder = box.folder if box else folder
    (folder / "policy.toml").write_text(POLICY.format(tables=json.dumps(FLIGHTS_TABLES)))
    settings = folder / "sandpool.toml"
    settings.write_text(
        f'[broker]\nurl = "amqp://nobody:x@127.0.0.1:1/x"\n[volumes.results]\nurl = "file://{folder}/results"\n'
        f'[databases.{DATABASE}]\ndsn = "{services.dsn}"\npolicy = "policy.toml"\nbudget = {CONNECTIONS}\n'
        f'[tenants.bench]\ndatabases = ["{DATABASE}"]\n[sandboxes]\nenabled = false\n'
    )
    command = [str(Path(sys.executable).parent / "sandpool"), "database", "proxy", DATABASE]
    command += ["--socket", str(socket_folder), "--config", str(settings)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        if not process.stdout.readline().startswith("ready"):
            raise RuntimeError("the proxy did not start")
        path = socket_folder / ".s.PGSQL.5432"
        if box is not None:
            box.open_to_the_inside(path)
        yield Way("broker", f"host={socket_folder} user=bench dbname={DATABASE}", str(path)), process.pid
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def wait_for(check: Callable[[], bool], what: str) -> None:
    until_s = time.monotonic() + START_S
    while not check():
        if time.monotonic() > until_s:
            raise RuntimeError(f"{what} did not start")
        time.sleep(0.05)


# --- measures --------------------------------------------------------------------------------------------------------


def pgbench(way: Way, script: Path, *, clients: int, seconds: int) -> tuple[float, float]:
    """(median latency in seconds, transactions per second)."""
    prefix = script.parent / f"log-{time.monotonic_ns()}"
    command = ["pgbench", "-n", "-M", "extended", "-f", str(script), "-c", str(clients), "-T", str(seconds), "-l"]
    done = subprocess.run(
        [*command, f"--log-prefix={prefix}", way.conninfo], capture_output=True, text=True, check=True, timeout=120
    )
    logs = list(prefix.parent.glob(f"{prefix.name}*"))
    latencies = [int(line.split()[2]) / 1e6 for log in logs for line in log.read_text().splitlines()]
    for log in logs:
        log.unlink()
    tps = next(float(line.split()[2]) for line in done.stdout.splitlines() if line.startswith("tps"))
    return median(latencies), tps


def stream_s(path: str) -> float:
    """Seconds until the last byte of the whole table is here."""
    with greeted(path) as client:
        started_s = time.perf_counter()
        text = TABLE.encode() + b"\0"
        client.sendall(b"Q" + struct.pack(">I", len(text) + 4) + text)
        read_to_ready(client)
        return time.perf_counter() - started_s


def idle_cost_mb(path: str, pid: int) -> float:
    """What so many idle sessions add to the memory of the process."""
    before = resident_mb(pid)
    clients = [greeted(path) for _ in range(IDLE)]
    after = resident_mb(pid)
    for client in clients:
        client.close()
    return after - before


def greeted(path: str) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    client.settimeout(120)
    body = struct.pack(">I", 3 << 16) + f"user\0bench\0database\0{DATABASE}\0\0".encode()
    client.sendall(struct.pack(">I", len(body) + 4) + body)
    read_to_ready(client)
    return client


def read_to_ready(client: socket.socket) -> None:
    last = b""
    while last != b"Z\0\0\0\x05I":
        data = client.recv(1 << 20)
        if not data:
            raise RuntimeError("the connection ended early")
        last = (last + data)[-6:]


def resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
