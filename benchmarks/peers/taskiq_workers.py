"""The taskiq application of the benchmark: imported by its workers (`taskiq worker`) and by `taskiq_peer`.

Set up as taskiq's guide and the README of taskiq-aio-pika say: broker object, start-up event that opens an asyncpg
pool into the worker's state, dependencies from the context, acks when the result is saved (its default), quorum queue
(its default).
"""

from __future__ import annotations

import os
from typing import Annotated, Any

import asyncpg
from taskiq import AsyncResultBackend, Context, TaskiqDepends, TaskiqEvents, TaskiqState
from taskiq_aio_pika import AioPikaBroker
from taskiq_aio_pika.queue import Queue

from benchmarks.peers.parquet_file import write_result
from benchmarks.peers.taskiq_replies import ReplyQueueResults
from benchmarks.peers.worker_process import BROKER_VARIABLE, CONNECTIONS_VARIABLE, DATABASE_VARIABLE, REDIS_VARIABLE
from benchmarks.workload import QUERY

PREFETCH = 32
"""Of each of two workers: as many as are in flight in all, so that neither ever waits for the broker."""


def result_backend() -> AsyncResultBackend[Any]:
    """Redis, as taskiq documents, where the benchmark says so; else replies over RabbitMQ."""
    if redis_url := os.environ.get(REDIS_VARIABLE):
        from taskiq_redis import RedisAsyncResultBackend  # type: ignore[import-not-found,unused-ignore]  # optional

        backend: AsyncResultBackend[Any] = RedisAsyncResultBackend(redis_url=redis_url, result_ex_time=600)
        return backend
    return ReplyQueueResults(os.environ[BROKER_VARIABLE])


def make_broker(url: str, results: AsyncResultBackend[Any]) -> AioPikaBroker:
    broker = AioPikaBroker(url, qos=PREFETCH, task_queues=[Queue(name="benchmark.taskiq")])
    return broker.with_result_backend(results)


async def open_pool(state: TaskiqState) -> None:
    connections = int(os.environ[CONNECTIONS_VARIABLE])
    state.pool = await asyncpg.create_pool(os.environ[DATABASE_VARIABLE], min_size=connections, max_size=connections)


async def close_pool(state: TaskiqState) -> None:
    await state.pool.close()


async def run_query(
    number: int, origin: str, month: int, day: int, folder: str, context: Annotated[Context, TaskiqDepends()]
) -> int:
    """One job: query, write, return the number of rows."""
    rows = await context.state.pool.fetch(QUERY, origin, month, day)
    return write_result(rows, folder, number)


def worker_broker() -> AioPikaBroker:
    """What `taskiq worker` calls."""
    broker = make_broker(os.environ[BROKER_VARIABLE], result_backend())
    broker.add_event_handler(TaskiqEvents.WORKER_STARTUP, open_pool)
    broker.add_event_handler(TaskiqEvents.WORKER_SHUTDOWN, close_pool)
    broker.register_task(run_query, task_name="benchmark.query")
    return broker
