"""Large reads: the statement as COPY BINARY into Arrow batches (ADBC), written to Parquet as they come.

Called by `read` for results that the planner expects to be large and whose columns ADBC carries exactly; the same
transaction rules as in `session` hold. One thread reads batches, another writes them, two batches wait between them at
most: memory is flat however many rows come. Never used for writes or for statements with parameters.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from typing import Any, Protocol
from urllib.parse import quote

import adbc_driver_postgresql
import pyarrow as pa
from adbc_driver_postgresql import dbapi

from workers.attempt import Statement
from workers.sql.batches import convert_batch, settle_plans
from workers.sql.faults import translate
from workers.sql.lender import Lender
from workers.sql.line import Sort
from workers.sql.results import SMALL_BYTES, Delivered, ResultStream, deliver_batch
from workers.sql.session import Prepared
from workers.sql.spec import PoolSpec
from workers.sql.threads import ResultThreads
from workers.sql.types import ColumnPlan
from workers.volumes.store import Volume

BATCH_BYTES = 4 * 1024 * 1024
WAITING_BATCHES = 2
STOP_DEADLINE_S = 10.0
_BATCH_HINT = adbc_driver_postgresql.StatementOptions.BATCH_SIZE_HINT_BYTES.value
_DEAD_PEER = {"keepalives_idle": "15", "keepalives_interval": "5", "keepalives_count": "3", "tcp_user_timeout": "30000"}
"""libpq waits for ever for a host that vanished without a word; the kernel then ends the connection within 30 s."""
_USE_COPY = adbc_driver_postgresql.StatementOptions.USE_COPY.value


class Batches(Protocol):
    """A result as ADBC hands it out."""

    @property
    def schema(self) -> pa.Schema: ...
    def __iter__(self) -> Iterator[pa.RecordBatch]: ...


class BulkSession:
    """One ADBC connection. Blocking inside; whoever holds it from the lender is its only user."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._cursor: Any = None
        self.tenant: str | None = None
        self.broken = False

    @classmethod
    async def open(cls, spec: PoolSpec) -> BulkSession:
        """Connect with a deadline (libpq's own). Raises DatabaseUnavailable or DatabaseRefusesRole."""
        try:
            return cls(await asyncio.to_thread(dbapi.connect, libpq_uri(spec), autocommit=True))
        except Exception as error:  # noqa: BLE001 - translated, whatever it is
            raise translate(error) from None

    @property
    def is_open(self) -> bool:
        return not self.broken

    async def reset_for(self, tenant: str) -> None:
        """Forget everything the last tenant may have left."""
        if self.tenant is not None and self.tenant != tenant:
            await asyncio.to_thread(self.control, "DISCARD ALL")
        self.tenant = tenant

    def control(self, constant: str) -> None:
        """Run a string of our own: constants and integers only."""
        with self._connection.cursor(adbc_stmt_kwargs={_USE_COPY: "false"}) as cursor:
            cursor.execute(constant)

    def begin(self, timeout_s: float) -> None:
        """Open the read-only transaction with the statement's time limit set on the server."""
        self.control("BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY")
        self.control(f"SET LOCAL statement_timeout = {max(1, int(timeout_s * 1000))}")

    def read(self, sql: str) -> Batches:
        """Start the statement; `end` must follow."""
        self._cursor = self._connection.cursor(adbc_stmt_kwargs={_BATCH_HINT: str(BATCH_BYTES)})
        self._cursor.execute(sql)
        # Private to ADBC's dbapi: its public reader raises OSError without a SQLSTATE where this one tells all.
        reader: Batches = self._cursor._results.reader
        return reader

    def end(self) -> None:
        """Roll back; the connection is idle afterwards or marked broken. Never raises."""
        try:
            if self._cursor is not None:
                self._cursor.close()
                self._cursor = None
            self.control("ROLLBACK")
        except Exception:  # noqa: BLE001 - whatever it is, the connection is not to be trusted
            self.broken = True

    def cancel(self) -> None:
        """Cancel what runs on the server; from any thread."""
        if (cursor := self._cursor) is not None:
            with suppress(Exception):
                cursor.adbc_cancel()

    async def close(self) -> None:
        """Disconnect. Never raises."""
        self.broken = True
        with suppress(Exception):
            await asyncio.to_thread(self._connection.close)


