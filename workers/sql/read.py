"""Runs one read: BEGIN READ ONLY, the statement, always ROLLBACK; rows come in bounded pieces.

Called by `pool`. Decides which way a result takes: small ones as rows in one piece, large ones and those whose plan
uses parallel workers as Arrow batches (`bulk`), what Arrow batches cannot carry exactly as a stream of rows. A small
read costs three round trips: BEGIN with its settings, bind and execute, ROLLBACK; the last overlaps with writing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg

from workers.attempt import Statement
from workers.sql.estimate import Estimate, Estimates
from workers.sql.faults import translate
from workers.sql.lender import Lender
from workers.sql.results import Delivered
from workers.sql.rows import RowFetch
from workers.sql.session import Prepared, Session
from workers.sql.spec import PoolSpec
from workers.sql.threads import ResultThreads
from workers.timing import timed
from workers.volumes.store import Volume

MAX_OPEN_TRIES = 3

Bulk = Callable[[Statement, Prepared, Volume], Awaitable[Delivered]]


class Reader:
    """Reads of one pool."""

    def __init__(
        self, spec: PoolSpec, lender: Lender, threads: ResultThreads, estimates: Estimates, bulk: Bulk
    ) -> None:
        self._spec = spec
        self._lender = lender
        self._threads = threads
        self._estimates = estimates
        self._bulk = bulk

    async def run(self, statement: Statement, volume: Volume) -> Delivered:
        """The statement's result, delivered. Raises WorkerError."""
        for last in (False, True):
            try:
                return await self._run_once(statement, volume)
            except (asyncpg.InvalidCachedStatementError, asyncpg.OutdatedSchemaCacheError) as error:
                # A table changed under a prepared statement; nothing was returned yet, so prepare it anew.
                if last:
                    raise translate(error, statement.sql) from None
            except Exception as error:  # noqa: BLE001 - translated, whatever it is
                raise translate(error, statement.sql) from None
        raise AssertionError("unreachable")

    async def _run_once(self, statement: Statement, volume: Volume) -> Delivered:
        with timed("connect"):
            session = await begin_on(self._lender, statement)
        written: asyncio.Future[Delivered] | None = None
        try:
            with timed("execute"):
                prepared = await session.prepare(statement.sql)
                arguments = await session.bind(statement.params, prepared)
                estimate = await self._estimates.of(session, statement, arguments)
                if not self._wants_bulk(prepared, estimate):
                    written = await RowFetch(session, statement, prepared, self._threads).start(arguments, volume)
        except (asyncpg.InvalidCachedStatementError, asyncpg.OutdatedSchemaCacheError):
            session.forget_statements()
            raise
        finally:
            await finish(session, self._lender)
        with timed("stream"):
            return await (self._bulk(statement, prepared, volume) if written is None else written)

    def _wants_bulk(self, prepared: Prepared, estimate: Estimate) -> bool:
        if not prepared.in_bulk:
            return False
        return estimate.rows >= self._spec.bulk_rows or estimate.is_parallel


async def begin_on(lender: Lender, statement: Statement, *, writes: bool = False) -> Session:
    """A session of the tenant's with an open transaction. A connection that died while idle is replaced unnoticed."""
    for last in (*([False] * (MAX_OPEN_TRIES - 1)), True):
        loan = await lender.acquire(statement.tenant, statement.timeout_s)
        assert isinstance(loan, Session)
        try:
            await loan.begin(statement.timeout_s, job_id=statement.job_id, writes=writes)
            return loan
        except BaseException as error:
            loan.broken = True
            lender.release(loan)
            if last or not isinstance(error, Exception):
                raise
    raise AssertionError("unreachable")


async def finish(session: Session, lender: Lender) -> None:
    """Roll back, prove the connection idle (a cancelled statement has then ended on the server), give it back.

    Cancelled a second time while the server has not answered, it hangs up instead: no connection is ever lost.
    """
    try:
        await session.rollback()
    except BaseException:
        session.broken = True
        raise
    finally:
        if session.broken:
            session.terminate()
        lender.release(session)
