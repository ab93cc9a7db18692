"""Large reads: the statement as COPY BINARY into Arrow batches (ADBC), written to Parquet as they come.

Called by `read` for results that the planner expects to be large and whose columns ADBC carries exactly; the same
transaction rules as in `session` hold. One thread reads batches, another writes them (`pump`); a statement with key
ranges is read by several such pairs (`split`). Never used for writes or for statements with parameters.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from itertools import chain

import pyarrow as pa

from workers.attempt import Statement
from workers.errors import WorkerError
from workers.sql.batches import convert_batch, settle_plans
from workers.sql.connection import BulkSession
from workers.sql.faults import translate
from workers.sql.lender import Lender
from workers.sql.line import Sort
from workers.sql.pump import Pump
from workers.sql.results import SMALL_BYTES, Delivered, ResultStream, deliver_batch
from workers.sql.session import Prepared
from workers.sql.split import Split
from workers.sql.types import ColumnPlan
from workers.volumes.store import Volume

STOP_DEADLINE_S = 10.0
MORE_TIMEOUT_S = 0.2
"""Wait for each connection beyond the first: a busy pool reads the ranges with fewer."""


class BulkReader:
    """Bulk reads of one pool."""

    def __init__(self, lender: Lender, most_at_once: int) -> None:
        self._lender = lender
        self._most = most_at_once

    async def run(self, statement: Statement, prepared: Prepared, volume: Volume) -> Delivered:
        """The statement's result, delivered. Raises WorkerError."""
        loans = await self._borrow(statement)
        extract: Split | _Extract
        if statement.ranges:
            extract = Split(loans, statement, prepared.plans, volume)
        else:
            extract = _Extract(loans[0], statement, prepared.plans, volume)
        # Threads of its own: an extract lasts long and must not keep small results waiting.
        executor = ThreadPoolExecutor(2 * len(loans), thread_name_prefix="sandpool-bulk")
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
                self._give_back(loans)
            else:
                # The server's own timeout will end it; the connections count until then.
                work.add_done_callback(lambda done: self._give_back(loans))
            executor.shutdown(wait=False)

    async def _borrow(self, statement: Statement) -> list[BulkSession]:
        """One connection, or for ranges as many as are free now."""
        loans: list[BulkSession] = []
        try:
            for number in range(max(1, min(len(statement.ranges), self._most))):
                timeout_s = min(MORE_TIMEOUT_S, statement.timeout_s) if number else statement.timeout_s
                with suppress(*((WorkerError,) if number else ())):
                    loan = await self._lender.acquire(statement.tenant, timeout_s, Sort.Bulk)
                    assert isinstance(loan, BulkSession)
                    loans.append(loan)
        except BaseException:
            self._give_back(loans)
            raise
        return loans

    def _give_back(self, loans: Sequence[BulkSession]) -> None:
        for loan in loans:
            self._lender.release(loan, Sort.Bulk)


class _Extract:
    """One statement on its way from the server to the volume. `run` blocks; `stop` may come from any thread."""

    def __init__(self, session: BulkSession, statement: Statement, plans: Sequence[ColumnPlan], volume: Volume) -> None:
        self._session = session
        self._statement = statement
        self._plans = plans
        self._volume = volume
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Cancel on the server and stop writing."""
        self._stopped.set()
        self._session.cancel()

    def run(self, executor: Executor) -> Delivered:
        try:
            self._session.begin(self._statement.timeout_s, job_id=self._statement.job_id)
            return self._run(executor)
        except Exception as error:  # noqa: BLE001 - translated, whatever it is
            raise translate(error, self._statement.sql) from None
        finally:
            self._session.end()

    def _run(self, executor: Executor) -> Delivered:
        reader = self._session.read(self._statement.sql)
        # One iterator for all of it: abandoning one closes ADBC's reader, and reading on then crashes the process.
        batches = iter(reader)
        first = self._read_some(batches)
        table = pa.Table.from_batches(first, reader.schema)
        if table.nbytes <= SMALL_BYTES:
            plans = settle_plans(self._plans, table, streaming=False)
            return deliver_batch(self._volume, self._statement, plans, convert_batch(plans, table.combine_chunks()))
        plans = settle_plans(self._plans, pa.Table.from_batches(first[:1]), streaming=True)
        stream = ResultStream(self._volume, self._statement, plans)
        return Pump(plans, stream, self._stopped).run(executor, chain(first, batches), self._session.cancel)

    def _read_some(self, batches: Iterator[pa.RecordBatch]) -> list[pa.RecordBatch]:
        """Batches until the result has ended or is known not to be small."""
        some: list[pa.RecordBatch] = []
        size = 0
        while size <= SMALL_BYTES and (batch := next(batches, None)) is not None:
            some.append(batch)
            size += batch.nbytes
        return some
