"""Claim: 100,000 jobs are submitted with memory that is bounded by the window and the handles, not by the messages.

Against RabbitMQ, by a client in a process of its own, with no scheduler: what is measured is the sender. `submit_many`
gives a handle for each job, which is what its memory grows by. (`run_many`, on which `sandpool batch` stands, keeps
none: a test holds its memory to its window.)
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator

import aiormq

from benchmarks.options import Options
from benchmarks.peers.peer import PeerFailed
from benchmarks.peers.worker_process import ROOT
from benchmarks.report import Budget, Report
from benchmarks.services import Services
from benchmarks.usage import PeakMemory
from benchmarks.workload import ARGUMENTS, QUERY
from queues.amqp import AmqpDoor
from queues.permissions import SERVICE, tenant_permissions
from sandpool import Client, SqlJob

NAME = "submit"
TITLE = "submit_many: 100,000 jobs with bounded memory"
SIZES, QUICK_SIZES = (10_000, 100_000), (1_000, 5_000)
WINDOW = 1_000
TENANT, SERVICE_USER = "submitter", "submit-service"
URL_VARIABLE = "BENCH_SUBMIT_URL"
MOST_BYTES_A_JOB = 1_500
"""Of the sender, for each job whose handle it holds; the message itself is some 300 bytes on the wire."""
TIMEOUT_S = 600.0
MIB = 2**20
COLUMNS = ("jobs", "jobs/s", "wall s", "CPU µs per job", "memory before MiB", "peak MiB", "bytes per job held")


def run(services: Services, options: Options) -> Report:
    """Each size in a fresh process and empty queues."""
    password = secrets.token_urlsafe(18)
    rights = tenant_permissions(TENANT)
    url = services.rabbitmq.add_user(TENANT, password, (), (rights.configure, rights.write, rights.read))
    own = services.rabbitmq.add_user(SERVICE_USER, password, (), (SERVICE.configure, SERVICE.write, SERVICE.read))
    asyncio.run(_declare(own))
    rows, held = [], 0.0
    for size in QUICK_SIZES if options.quick else SIZES:
        options.say(f"{NAME}: {size:,} jobs")
        seen = _measure(url, size)
        asyncio.run(_empty(own))
        held = (seen["peak_bytes"] - seen["before_bytes"]) / size
        rows.append(
            (
                f"{size:,}",
                size / seen["wall_s"],
                seen["wall_s"],
                1e6 * seen["cpu_s"] / size,
                seen["before_bytes"] / MIB,
                seen["peak_bytes"] / MIB,
                round(held),
            )
        )
    notes = (
        f"At most {WINDOW:,} jobs unconfirmed at once; each is persistent in a quorum queue when its confirm comes.",
        "Jobs are made by a generator; the handles stay, with which their outcomes could be awaited.",
    )
    budget = Budget("memory of the sender for each job of the largest run", held, "at most", MOST_BYTES_A_JOB, "bytes")
    return Report(NAME, TITLE, COLUMNS, tuple(rows), (budget,), notes)


def _measure(url: str, size: int) -> dict[str, float]:
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.submit", str(size)],
        capture_output=True,
        cwd=ROOT,
        env={**os.environ, URL_VARIABLE: url},
        timeout=TIMEOUT_S,
        check=False,
    )
    if process.returncode != 0:
        raise PeerFailed(process.stderr.decode(errors="replace")[-2000:])
    found: dict[str, float] = json.loads(process.stdout.splitlines()[-1])
    return found


async def _declare(url: str) -> None:
    door = AmqpDoor(url)
    await door.open()
    await door.close()


async def _empty(url: str) -> None:
    """Take what was submitted away, so that the next size starts as this one did."""
    connection = await aiormq.connect(url)
    channel = await connection.channel()
    await channel.queue_purge("sandpool.jobs.sql.batch")
    await connection.close()


def _jobs(count: int) -> Iterator[SqlJob]:
    for number in range(count):
        yield SqlJob(database="flights", sql=QUERY, params=ARGUMENTS[number % len(ARGUMENTS)])


def main(count: int) -> None:
    """In a process of its own: submit so many, and say what it took."""
    with Client(os.environ[URL_VARIABLE]) as client:
        client.submit_many(_jobs(100), window=WINDOW)
        with PeakMemory(os.getpid()) as memory:
            cpu, begun = time.process_time(), time.perf_counter()
            handles = client.submit_many(_jobs(count), window=WINDOW)
            wall_s, cpu_s = time.perf_counter() - begun, time.process_time() - cpu
        assert len(handles) == count
    seen = {"wall_s": wall_s, "cpu_s": cpu_s, "before_bytes": memory.before_bytes, "peak_bytes": memory.size_bytes}
    print(json.dumps(seen))


if __name__ == "__main__":
    main(int(sys.argv[1]))
