"""The pools on Ray: one long-lived pool actor per (node, database), resized as nodes come and go.

Made by `cluster.dispatch`, which decides nothing about shares itself (`cluster.membership` does).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from functools import partial

import msgspec
import structlog

from cluster.dispatch_workers import is_near, start_worker
from cluster.errors import WorkerLost
from cluster.link import WorkerLink
from cluster.membership import Member
from cluster.placement import PIPELINE, PoolView
from cluster.replicas import ALONE, Replica
from workers.actors import PoolActor
from workers.attempt import Statement, encode_statement
from workers.errors import WorkerError
from workers.sql.pool import PoolStatus
from workers.sql.spec import PoolSpec, with_doors
from workers.volumes.spec import VolumeSpec

log = structlog.get_logger("sandpool.pools")

POOL_PREFIX = "pool:"
LEAVE_S = 5.0
"""For statements of a pool that another node's takes the place of."""
PoolLink = WorkerLink[Statement]


class Pools:
    """Links to every pool, by node and database."""

    def __init__(
        self,
        specs: Mapping[str, PoolSpec],
        volumes: Mapping[str, VolumeSpec],
        *,
        grace_s: float,
        who: Replica = ALONE,
    ) -> None:
        self._who = who
        self._specs = specs
        self._volumes = dict(volumes)
        self._grace_s = grace_s
        self.links: dict[str, dict[str, PoolLink]] = {}
        self.on_answers: Callable[[str], None] = lambda _: None
        """Called with the node whose pool begins or ceases to answer."""

    async def share(
        self,
        database: str,
        members: Mapping[str, Member],
        sizes: Mapping[str, int],
        namespace: str,
        doors: Callable[[str], str],
        anew: Collection[str] = (),
    ) -> None:
        """Have pools of these sizes on these nodes and nowhere else. Those that shrink do so before others open. The
        pools of the nodes `anew` have been ended: others take their places."""
        spec = self._specs[database]
        for name in [name for name, links in self.links.items() if database in links and name not in sizes]:
            await self.links[name].pop(database).close(LEAVE_S)
        kept = [name for name in sizes if database in self.links.get(name, {}) and name not in anew]
        await asyncio.gather(*(self._resize(self.links[name][database], sizes[name]) for name in kept))
        opened = []
        for name, size in sizes.items():
            links = self.links.setdefault(name, {})
            if name not in kept:
                if old := links.get(database):
                    old.release()
                own = with_doors(msgspec.structs.replace(spec, budget=size), doors(name))
                links[database] = self._start(members[name], own, namespace)
                links[database].on_answers = partial(self._answers_changed, name)
                opened.append((links[database], size))
        await asyncio.gather(*(self._open(link, size) for link, size in opened))

    def _answers_changed(self, name: str) -> None:
        self.on_answers(name)

    def forget(self, name: str) -> None:
        """The node is gone, and all that ran there."""
        for link in self.links.pop(name, {}).values():
            link.abandon("its node is gone")

    def views(self, name: str) -> dict[str, PoolView]:
        """The pools of one node."""
        links = self.links.get(name, {}).items()
        return {database: PoolView(link.slots, link.busy, link.answers) for database, link in links}

    def of(self, database: str) -> list[PoolLink]:
        """Every pool of this database, those that answer first."""
        links = [links[database] for links in self.links.values() if database in links]
        return sorted(links, key=lambda link: not link.answers)

    async def statuses(self) -> dict[tuple[str, str], PoolStatus]:
        """What each pool that answers says of itself, by node and database."""
        asked = {
            (node, name): link for node, links in self.links.items() for name, link in links.items() if link.answers
        }
        answers = await asyncio.gather(*(_status_of(link) for link in asked.values()))
        return {key: status for key, status in zip(asked, answers, strict=True) if status is not None}

    def are_back(self, name: str) -> bool:
        """Whether every pool of this node answers."""
        return all(link.answers for link in self.links.get(name, {}).values())

    def busy(self, name: str) -> bool:
        return any(link.busy for link in self.links.get(name, {}).values())

    async def leave(self, name: str, drain_timeout_s: float) -> None:
        """Drain and end the pools of this node."""
        await asyncio.gather(*(link.close(drain_timeout_s) for link in self.links.pop(name, {}).values()))

    def release(self) -> None:
        """Leave every pool to the scheduler that comes next, and to the others."""
        for links in self.links.values():
            for link in links.values():
                link.release()
        self.links.clear()

    def _start(self, member: Member, spec: PoolSpec, namespace: str) -> PoolLink:
        actor = start_worker(
            PoolActor, f"{POOL_PREFIX}{spec.database}@{member.name}", namespace, member, spec, self._volumes
        )
        grace_s = spec.acquire_timeout_s + self._grace_s
        near, slots = is_near(member), self._slots(spec.budget)
        return WorkerLink(actor, encode_statement, slots=slots, grace_s=grace_s, near=near, scheduler=self._who.mailbox)

    def _slots(self, size: int) -> int:
        """Statements that this scheduler may have there: its part of what keeps the connections busy."""
        return max(1, size * PIPELINE // self._who.count)

    async def _open(self, link: PoolLink, size: int) -> None:
        await link.open()
        await self._resize(link, size)  # it may have been there before, with another share

    async def _resize(self, link: PoolLink, size: int) -> None:
        link.slots = self._slots(size)
        try:
            await link.ask("set_budget", size)
        except (WorkerError, WorkerLost) as error:
            log.warning("a pool keeps its share", error=str(error))


async def _status_of(link: PoolLink) -> PoolStatus | None:
    """None: it does not answer, or cannot open."""
    try:
        return msgspec.msgpack.decode(await link.ask("status"), type=PoolStatus)
    except (WorkerError, WorkerLost):
        return None
