"""The bench in this very process: pools and a host without Ray. For one box, for tests, and where no
server can be installed.

The twin of `cluster.dispatch.RayBench`; both pass the same suite.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import structlog

from cluster.host_views import Claims, view_of
from cluster.placement import Node, PoolView, SandboxNeed
from cluster.survey import Survey
from workers.attempt import Attempt, Statement, not_started
from workers.errors import WorkerError
from workers.images.store import ImageStore
from workers.sandbox.host import Host
from workers.sandbox.hosting import HostSpec
from workers.sandbox.jobs.desk import Desk
from workers.sandbox.readiness import sized, why_not
from workers.sandbox.tail import Heard
from workers.sandbox.task import SandboxTask
from workers.sql.broker.reception import Reception
from workers.sql.policy.catalog import Catalog
from workers.sql.pool import Pool
from workers.sql.spec import PoolSpec, with_doors
from workers.volumes.store import Volume

log = structlog.get_logger("sandpool.embedded")

NODE = "here"


class EmbeddedBench:
    """One node, one pool per database, one host where sandboxes are wanted and possible."""

    def __init__(
        self, specs: Mapping[str, PoolSpec], volumes: Mapping[str, Volume], host: HostSpec | None = None
    ) -> None:
        self._host_spec = host
        self._host: Host | None = None
        self._desk: Desk | None = None
        self._volumes = volumes
        self._claims = Claims()
        self._on_change: Callable[[], None] = lambda: None
        specs = {name: with_doors(spec, host.doors if host is not None else "") for name, spec in specs.items()}
        self._pools = {name: Pool(spec, volumes) for name, spec in specs.items()}
        self._receptions = {name: Reception(self._pools[name], spec, volumes) for name, spec in specs.items()}
        self._slots = {name: spec.budget for name, spec in specs.items()}
        self._busy = dict.fromkeys(specs, 0)
        self._opened: set[str] = set()
        self._opening = {name: asyncio.Lock() for name in specs}

    async def start(self) -> None:
        """Pools whose database is away now open with their first statement after it is back. A host that cannot open
        is no host."""
        if self._host_spec is not None:
            await self._open_host(self._host_spec)
        for database in self._pools:
            try:
                await self._open(database)
            except WorkerError as error:
                log.warning("pool not open", database=database, code=error.code, error=error.message)

    def nodes(self) -> Sequence[Node]:
        pools = {name: PoolView(slots, self._busy[name]) for name, slots in self._slots.items()}
        return (Node(NODE, pools, view_of(self._host.view(), self._claims) if self._host is not None else None),)

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

    async def run_task(self, _node: str, task: SandboxTask) -> Attempt:
        assert self._desk is not None, "placed where there is a host"
        self._claims.tasks[task.attempt_id] = task
        try:
            return await self._desk.run(task)
        finally:
            del self._claims.tasks[task.attempt_id]

    async def cancel_task(self, _node: str, tenant: str, job_id: str) -> None:
        if self._desk is not None:
            await self._desk.cancel(job_id, tenant)

    def wants(self, wanted: Callable[[], Sequence[SandboxNeed]]) -> None:
        """One node does not grow."""

    async def hear_task(self, _node: str, tenant: str, job_id: str, stdout_from: int, stderr_from: int) -> Heard:
        return await self._desk.hear(job_id, tenant, stdout_from, stderr_from) if self._desk is not None else Heard()

    def watch(self, on_change: Callable[[], None]) -> None:
        """Work that ends is known to who asked for it; its sandbox gives its room back a moment later."""
        self._on_change = on_change

    async def catalog(self, database: str) -> Catalog:
        return await (await self._open(database)).catalog()

    async def survey(self) -> Survey:
        pools = {(NODE, name): pool.status() for name, pool in self._pools.items()}
        return Survey(pools, {} if self._host is None else {NODE: self._host.view()})

    async def close(self, drain_timeout_s: float) -> None:
        await asyncio.gather(*(pool.drain(drain_timeout_s) for pool in self._pools.values()))
        if self._desk is not None:
            await self._desk.drain(drain_timeout_s)
        if self._host is not None:
            await self._host.close()
        await asyncio.gather(*(reception.close() for reception in self._receptions.values()))
        await asyncio.gather(*(pool.close() for pool in self._pools.values()))

    async def _open_host(self, spec: HostSpec) -> None:
        if reason := await asyncio.to_thread(why_not):
            log.warning(reason)
            return
        host = Host(sized(spec), ImageStore(Path(spec.images)))
        try:
            await host.open()
        except WorkerError as error:
            log.warning("no sandboxes", code=error.code, error=error.message)
        else:
            host.on_change = self._on_change
            self._host, self._desk = host, Desk(host, self._volumes, Path(spec.doors))

    async def _open(self, database: str) -> Pool:
        """Raises WorkerError as the pool does when it cannot start."""
        pool = self._pools[database]
        if database not in self._opened:
            async with self._opening[database]:
                if database not in self._opened:
                    await pool.start()
                    await self._receptions[database].start()
                    self._opened.add(database)
        return pool