class BulkReader:
    """Bulk reads of one pool."""

    def __init__(self, lender: Lender, threads: ResultThreads) -> None:
        self._lender = lender
        self._threads = threads

    async def run(self, statement: Statement, prepared: Prepared, volume: Volume) -> Delivered:
        """The statement's result, delivered. Raises WorkerError."""
        loan = await self._lender.acquire(statement.tenant, statement.timeout_s, Sort.Bulk)
        assert isinstance(loan, BulkSession)
        extract = _Extract(loan, statement, prepared.plans, volume)
        # Threads of its own: an extract lasts long and must not keep small results waiting.
        executor = ThreadPoolExecutor(2, thread_name_prefix="sandpool-bulk")
        work = asyncio.get_running_loop().run_in_executor(executor, extract.run, executor)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.to_thread(extract.stop)
            await asyncio.wait([work], timeout=STOP_DEADLINE_S)
            raise
        finally:
            if work.done():
                if not work.cancelled():
                    work.exception()
                self._lender.release(loan, Sort.Bulk)
            else:
                # The server's own timeout will end it; the connection counts until then.
                work.add_done_callback(lambda done: self._lender.release(loan, Sort.Bulk))
            executor.shutdown(wait=False)


class _Extract:
    """One statement on its way from the server to the volume. `run` blocks; `stop` may come from any thread."""

    def __init__(self, session: BulkSession, statement: Statement, plans: Sequence[ColumnPlan], volume: Volume) -> None:
        self._session = session
        self._statement = statement
        self._plans: Sequence[ColumnPlan] = plans
        self._volume = volume
        self._stopped = threading.Event()
        self._waiting: queue.Queue[pa.RecordBatch | None] = queue.Queue(WAITING_BATCHES)

    def stop(self) -> None:
        """Cancel on the server and stop writing."""
        self._stopped.set()
        self._session.cancel()

    def run(self, executor: ThreadPoolExecutor) -> Delivered:
        try:
            self._session.begin(self._statement.timeout_s)
            return self._run(executor)
        except Exception as error:  # noqa: BLE001 - translated, whatever it is
            raise translate(error, self._statement.sql) from None
        finally:
            self._session.end()

    def _run(self, executor: ThreadPoolExecutor) -> Delivered:
        reader = self._session.read(self._statement.sql)
        # One iterator for all of it: abandoning one closes ADBC's reader, and reading on then crashes the process.
        batches = iter(reader)
        first = self._read_some(batches)
        table = pa.Table.from_batches(first, reader.schema)
        if table.nbytes <= SMALL_BYTES:
            plans = settle_plans(self._plans, table, streaming=False)
            return deliver_batch(self._volume, self._statement, plans, convert_batch(plans, table.combine_chunks()))
        self._plans = settle_plans(self._plans, pa.Table.from_batches(first[:1]), streaming=True)
        stream = ResultStream(self._volume, self._statement, self._plans)
        writing = executor.submit(self._write, stream)
        try:
            self._feed(chain(first, batches), writing.done)
            self._put(None, writing.done)
            if not writing.result():
                self._session.cancel()
            return stream.finish()
        except BaseException:
            self._stopped.set()
            self._put(None, writing.done)
            with suppress(Exception):
                writing.result()
            stream.abort()
            raise

    def _read_some(self, batches: Iterator[pa.RecordBatch]) -> list[pa.RecordBatch]:
        """Batches until the result has ended or is known not to be small."""
        some: list[pa.RecordBatch] = []
        size = 0
        while size <= SMALL_BYTES and (batch := next(batches, None)) is not None:
            some.append(batch)
            size += batch.nbytes
        return some

    def _feed(self, batches: Iterator[pa.RecordBatch], is_done: Callable[[], bool]) -> None:
        for batch in batches:
            if is_done() or self._stopped.is_set() or not self._put(batch, is_done):
                return

    def _put(self, batch: pa.RecordBatch | None, is_done: Callable[[], bool]) -> bool:
        """Hand over to the writing thread; False when it has ended."""
        while not is_done():
            try:
                self._waiting.put(batch, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def _write(self, stream: ResultStream) -> bool:
        """Write what comes until the end; False when a limit was reached before it."""
        while (batch := self._waiting.get()) is not None:
            if self._stopped.is_set():
                return False
            stream.write(convert_batch(self._plans, pa.Table.from_batches([batch])))
            if stream.is_full:
                return False
        return True


def libpq_uri(spec: PoolSpec) -> str:
    """The DSN with the pinned settings as libpq startup options."""
    options = " ".join(
        f"-c {name}={_escaped(value)}" for name, value in spec.server_settings.items() if "." not in name
    )
    joint = "&" if "?" in spec.dsn else "?"
    extra = {"options": options, "connect_timeout": str(max(2, int(spec.connect_timeout_s))), **_DEAD_PEER}
    return spec.dsn + joint + "&".join(f"{name}={quote(value, safe='')}" for name, value in extra.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")
