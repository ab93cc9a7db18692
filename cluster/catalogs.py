"""What the policy needs to judge a job's SQL: the database's policy and a fresh enough catalog.
Called by the scheduler.

A catalog is read from the database when it is first needed and again when it is older than `ttl_s`; a refusal for an
unknown table or column is checked once against a catalog read just now, so that a table made a moment ago is found.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from time import monotonic

import structlog

from cluster.bench import Bench
from cluster.errors import WorkerLost
from sandpool.job import SqlJob
from sandpool.outcome import Verdict
from workers.errors import WorkerError
from workers.sql.judge import Judge, JudgeUnavailable
from workers.sql.policy.catalog import Catalog
from workers.sql.policy.document import Dialect, Policy

log = structlog.get_logger("sandpool.catalogs")

UNKNOWN_NAME_RULES = frozenset({"table.unlisted", "column.unknown", "function.unlisted"})
OVERLOADED = "check.overloaded"
"""Not an answer about the statement: it is asked again later, and never recorded as denied."""
REREAD_AFTER_S = 5.0
"""A refusal for an unknown name reads the catalog again at most this often: it must not become a way to load the
database."""


@dataclass(slots=True)
class _Shelf:
    catalog: Catalog
    read_at_s: float


class Catalogs:
    """One catalog per database, read through the bench."""

    def __init__(
        self,
        bench: Bench,
        judge: Judge,
        policies: Mapping[str, Policy],
        ttl_s: float,
        dialects: Mapping[str, Dialect] | None = None,
        read: Callable[[str], Awaitable[Catalog]] | None = None,
    ) -> None:
        """`dialects`: of databases that are not PostgreSQL; `read`: how the catalog of those is had."""
        self._dialects = dialects or {}
        self._read = read
        self._bench = bench
        self._judge = judge
        self._policies = policies
        self._ttl_s = ttl_s
        self._shelves: dict[str, _Shelf] = {}
        self._reading: dict[str, asyncio.Task[Catalog]] = {}

    async def warm(self) -> None:
        """Read every catalog ahead of the first job; a database that is away is read when a job needs it."""

        async def read(database: str) -> None:
            try:
                await self._fresh(database, None)
            except (WorkerError, WorkerLost) as error:
                log.warning("catalog not read", database=database, error=str(error))

        # The others cost a sandbox each: theirs are read for their first job.
        await asyncio.gather(*(read(database) for database in self._policies if database not in self._dialects))

    async def judge(self, job: SqlJob, tenant: str) -> Verdict:
        """The verdict for a job's statement. Raises WorkerError or WorkerLost when no catalog can be had."""
        shelf = self._shelves.get(job.database)
        if shelf is None or monotonic() - shelf.read_at_s > self._ttl_s:
            shelf = await self._fresh(job.database, shelf)
        verdict = await self._ask(job, tenant, shelf.catalog)
        unknown_name = not verdict.allowed and verdict.rule in UNKNOWN_NAME_RULES
        if unknown_name and monotonic() - shelf.read_at_s > REREAD_AFTER_S:
            version = shelf.catalog.version
            shelf = await self._fresh(job.database, shelf)
            if shelf.catalog.version != version:
                verdict = await self._ask(job, tenant, shelf.catalog)
        return verdict

    async def _ask(self, job: SqlJob, tenant: str, catalog: Catalog) -> Verdict:
        policy = self._policies[job.database]
        verdict = await self._judge.judge(
            job.sql, self._dialects.get(job.database, "postgres"), policy, catalog, tenant, writes=job.writes
        )
        if verdict.rule == OVERLOADED:
            raise JudgeUnavailable(verdict.reason)
        return verdict

    async def _ask_for(self, database: str) -> Catalog:
        if database in self._dialects and self._read is not None:
            return await self._read(database)
        return await self._bench.catalog(database)

    async def _fresh(self, database: str, stale: _Shelf | None) -> _Shelf:
        """The catalog as it is now; the stale one when the database does not answer: its jobs fail there, not here."""
        task = self._reading.get(database)
        if task is None:
            task = asyncio.create_task(self._ask_for(database))
            self._reading[database] = task
            task.add_done_callback(lambda _: self._reading.pop(database, None))
        try:
            catalog = await asyncio.shield(task)
        except (WorkerError, WorkerLost) as error:
            if stale is None:
                raise
            log.warning("catalog is stale", database=database, error=str(error))
            catalog = stale.catalog
        shelf = _Shelf(catalog, monotonic())
        self._shelves[database] = shelf
        return shelf
