"""The Celery application of the benchmark: imported by its workers (`celery -A`) and by `celery_peer`.

Set up as Celery's user guide says for many short tasks: prefork, late acks, a prefetch that keeps workers busy, the
`rpc` result backend (replies over the broker), psycopg's pool opened after the fork (a connection must not cross it).
Deviations all favour Celery: its classic queues (ours and taskiq's are quorum queues) and publishing without
confirms.
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery  # type: ignore[import-untyped]
from celery.signals import worker_process_init, worker_process_shutdown  # type: ignore[import-untyped]
from psycopg_pool import ConnectionPool

from benchmarks.peers.parquet_file import write_result
from benchmarks.peers.worker_process import BROKER_VARIABLE, DATABASE_VARIABLE
from benchmarks.workload import QUERY_PSYCOPG

app = Celery("benchmark", broker=os.environ.get(BROKER_VARIABLE, "amqp://"), backend="rpc://")
app.conf.update(
    task_acks_late=True,
    worker_prefetch_multiplier=32,
    task_serializer="json",
    result_serializer="json",
    accept_content=["json"],
    task_default_queue="benchmark.celery",
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
)

_pool: ConnectionPool | None = None


@worker_process_init.connect  # type: ignore[untyped-decorator]
def open_pool(**_: Any) -> None:
    global _pool  # one pool per worker process; a prefork worker runs one task at a time
    _pool = ConnectionPool(
        os.environ[DATABASE_VARIABLE], min_size=1, max_size=1, kwargs={"autocommit": True}, open=True
    )


@worker_process_shutdown.connect  # type: ignore[untyped-decorator]
def close_pool(**_: Any) -> None:
    if _pool is not None:
        _pool.close()


@app.task(name="benchmark.query")  # type: ignore[untyped-decorator]
def run_query(number: int, origin: str, month: int, day: int, folder: str) -> int:
    """One job: query, write, return the number of rows."""
    assert _pool is not None
    with _pool.connection() as connection:
        rows = connection.execute(QUERY_PSYCOPG, (origin, month, day)).fetchall()
    return write_result(rows, folder, number)
