"""Sandpool itself, as its users meet it: `sandpool up` with Ray, driven by `sandpool.AsyncClient` over RabbitMQ.

The configuration is what a production file would say: a read-only role, a policy that is checked for every statement,
one tenant with the broker permissions of a tenant, a file volume. Nothing is switched off for the benchmark.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from urllib.parse import unquote, urlsplit

import uvloop

from benchmarks.peers.peer import TIMEOUT_S, PeerFailed, Run
from benchmarks.peers.worker_process import worker_process
from benchmarks.results import Checksum, read_checksum
from benchmarks.services import DATABASE, Services
from benchmarks.workload import QUERY, Call
from cluster.local.errors import ServiceFailed
from queues.permissions import SERVICE, tenant_permissions
from sandpool import AsyncClient, Extraction, Outcome, SqlJob
from sandpool.job import Priority

TENANT = "bench"
SCHEDULER = "bench-scheduler"
FLIGHTS_TABLES = ("flights", "weather", "planes", "airports", "airlines")
POLICY = """\
dialect = "postgres"
tables = {tables}
max_rows = 10_000_000
"""
CONFIGURATION = """\
folder = "state"

[broker]
url = "{broker}"

[ray]
folder = "ray"

[sandboxes]
folder = "{sandboxes}"

[volumes.results]
url = "file://{volume}"

[databases.{database}]
dsn = "{dsn}"
policy = "policy.toml"
budget = {connections}

[tenants.{tenant}]
databases = ["{database}"]
"""
READY = "ready-for-benchmark"
_lives = count(1)


class SandpoolPeer:
    name = "Sandpool"
    results = "Parquet part + manifest by create-only put; outcome with the rows inline on the client's reply queue"

    def __init__(self, services: Services, connections: int, *, tables: tuple[str, ...] = ()) -> None:
        """`tables`: further ones that its policy allows."""
        self._services = services
        # One for each life, and none removed in between: see benchmarks.jobs.take_turn.
        self._folder = services.folder / f"s{next(_lives)}"
        self._volume = self._folder / "volume"
        self._connections = connections
        self._tables = [*FLIGHTS_TABLES, *tables]
        self._password = secrets.token_urlsafe(18)
        self._config = self._folder / "sandpool.toml"
        self._ready = self._folder / READY
        arguments = ["benchmarks.peers.sandpool_up", str(self._config), str(self._ready)]
        self._process = worker_process("sandpool", arguments, services.folder, {})
        self._runner: asyncio.Runner | None = None
        self._outcomes: list[Outcome] = []
        self._client: AsyncClient | None = None

    def start(self) -> None:
        self._configure()
        self._process.start()
        try:
            self._process.wait_until(self._ready.exists, TIMEOUT_S)
        except ServiceFailed as error:
            raise PeerFailed(str(error)) from error
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._runner.run(self._connect())

    @property
    def pid(self) -> int:
        """Root of the process tree of `sandpool up`."""
        assert self._process.pid is not None
        return self._process.pid

    def run(self, calls: Sequence[Call], in_flight: int, folder: Path) -> Run:  # noqa: ARG002 - has a volume
        assert self._runner is not None
        return self._runner.run(self._run(calls, in_flight))

    def checksum(self, folder: Path) -> Checksum:  # noqa: ARG002
        keys = [part.key for outcome in self._outcomes for part in outcome.manifest.parts]
        return read_checksum(self._volume / key for key in keys)

    def extract(self, sql: str, split: Extraction | None = None) -> Outcome:
        """One large result through the whole system, read at once or in key ranges."""
        assert self._runner is not None
        self._runner.run(self._extract(sql, split))
        return self._outcomes[0]

    def stop(self) -> None:
        if self._runner is not None:
            self._runner.run(self._disconnect())
            self._runner.close()
            self._runner = None
        self._process.stop()

    def _configure(self) -> None:
        self._volume.mkdir(parents=True)
        rabbitmq = self._services.rabbitmq
        rights = tenant_permissions(TENANT)
        self._url = rabbitmq.add_user(TENANT, self._password, (), (rights.configure, rights.write, rights.read))
        broker = rabbitmq.add_user(SCHEDULER, self._password, (), (SERVICE.configure, SERVICE.write, SERVICE.read))
        self._config.touch(mode=0o600)
        self._config.write_text(
            CONFIGURATION.format(
                sandboxes=self._folder / "sb",
                broker=broker,
                volume=self._volume,
                database=DATABASE,
                dsn=self._services.dsn,
                connections=self._connections,
                tenant=TENANT,
            )
        )
        (self._folder / "policy.toml").write_text(POLICY.format(tables=self._tables))

    async def _connect(self) -> None:
        self._client = await AsyncClient(self._url).open()

    async def _disconnect(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def _run(self, calls: Sequence[Call], in_flight: int) -> Run:
        run = Run()
        outcomes: list[Outcome] = []
        window = asyncio.Semaphore(in_flight)
        priority: Priority = "interactive" if in_flight == 1 else "batch"
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for call in calls:
                await window.acquire()
                job = SqlJob(database=DATABASE, sql=QUERY, params=call.arguments, priority=priority)
                group.create_task(self._call(job, run, outcomes, window))
        run.wall_s = time.perf_counter() - begun
        self._keep(outcomes, len(calls))
        return run

    async def _call(self, job: SqlJob, run: Run, outcomes: list[Outcome], window: asyncio.Semaphore) -> None:
        assert self._client is not None
        submitted = time.perf_counter()
        handle = await self._client.submit(job)
        outcomes.append(await handle.outcome(timeout=TIMEOUT_S))
        run.latencies_s.append(time.perf_counter() - submitted)
        window.release()

    async def _extract(self, sql: str, split: Extraction | None) -> None:
        assert self._client is not None
        job = SqlJob(database=DATABASE, sql=sql, timeout_s=TIMEOUT_S, extraction=split)
        handle = await self._client.submit(job)
        self._keep([await handle.outcome(timeout=TIMEOUT_S)], 1)

    def _keep(self, outcomes: list[Outcome], expected: int) -> None:
        failed = next((outcome for outcome in outcomes if not outcome.succeeded), None)
        if failed is not None:
            raise PeerFailed(f"Sandpool: a job ended {failed.ending}: {failed.error}")
        if len(outcomes) != expected:
            raise PeerFailed(f"Sandpool: {len(outcomes)} outcomes of {expected} jobs")
        if any(unquote(urlsplit(outcome.volume_url).path).rstrip("/") != str(self._volume) for outcome in outcomes):
            raise PeerFailed("Sandpool: a result does not lie in the volume of this benchmark")
        self._outcomes = outcomes
