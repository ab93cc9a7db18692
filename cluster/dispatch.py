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
import structlog

from cluster import dispatch_nodes
from cluster.dispatch_hosts import Hosts
from cluster.dispatch_pools import Pools
from cluster.dispatch_scaling import Scaling
from cluster.dispatch_workers import is_near
from cluster.errors import WorkerLost
from cluster.membership import ROLES, Member, shares
from cluster.node_views import NodeViews
from cluster.placement import Fleet, Node, SandboxNeed
from cluster.placement.circuit import REMEMBERED, rest_until, why_avoided
from cluster.replicas import ALONE, Replica
from cluster.scaling import Growth
from cluster.survey import Survey
from workers.attempt import Attempt, Statement
from workers.sandbox.hosting import HostSpec
from workers.sandbox.tail import Heard
from workers.sandbox.task import SandboxTask
from workers.sql.policy.catalog import Catalog
from workers.sql.spec import PoolSpec
from workers.volumes.spec import VolumeSpec

log = structlog.get_logger("sandpool.dispatch")

NAMESPACE = "sandpool"
WATCH_S = 1.0
CALL_TIMEOUT_S = 10.0
LEAVE_S = 5.0
"""For what nobody here waits for on a node that drains: work of other schedulers."""
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
        growth: Growth | None = None,
        who: Replica = ALONE,
        grace_s: float,
    ) -> None:
        """`pinned`: databases whose pools run on nodes with the role `db-egress` only."""
        self._specs = specs
        self._pinned = frozenset(pinned)
        self._pools = Pools(specs, volumes, grace_s=grace_s, who=who)
        self._hosts = Hosts(host, volumes, grace_s=grace_s, who=who)
        self._members: dict[str, Member] = {}
        self._left: set[str] = set()
        """Nodes that are there and have no workers of ours: they drain, or rest."""
        self._resting: set[str] = set()
        """Those of them that rest, because they were idle."""
        self._leaving: set[asyncio.Task[None]] = set()
        self._aside: dict[str, float] = {}
        """Nodes whose workers are about to be renewed, and until when at most nothing is placed there."""
        self._anew: set[str] = set()
        """Nodes whose workers were ended, so that others take their places."""
        self._to_fill: set[str] = set()
        """Nodes that wait for their workers."""
        self._to_share = False
        """Connections are not where they should be."""
        self.own_node_drains = asyncio.Event()
        self._wanted: Callable[[], Sequence[SandboxNeed]] = lambda: ()
        self._scaling = Scaling(growth, lambda: self._wanted()) if growth is not None else None
        self._views = NodeViews(self._view)
        self._pools.on_answers = self._hosts.on_change = self._worker_changed
        self._failures: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=REMEMBERED))
        self._avoided: frozenset[str] = frozenset()
        """Nodes that were left alone at the last look."""
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
                self._let_drained_go()
                self._let_rested_back()
                for name in [name for name, until_s in self._aside.items() if until_s < time.monotonic()]:
                    await self.take_back(name)  # whoever set it aside is gone
                await self._scale()
            except Exception as error:  # noqa: BLE001 - Ray's own process may be away; whatever it is, the next look helps
                log.warning("nodes not seen", error=f"{type(error).__name__}: {error}")

    async def _look(self) -> dict[str, Member]:
        async with asyncio.timeout(CALL_TIMEOUT_S):
            return await asyncio.to_thread(dispatch_nodes.look)

    async def _follow(self, members: dict[str, Member]) -> None:
        """Make of the nodes that there are what they shall be."""
        before, self._members = self._members, members
        gone, come = before.keys() - members.keys(), members.keys() - before.keys()
        for name in gone:
            log.warning("node gone", node=name)
            self._pools.forget(name)
            self._hosts.forget(name)
            self._failures.pop(name, None)
            self._left.discard(name)
            self._resting.discard(name)
            self._aside.pop(name, None)
            self._anew.discard(name)
        for name in sorted(come):
            log.info("node joined", node=name, roles=sorted(members[name].roles))
        drains = [name for name in members.keys() & before.keys() if members[name].drains and not before[name].drains]
        for name in drains:
            log.info("node drains", node=name)
            if is_near(members[name]):
                self.own_node_drains.set()
        self._left |= {name for name in come if members[name].drains}
        # Ray's own process may forget that a node drained, when it is started anew.
        back = {name for name in self._left - self._resting if not members[name].drains and not self._leaving}
        self._left -= back
        self._views.all_changed(members)
        if gone:
            self._on_change()  # whoever waits may have waited for that node
        self._to_fill = (self._to_fill | come | back) & members.keys() - self._left
        self._to_share = self._to_share or bool(gone or come or back)
        if self._to_share:
            await self._fill()

    async def _fill(self) -> None:
        """Give nodes their workers, and every database's connections to the nodes that have any. What fails, because a
        node is lost again or Ray is away, is done at the next look."""
        self._hosts.place([self._members[name] for name in self._to_fill if self._members[name].hosts], NAMESPACE)
        self._to_fill = set()
        await asyncio.gather(self._hosts.open(), self._share())

    async def _share(self) -> None:
        self._to_share = True
        staying = {name: member for name, member in self._members.items() if name not in self._left}
        anew = frozenset(self._anew)  # another node may be taken back meanwhile: its turn comes then
        try:
            for database, spec in self._specs.items():
                sizes = shares(spec.budget, database in self._pinned, staying.values())
                await self._pools.share(database, staying, sizes, NAMESPACE, self._hosts.doors, anew)
            self._to_share = False
            self._anew -= anew
        finally:
            self._pools_changed()  # those of one database may be there when those of the next could not be made

    def _let_drained_go(self) -> None:
        """Nodes that drain lose their workers once these have nothing to do, or when the time is up."""
        for name, member in self._members.items():
            is_due = 0 < member.drain_by_s <= time.time() + LEAVE_S
            if member.drains and name not in self._left and (is_due or not self.is_busy(name)):
                self._leave(name, LEAVE_S)

    def _let_rested_back(self) -> None:
        """Whoever waits is told when a node is not left alone any more: nothing else would say so."""
        now = time.monotonic()
        avoided = frozenset(name for name in self._failures if self._why_avoided(name, now))
        if self._avoided - avoided:
            self._on_change()
        self._avoided = avoided

    def _why_avoided(self, name: str, now: float) -> str:
        if name not in self._failures:
            return ""
        others = any(rest_until(self._failures.get(other, ())) <= now for other in self._members)
        return why_avoided(self._failures[name], now, others=others)

    async def _scale(self) -> None:
        """Ask for nodes that are needed, and rest those that are not."""
        if self._scaling is None:
            return
        here = self._members.keys() - self._left
        idle = [name for name in here if not self.is_busy(name) and self._hosts.is_empty(name)]
        rests, needed = await self._scaling.look(idle, [name for name in here if self._stays(name)])
        for name in rests:
            log.info("node rests", node=name)
            self._resting.add(name)
            self._leave(name, LEAVE_S)
        if needed and self._resting and not self._leaving:
            self._left -= self._resting
            self._to_fill |= self._resting
            self._resting.clear()
            await self._fill()

    def _stays(self, name: str) -> bool:
        """The head, our own node, and what databases are pinned to work on when they idle, too."""
        member = self._members[name]
        return member.is_head or is_near(member) or (bool(self._pinned) and member.roles != ROLES)

    def _leave(self, name: str, drain_timeout_s: float) -> None:
        self._left.add(name)
        self._views.changed(name)
        task = asyncio.create_task(self._give_up(name, drain_timeout_s), name=f"leaving {name}")
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _give_up(self, name: str, drain_timeout_s: float) -> None:
        try:
            await asyncio.gather(self._pools.leave(name, drain_timeout_s), self._hosts.leave(name, drain_timeout_s))
            log.info("node left", node=name)
            await self._share()
        except Exception as error:  # noqa: BLE001 - Ray may be away; the connections are shared at the next look
            self._to_share = True
            log.warning("a node did not leave in order", node=name, error=f"{type(error).__name__}: {error}")

    def _pools_changed(self) -> None:
        """Of any node: connections were shared anew."""
        self._views.all_changed(self._members)
        self._on_change()

    def _worker_changed(self, name: str) -> None:
        self._views.changed(name)
        self._on_change()

    def nodes(self) -> Fleet:
        for name in self._failures:
            self._views.changed(name)  # it is left alone until a moment that nobody tells
        return self._views.fleet()

    def _view(self, name: str) -> Node | None:
        member = self._members.get(name)
        if member is None:
            return None
        return Node(
            name,
            self._pools.views(name),
            self._hosts.view(name, member.roles),
            self._hosts.opens(name),
            member.labels,
            draining=member.drains or name in self._left or name in self._aside,
            avoided=self._why_avoided(name, time.monotonic()),
        )

    async def run(self, node: str, database: str, statement: Statement) -> Attempt:
        with self._working(node):
            link = self._pools.links.get(node, {}).get(database)
            if link is None:
                raise WorkerLost(f"node {node} has no pool for {database!r} any more")
            return await link.run(statement)

    async def cancel(self, node: str, database: str, tenant: str, job_id: str) -> None:
        if link := self._pools.links.get(node, {}).get(database):
            await link.cancel(tenant, job_id)

    async def run_task(self, node: str, task: SandboxTask) -> Attempt:
        with self._working(node):
            return await self._hosts.run(node, task)

    async def cancel_task(self, node: str, tenant: str, job_id: str) -> None:
        await self._hosts.cancel(node, tenant, job_id)

    def set_aside(self, name: str, longest_s: float) -> None:
        """Place nothing more on this node, whose workers are about to be renewed: until `take_back`, or for so long."""
        if name in self._members:
            self._aside[name] = time.monotonic() + longest_s
            self._views.changed(name)

    def is_busy(self, name: str) -> bool:
        """Whether work of ours is there."""
        return self._pools.busy(name) or self._hosts.busy(name)

    async def take_back(self, name: str) -> None:
        """Give the node workers in place of those that were ended, as the settings of now have them, and work."""
        if name not in self._aside:
            return
        self._aside[name] = 0.0  # where Ray is away just now, the next look tries again
        if name not in self._left:
            self._hosts.renew(self._members[name], NAMESPACE)
            self._anew.add(name)
            self._to_share = True
        del self._aside[name]
        await self._fill()

    def is_back(self, name: str) -> bool:
        """Whether every worker of the node has spoken since."""
        return name not in self._anew and self._pools.are_back(name) and self._hosts.is_back(name)

    def wants(self, wanted: Callable[[], Sequence[SandboxNeed]]) -> None:
        self._wanted = wanted

    async def hear_task(self, node: str, tenant: str, job_id: str, stdout_from: int, stderr_from: int) -> Heard:
        return await self._hosts.hear(node, tenant, job_id, stdout_from, stderr_from)

    def watch(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change

    async def catalog(self, database: str) -> Catalog:
        for link in self._pools.of(database):
            return msgspec.msgpack.decode(await link.ask("catalog"), type=Catalog)
        raise WorkerLost(f"no node has a pool for database {database!r}")

    async def survey(self) -> Survey:
        return Survey(await self._pools.statuses(), self._hosts.statuses())

    async def close(self, drain_timeout_s: float) -> None:  # noqa: ARG002 - what runs has ended by then, or is lost
        """Let the workers go. They stay, for the next scheduler and for others: `sandpool up` ends them."""
        if self._watching is not None:
            self._watching.cancel()
        for task in self._leaving:
            task.cancel()
        self._hosts.release()
        self._pools.release()

    @contextlib.contextmanager
    def _working(self, node: str) -> Iterator[None]:
        """The node has one piece of work more for a while. A worker that is lost counts against its node, once for all
        that it took along."""
        self._views.changed(node)
        try:
            yield
        except WorkerLost:
            now = time.monotonic()
            failures = self._failures[node]
            if node in self._members and not (failures and now - failures[-1] < ONE_MISHAP_S):
                failures.append(now)
            raise
        finally:
            self._views.changed(node)
