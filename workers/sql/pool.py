"""The pool: owns every connection to one database on one node and runs the statements that the policy allowed.

Called by the pool's Ray actor (`workers.actors`) or directly. `run` never raises for a job's own trouble: it answers
with an Attempt that carries the typed error. The pool knows no policy, no queue and no retry: its caller decides those.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from sandpool.outcome import Ending, ErrorInfo, Manifest, Usage
from workers.attempt import Attempt, Statement
from workers.errors import ConfigurationError, PoolClosed, StatementTimedOut, WorkerError
from workers.sql.broker.backend import Backend
from workers.sql.bulk import BulkReader
from workers.sql.catalog import read_catalog, read_session_catalog
from workers.sql.connection import BulkSession
from workers.sql.estimate import Estimates
from workers.sql.faults import translate
from workers.sql.lender import Lender
from workers.sql.policy.catalog import Catalog
from workers.sql.policy.document import Policy
from workers.sql.read import Reader
from workers.sql.results import Delivered
from workers.sql.role import check_role
from workers.sql.session import Session
from workers.sql.spec import PoolSpec
from workers.sql.threads import ResultThreads
from workers.sql.write import Writer
from workers.timing import timings
from workers.volumes.store import Volume

__all__ = ["Pool", "PoolSpec", "PoolStatus"]

DEADLINE_GRACE_S = 1.0
"""The server's own timeout ends a statement first; this much later the client cancels it, and then hangs up."""
CANCEL_DEADLINE_S = 15.0
ROLE_DEADLINE_S = 30.0
QUERY_CANCELED = "57014"


class PoolStatus(msgspec.Struct, frozen=True):
    """What a pool is doing."""

    database: str
    state: str
    """`new`, `open`, `draining` or `closed`."""
    running: int
    waiting: int
    connections: int
    idle: int
    budget: int


@dataclass(eq=False, slots=True)
class _Run:
    tenant: str
    task: asyncio.Task[object]
    ended: asyncio.Future[None]
    cancelled: bool = False


