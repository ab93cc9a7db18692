"""The bench on Ray: one long-lived pool actor per (node, database). The only way from the scheduler to a worker.

It finds or starts the actors and shows them as nodes; what travels to and from one of them is `cluster.link`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.dispatch_hosts import Hosts
from cluster.errors import WorkerLost
from cluster.link import WorkerLink
from cluster.placement import PIPELINE, Node, PoolView
from cluster.survey import Survey
from workers.actors import PoolActor
from workers.attempt import Attempt, Statement, encode_statement
from workers.errors import WorkerError
from workers.sandbox.hosting import HostSpec
from workers.sandbox.task import SandboxTask
from workers.sql.policy.catalog import Catalog
from workers.sql.pool import PoolStatus
from workers.sql.spec import PoolSpec, with_doors
from workers.volumes.spec import VolumeSpec

NAMESPACE = "sandpool"
POOL_PREFIX = "pool:"


class RayBench:
    """Pools and a host on every node of the Ray cluster. Each pool gets an equal share of its database's budget."""

    def __init__(
        self,
        specs: Mapping[str, PoolSpec],
        volumes: Mapping[str, VolumeSpec],
        host: HostSpec | None = None,
        *,
        grace_s: float,
    ) -> None:
        self._specs = specs
        self._volumes = dict(volumes)
        self._grace_s = grace_s
        self._hosts = Hosts(host, volumes, grace_s=grace_s)
        self._links: dict[str, dict[str, WorkerLink[Statement]]] = {}

    async def start(self) -> None:
        alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        for node in alive:
            name = node["NodeManagerHostname"] if len(alive) == 1 else node["NodeID"][:8]
            host = self._hosts.spec_of(node["NodeID"], alone=len(alive) == 1)
            doors = host.doors if host is not None else ""
            self._links[name] = {
                database: self._open(name, node["NodeID"], with_doors(_share(spec, len(alive)), doors))
                for database, spec in self._specs.items()
            }
            self._hosts.place(name, node["NodeID"], NAMESPACE, alone=len(alive) == 1)
        pools = [link.open() for links in self._links.values() for link in links.values()]
        await asyncio.gather(self._hosts.open(), *pools)

    def _open(self, node: str, node_id: str, spec: PoolSpec) -> WorkerLink[Statement]:
        # Detached and named: a pool outlives a scheduler that is restarted, and is found again by its name.
        actor: Any = (
            ray.remote(PoolActor)
            .options(
                name=f"{POOL_PREFIX}{spec.database}@{node}",
                namespace=NAMESPACE,
                lifetime="detached",
                get_if_exists=True,
                num_cpus=0,
                max_restarts=-1,
                max_concurrency=1000,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
            )
            .remote(spec, self._volumes)
        )
        grace_s = spec.acquire_timeout_s + self._grace_s
        near = node_id == ray.get_runtime_context().get_node_id()
        return WorkerLink(actor, encode_statement, slots=spec.budget * PIPELINE, grace_s=grace_s, near=near)

    def nodes(self) -> Sequence[Node]:
        # A node that went away has no busy slots, so it would draw every job to itself: while any other node answers
        # for a database, those that do not are left out. Where none answers, its jobs find out by themselves.
        answering = {database for links in self._links.values() for database, link in links.items() if link.answers}
        return [
            Node(
                name,
                {
                    database: PoolView(link.slots, link.busy)
                    for database, link in links.items()
                    if link.answers or database not in answering
                },
                self._hosts.view(name),
            )
            for name, links in self._links.items()
        ]

    async def run(self, node: str, database: str, statement: Statement) -> Attempt:
        return await self._links[node][database].run(statement)

    async def cancel(self, node: str, database: str, tenant: str, job_id: str) -> None:
        await self._links[node][database].cancel(tenant, job_id)

    async def run_task(self, node: str, task: SandboxTask) -> Attempt:
        return await self._hosts.run(node, task)

    async def cancel_task(self, node: str, tenant: str, job_id: str) -> None:
        await self._hosts.cancel(node, tenant, job_id)

    def watch(self, on_change: Callable[[], None]) -> None:
        self._hosts.on_change = on_change

    async def catalog(self, database: str) -> Catalog:
        links = [links[database] for links in self._links.values() if database in links]
        for link in sorted(links, key=lambda link: not link.answers):
            return msgspec.msgpack.decode(await link.ask("catalog"), type=Catalog)
        raise WorkerLost(f"no node has a pool for database {database!r}")

    async def survey(self) -> Survey:
        asked = {
            (node, name): link for node, links in self._links.items() for name, link in links.items() if link.answers
        }
        answers = await asyncio.gather(*(_status_of(link) for link in asked.values()))
        pools = {key: status for key, status in zip(asked, answers, strict=True) if status is not None}
        return Survey(pools, self._hosts.statuses())

    async def close(self, drain_timeout_s: float) -> None:
        links = [link for pools in self._links.values() for link in pools.values()]
        await asyncio.gather(self._hosts.close(drain_timeout_s), *(link.close(drain_timeout_s) for link in links))


async def _status_of(link: WorkerLink[Statement]) -> PoolStatus | None:
    """None: it does not answer, or cannot open."""
    try:
        return msgspec.msgpack.decode(await link.ask("status"), type=PoolStatus)
    except (WorkerError, WorkerLost):
        return None


def _share(spec: PoolSpec, nodes: int) -> PoolSpec:
    """One node's part of a database's connection budget, which holds across all nodes."""
    return msgspec.structs.replace(spec, budget=max(1, spec.budget // nodes))
