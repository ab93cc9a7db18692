"""The bench in this very process: pools without Ray. For one box, for tests, and where no server can be installed.

The twin of `cluster.dispatch.RayBench`; both pass the same suite.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import structlog

from cluster.placement import Node, PoolView
from workers.attempt import Attempt, Statement, not_started
from workers.errors import WorkerError
from workers.sql.policy.catalog import Catalog
from workers.sql.pool import Pool
from workers.sql.spec import PoolSpec
from workers.volumes.store import Volume

log = structlog.get_logger("sandpool.embedded")

NODE = "here"


class EmbeddedBench:
    """One node, one pool per database."""

    def __init__(self, specs: Mapping[str, PoolSpec], volumes: Mapping[str, Volume]) -> None:
        self._pools = {name: Pool(spec, volumes) for name, spec in specs.items()}
        self._slots = {name: spec.budget for name, spec in specs.items()}
        self._busy = dict.fromkeys(specs, 0)
        self._opened: set[str] = set()
        self._opening = {name: asyncio.Lock() for name in specs}

    async def start(self) -> None:
        """Pools whose database is away now open with their first statement after it is back."""
        for database in self._pools:
            try:
                await self._open(database)
            except WorkerError as error:
                log.warning("pool not open", database=database, code=error.code, error=error.message)

    def nodes(self) -> Sequence[Node]:
        pools = {name: PoolView(slots, self._busy[name]) for name, slots in self._slots.items()}
        return (Node(NODE, pools),)

    async def run(self, _node: str, database: str, statement: Statement) -> Attempt:
        self._busy[database] += 1
        try:
            return await (await self._open(database)).run(statement)
        except WorkerError as error:
            return not_started(statement, error)
        finally:
            self._busy[database] -= 1

    async def cancel(self, _node: str, database: str, tenant: str, job_id: str) -> None:
        await self._pools[database].cancel(job_id, tenant)

    async def catalog(self, database: str) -> Catalog:
        return await (await self._open(database)).catalog()

    async def close(self, drain_timeout_s: float) -> None:
        await asyncio.gather(*(pool.drain(drain_timeout_s) for pool in self._pools.values()))
        await asyncio.gather(*(pool.close() for pool in self._pools.values()))

    async def _open(self, database: str) -> Pool:
        """Raises WorkerError as the pool does when it cannot start."""
        pool = self._pools[database]
        if database not in self._opened:
            async with self._opening[database]:
                if database not in self._opened:
                    await pool.start()
                    self._opened.add(database)
        return pool
