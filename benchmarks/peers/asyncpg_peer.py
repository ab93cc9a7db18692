"""Bare asyncpg as the upper bound: the same queries on the same number of connections, no broker, no worker, no
file.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg
import uvloop

from benchmarks.peers.peer import Run
from benchmarks.results import Checksum
from benchmarks.services import Services
from benchmarks.workload import QUERY, Call


class AsyncpgPeer:
    name = "bare asyncpg"
    results = "in memory, nothing durable (upper bound)"

    def __init__(self, services: Services, connections: int) -> None:
        self._dsn = services.dsn
        self._connections = connections
        self._runner: asyncio.Runner | None = None
        self._answers: list[list[Any]] = []
        self._pool: Any = None

    def start(self) -> None:
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._runner.run(self._connect())

    def run(self, calls: Sequence[Call], in_flight: int, folder: Path) -> Run:  # noqa: ARG002 - writes nothing
        assert self._runner is not None
        return self._runner.run(self._run(calls, in_flight))

    def checksum(self, folder: Path) -> Checksum:  # noqa: ARG002
        return Checksum.of([(row["n"], row["delay"]) for row in answer] for answer in self._answers)

    def stop(self) -> None:
        if self._runner is not None:
            self._runner.run(self._disconnect())
            self._runner.close()
            self._runner = None

    async def _connect(self) -> None:
        self._pool = await asyncpg.create_pool(self._dsn, min_size=self._connections, max_size=self._connections)

    async def _disconnect(self) -> None:
        if self._pool is not None:
            await self._pool.close()

    async def _run(self, calls: Sequence[Call], in_flight: int) -> Run:
        run = Run()
        self._answers = []
        window = asyncio.Semaphore(in_flight)
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for call in calls:
                await window.acquire()
                group.create_task(self._call(call, run, window))
        run.wall_s = time.perf_counter() - begun
        return run

    async def _call(self, call: Call, run: Run, window: asyncio.Semaphore) -> None:
        submitted = time.perf_counter()
        self._answers.append(await self._pool.fetch(QUERY, *call.arguments))
        run.latencies_s.append(time.perf_counter() - submitted)
        window.release()
