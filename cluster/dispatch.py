"""The bench on Ray: pools and a host on every node of the cluster, as nodes come and go.

It watches which nodes there are and has each run what its roles allow; what travels to and from one worker is
`cluster.link`, who may run what and which share of connections is `cluster.membership`. Nothing here waits for a node
that is gone: what ran there is lost at once, and retried elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import msgspec
import ray
import structlog

from cluster.dispatch_hosts import Hosts
from cluster.dispatch_pools import Pools
from cluster.errors import WorkerLost
from cluster.membership import Member, members_of, shares
from cluster.placement import Node
from cluster.placement.circuit import REMEMBERED, why_avoided
from cluster.survey import Survey
from workers.attempt import Attempt, Statement
from workers.sandbox.hosting import HostSpec
from workers.sandbox.task import SandboxTask
from workers.sql.policy.catalog import Catalog
from workers.sql.spec import PoolSpec
from workers.volumes.spec import VolumeSpec

log = structlog.get_logger("sandpool.dispatch")

NAMESPACE = "sandpool"
WATCH_S = 1.0
CALL_TIMEOUT_S = 10.0
ONE_MISHAP_S = 1.0
"""Losses within this time are one failure of the node: an actor that dies takes all of its work along."""


class RayBench:
    """Pools and a host on every node of the Ray cluster. Each pool gets an equal share of its database's budget."""

    def __init__(
        self,
        specs: Mapping[str, PoolSpec],
        volumes: Mapping[str, VolumeSpec],
        host: HostSpec | None = None,
        *,
        pinned: Collection[str] = (),
        grace_s: float,
    ) -> None:
        """`pinned`: databases whose pools run on nodes with the role `db-egress` only."""
        self._specs = specs
        self._pinned = frozenset(pinned)
        self._pools = Pools(specs, volumes, grace_s=grace_s)
        self._hosts = Hosts(host, volumes, grace_s=grace_s)
        self._members: dict[str, Member] = {}
        self._draining: set[str] = set()
        self._failures: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=REMEMBERED))
        self._on_change: Callable[[], None] = lambda: None
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._follow(await self._look())
        self._watching = asyncio.create_task(self._watch(), name="nodes of the cluster")

    async def _watch(self) -> None:
        """Nodes come and go for as long as the bench is open."""
        while True:
            await asyncio.sleep(WATCH_S)
            try:
                await self._follow(await self._look())
            except Exception as error:  # noqa: BLE001 - Ray's own process may be away; whatever it is, the next look helps
                log.warning("nodes not seen", error=f"{type(error).__name__}: {error}")

    async def _look(self) -> dict[str, Member]:
        async with asyncio.timeout(CALL_TIMEOUT_S):
            return members_of(await asyncio.to_thread(ray.nodes))

    async def _follow(self, members: dict[str, Member]) -> None:
        """Make of the nodes that there are what they shall be."""
        gone, come = self._members.keys() - members.keys(), members.keys() - self._members.keys()
        if not gone and not come:
            return
        for name in gone:
            log.warning("node gone", node=name)
            self._pools.forget(name)
            self._hosts.forget(name)
            self._failures.pop(name, None)
            self._draining.discard(name)
        for name in sorted(come):
            log.info("node joined", node=name, roles=sorted(members[name].roles))
        self._members = members
        if gone:
            self._on_change()  # whoever waits may have waited for that node
        self._hosts.place([members[name] for name in come if members[name].hosts], NAMESPACE)
        await asyncio.gather(self._hosts.open(), self._share())
        self._on_change()

    async def _share(self) -> None:
        staying = {name: member for name, member in self._members.items() if name not in self._draining}
        for database, spec in self._specs.items():
            sizes = shares(spec.budget, database in self._pinned, staying.values())
            await self._pools.share(database, staying, sizes, NAMESPACE, self._hosts.doors)

    def nodes(self) -> Sequence[Node]:
        now = time.monotonic()
        return [
            Node(
                name,
                self._pools.views(name),
                self._hosts.view(name, member.roles),
                member.labels,
                draining=name in self._draining,
                avoided=why_avoided(self._failures[name], now) if name in self._failures else "",
            )
            for name, member in self._members.items()
        ]

    async def run(self, node: str, database: str, statement: Statement) -> Attempt:
        with self._blaming(node):
            link = self._pools.links.get(node, {}).get(database)
            if link is None:
                raise WorkerLost(f"node {node} has no pool for {database!r} any more")
            return await link.run(statement)

    async def cancel(self, node: str, database: str, tenant: str, job_id: str) -> None:
        if link := self._pools.links.get(node, {}).get(database):
            await link.cancel(tenant, job_id)

    async def run_task(self, node: str, task: SandboxTask) -> Attempt:
        with self._blaming(node):
            return await self._hosts.run(node, task)

    async def cancel_task(self, node: str, tenant: str, job_id: str) -> None:
        await self._hosts.cancel(node, tenant, job_id)

    def watch(self, on_change: Callable[[], None]) -> None:
        self._on_change = self._hosts.on_change = on_change

    async def catalog(self, database: str) -> Catalog:
        for link in self._pools.of(database):
            return msgspec.msgpack.decode(await link.ask("catalog"), type=Catalog)
        raise WorkerLost(f"no node has a pool for database {database!r}")

    async def survey(self) -> Survey:
        return Survey(await self._pools.statuses(), self._hosts.statuses())

    async def close(self, drain_timeout_s: float) -> None:
        if self._watching is not None:
            self._watching.cancel()
        await asyncio.gather(self._hosts.close(drain_timeout_s), self._pools.close(drain_timeout_s))

    @contextlib.contextmanager
    def _blaming(self, node: str) -> Iterator[None]:
        """A worker that is lost counts against its node, once for all that it took along."""
        try:
            yield
        except WorkerLost:
            now = time.monotonic()
            failures = self._failures[node]
            if node in self._members and not (failures and now - failures[-1] < ONE_MISHAP_S):
                failures.append(now)
            raise
