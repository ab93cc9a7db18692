"""Celery 5 as a competitor: two prefork workers, RabbitMQ, psycopg, results by its `rpc` backend."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.celery_workers import app, run_query
from benchmarks.peers.peer import TIMEOUT_S, Run
from benchmarks.peers.worker_process import BROKER_VARIABLE, DATABASE_VARIABLE, worker_process
from benchmarks.results import Checksum, read_checksum
from benchmarks.services import Services
from benchmarks.workload import Call

WORKERS = 2


class CeleryPeer:
    name = "Celery"
    results = "rpc result backend (replies over RabbitMQ)"

    def __init__(self, services: Services) -> None:
        url = services.rabbitmq.admin_url
        app.conf.broker_url = url
        arguments = [
            "celery",
            "-A",
            "benchmarks.peers.celery_workers",
            "worker",
            "--pool",
            "prefork",
            "-c",
            str(WORKERS),
        ]
        arguments += ["--without-gossip", "--without-mingle", "--loglevel", "WARNING"]
        variables = {BROKER_VARIABLE: url, DATABASE_VARIABLE: services.dsn}
        self._process = worker_process("celery", arguments, services.folder, variables)

    def start(self) -> None:
        self._process.start()

    def run(self, calls: Sequence[Call], in_flight: int, folder: Path) -> Run:
        run = Run()
        waiting: deque[Any] = deque()
        begun = time.perf_counter()
        for call in calls:
            while len(waiting) >= in_flight:
                self._await_oldest(waiting)
            waiting.append(self._submit(call, folder, run))
        while waiting:
            self._await_oldest(waiting)
        run.wall_s = time.perf_counter() - begun
        return run

    def checksum(self, folder: Path) -> Checksum:
        return read_checksum(folder.glob("*.parquet"))

    def stop(self) -> None:
        self._process.stop()

    def _submit(self, call: Call, folder: Path, run: Run) -> Any:
        submitted = time.perf_counter()
        result = run_query.apply_async((call.number, *call.arguments, str(folder)))
        # The callback runs when the reply is read, which waiting for an older call does as well.
        result.then(lambda _: run.latencies_s.append(time.perf_counter() - submitted))
        return result

    @staticmethod
    def _await_oldest(waiting: deque[Any]) -> None:
        waiting[0].get(timeout=TIMEOUT_S)
        while waiting and waiting[0].ready():
            waiting.popleft()