class Pool:
    """Connections to one database. `start` before use, `close` at the end; one event loop."""

    def __init__(self, spec: PoolSpec, volumes: Mapping[str, Volume]) -> None:
        self._spec = spec
        self._volumes = dict(volumes)
        self._threads = ResultThreads()
        self._lender = Lender(
            spec,
            lambda: Session.open(spec),
            lambda: BulkSession.open(spec),
            lambda: Backend.open(spec),
        )
        self._estimates = Estimates()
        bulk = BulkReader(self._lender, spec.bulk_budget)
        self._reader = Reader(spec, self._lender, self._threads, self._estimates, bulk.run)
        self._writer = Writer(self._lender, self._threads, self._estimates)
        self._runs: dict[str, list[_Run]] = {}
        self._state = "new"

    @property
    def lender(self) -> Lender:
        """What the broker borrows its connections from."""
        return self._lender

    def set_budget(self, budget: int) -> None:
        """Another share of the database's connections from now on; see Lender.set_budget."""
        self._spec = msgspec.structs.replace(self._spec, budget=budget)
        self._lender.set_budget(budget)

    async def start(self) -> None:
        """Connect and check the role. Raises DatabaseUnavailable, DatabaseRefusesRole."""
        session = await self._lender.acquire("", self._spec.connect_timeout_s)
        assert isinstance(session, Session)
        try:
            async with asyncio.timeout(ROLE_DEADLINE_S):
                await check_role(session, self._spec)
        except Exception as error:  # noqa: BLE001 - translated, whatever it is
            raise translate(error) from None
        finally:
            self._lender.discard(session)
        self._threads.start()
        self._state = "open"

    async def run(self, statement: Statement) -> Attempt:
        """Run one statement to its ending. Raises nothing but CancelledError of the caller's own."""
        with timings() as measured:
            attempt = await self._run(statement)
        return msgspec.structs.replace(attempt, timings=measured.stages)

    async def _run(self, statement: Statement) -> Attempt:
        started_s = time.monotonic()
        task = asyncio.current_task()
        assert task is not None
        run = _Run(statement.tenant, task, asyncio.get_running_loop().create_future())
        self._runs.setdefault(statement.job_id, []).append(run)
        error: WorkerError | None = None
        delivered: Delivered | None = None
        try:
            volume = self._admit(statement)
            async with asyncio.timeout(statement.timeout_s + DEADLINE_GRACE_S):
                way = self._writer if statement.writes else self._reader
                delivered = await way.run(statement, volume)
        except TimeoutError:
            error = StatementTimedOut("the statement ran longer than its time limit and was cancelled")
        except asyncio.CancelledError:
            if not run.cancelled:
                raise
            task.uncancel()
        except WorkerError as trouble:
            error = trouble
            if trouble.sqlstate == QUERY_CANCELED and time.monotonic() - started_s >= statement.timeout_s:
                # The server says why it cancelled in its own language only; the clock says it too.
                error = StatementTimedOut("the statement ran longer than its time limit", sqlstate=QUERY_CANCELED)
        except Exception as trouble:  # noqa: BLE001 - translated, whatever it is
            error = translate(trouble, statement.sql)
        finally:
            self._forget(statement.job_id, run)
        return _attempt(statement, delivered, error, time.monotonic() - started_s)

    async def cancel(self, job_id: str, tenant: str | None = None) -> bool:
        """Cancel a job's statement on the server and wait until it has ended there; False when none runs here."""
        runs = [run for run in self._runs.get(job_id, ()) if tenant in (None, run.tenant)]
        for run in runs:
            if not run.cancelled:
                run.cancelled = True
                run.task.cancel()
        if runs:
            await asyncio.wait([run.ended for run in runs], timeout=CANCEL_DEADLINE_S)
        return bool(runs)

    async def catalog(self, policy: Policy | None = None) -> Catalog:
        """What the role may read, from the server's catalogs; for sessions under this policy. Raises WorkerError."""
        session = await self._lender.acquire("", self._spec.acquire_timeout_s)
        assert isinstance(session, Session)
        try:
            return await (read_session_catalog(session, policy) if policy is not None else read_catalog(session))
        except BaseException as error:
            session.broken = True
            if isinstance(error, Exception):
                raise translate(error) from None
            raise
        finally:
            self._lender.release(session)

    def status(self) -> PoolStatus:
        """A snapshot."""
        lender = self._lender
        running = sum(map(len, self._runs.values()))
        return PoolStatus(
            self._spec.database,
            self._state,
            running,
            lender.waiting_count,
            lender.open_count,
            lender.idle_count,
            self._spec.budget,
        )

    async def drain(self, timeout_s: float) -> bool:
        """Take no more statements and wait for those that run; True when all have ended in time."""
        if self._state == "open":
            self._state = "draining"
        running = [run.ended for runs in self._runs.values() for run in runs]
        if running:
            _, unfinished = await asyncio.wait(running, timeout=timeout_s)
            return not unfinished
        return True

    async def close(self) -> None:
        """Cancel what still runs and disconnect."""
        self._state = "closed"
        for job_id in list(self._runs):
            await self.cancel(job_id)
        await self._lender.close()
        await self._threads.stop(timeout_s=5.0)

    def _admit(self, statement: Statement) -> Volume:
        if self._state != "open":
            raise PoolClosed(f"the pool of database {self._spec.database} is {self._state}")
        if statement.volume not in self._volumes:
            raise ConfigurationError(f"no volume {statement.volume!r} is registered with this pool")
        if statement.writes and not self._spec.writes:
            raise ConfigurationError(f"database {self._spec.database} is registered read-only")
        return self._volumes[statement.volume]

    def _forget(self, job_id: str, run: _Run) -> None:
        runs = self._runs[job_id]
        runs.remove(run)
        if not runs:
            del self._runs[job_id]
        run.ended.set_result(None)


def _attempt(statement: Statement, delivered: Delivered | None, error: WorkerError | None, run_s: float) -> Attempt:
    """Neither a result nor an error: it was cancelled."""
    manifest = delivered.manifest if delivered else Manifest()
    info: ErrorInfo | None = None
    if error is not None:
        ending, info = error.ending, error.info()
    elif delivered is None:
        ending, info = Ending.Cancelled, ErrorInfo("job.cancelled", "the statement was cancelled on the server")
    elif delivered.capped:
        limits = f"{statement.max_rows} rows or {statement.max_bytes} bytes"
        ending = Ending.OutputCapped
        info = ErrorInfo("output.capped", f"the result is larger than {limits}", "aggregate, filter or add a LIMIT")
    else:
        ending = Ending.Succeeded
    return Attempt(
        job_id=statement.job_id,
        attempt_id=statement.attempt_id,
        ending=ending,
        error=info,
        usage=Usage(run_s=run_s, rows=manifest.rows, size_bytes=manifest.size_bytes),
        manifest=manifest,
        inline=delivered.inline if delivered else b"",
    )
