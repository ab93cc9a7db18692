"""taskiq with taskiq-aio-pika and asyncpg as a competitor: two worker processes under uvloop, RabbitMQ, asyncpg."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop
from taskiq import AsyncTaskiqTask

from benchmarks.peers.peer import TIMEOUT_S, PeerFailed, Run
from benchmarks.peers.taskiq_replies import REPLY_LABEL, ReplyQueueResults
from benchmarks.peers.taskiq_workers import make_broker, run_query
from benchmarks.peers.worker_process import (
    BROKER_VARIABLE,
    CONNECTIONS_VARIABLE,
    DATABASE_VARIABLE,
    REDIS_VARIABLE,
    worker_process,
)
from benchmarks.results import Checksum, read_checksum
from benchmarks.services import Services
from benchmarks.workload import Call

WORKERS = 2


class TaskiqPeer:
    """`redis_url`: results through taskiq-redis, polled every `poll_s`; else through a reply queue, without polling."""

    def __init__(self, services: Services, connections: int, *, redis_url: str = "", poll_s: float = 0.0) -> None:
        self.name = f"taskiq, results by Redis polled every {poll_s * 1000:g} ms" if redis_url else "taskiq"
        self.results = "taskiq-redis" if redis_url else "reply queue on RabbitMQ, awaited without polling"
        self._poll_s = poll_s
        self._redis_url = redis_url
        self._url = services.rabbitmq.admin_url
        arguments = ["taskiq", "worker", "benchmarks.peers.taskiq_workers:worker_broker", "--workers", str(WORKERS)]
        arguments += ["--log-level", "WARNING"]
        variables = {
            BROKER_VARIABLE: self._url,
            DATABASE_VARIABLE: services.dsn,
            CONNECTIONS_VARIABLE: str(connections // WORKERS),
            REDIS_VARIABLE: redis_url,
        }
        self._process = worker_process("taskiq", arguments, services.folder, variables)
        self._runner: asyncio.Runner | None = None

    def start(self) -> None:
        self._process.start()
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._runner.run(self._connect())

    def run(self, calls: Sequence[Call], in_flight: int, folder: Path) -> Run:
        assert self._runner is not None
        return self._runner.run(self._run(calls, in_flight, folder))

    def checksum(self, folder: Path) -> Checksum:
        return read_checksum(folder.glob("*.parquet"))

    def stop(self) -> None:
        if self._runner is not None:
            self._runner.run(self._broker.shutdown())
            self._runner.close()
            self._runner = None
        self._process.stop()

    async def _connect(self) -> None:
        if self._redis_url:
            from taskiq_redis import RedisAsyncResultBackend  # type: ignore[import-not-found,unused-ignore]  # optional

            self._broker = make_broker(
                self._url, RedisAsyncResultBackend(redis_url=self._redis_url, result_ex_time=600)
            )
        else:
            self._replies = ReplyQueueResults(self._url)
            self._broker = make_broker(self._url, self._replies)
        task = self._broker.register_task(run_query, task_name="benchmark.query")
        await self._broker.startup()
        if self._redis_url:
            self._kicker = task.kicker()
        else:
            await self._replies.listen()
            self._kicker = task.kicker().with_labels(**{REPLY_LABEL: self._replies.queue})

    async def _run(self, calls: Sequence[Call], in_flight: int, folder: Path) -> Run:
        run = Run()
        window = asyncio.Semaphore(in_flight)
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for call in calls:
                await window.acquire()
                group.create_task(self._call(call, folder, run, window))
        run.wall_s = time.perf_counter() - begun
        return run

    async def _call(self, call: Call, folder: Path, run: Run, window: asyncio.Semaphore) -> None:
        submitted = time.perf_counter()
        # The worker resolves `context`; the submitter sends the rest.
        task: AsyncTaskiqTask[Any] = await self._kicker.kiq(call.number, *call.arguments, str(folder))  # type: ignore[call-overload]
        if self._redis_url:
            result = await task.wait_result(check_interval=self._poll_s, timeout=TIMEOUT_S)
        else:
            await asyncio.wait_for(asyncio.shield(self._replies.expect(task.task_id)), TIMEOUT_S)
            result = await task.get_result()
        run.latencies_s.append(time.perf_counter() - submitted)
        window.release()
        if result.is_err:
            raise PeerFailed(f"taskiq: {result.error}")
