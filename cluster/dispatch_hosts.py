"""The hosts on Ray: one long-lived host actor per node, the only way from the scheduler to a sandbox.

Made by `cluster.dispatch`, which shows them as part of its nodes. A host that cannot open (not root, no runsc) is no
host: its reason is kept for whoever asks why nothing runs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import structlog

from cluster.dispatch_workers import is_near, start_worker
from cluster.errors import WorkerLost
from cluster.host_views import Claims, view_of
from cluster.link import WorkerLink
from cluster.membership import Member, seats
from cluster.placement import HostView
from cluster.replicas import ALONE, Replica
from workers.attempt import Attempt
from workers.errors import WorkerError
from workers.host_actor import HostActor
from workers.sandbox.hosting import HostSpec, HostStatus
from workers.sandbox.jobs.run import OVERHEAD_S
from workers.sandbox.tail import Heard
from workers.sandbox.task import SandboxTask, encode_task
from workers.volumes.spec import VolumeSpec

log = structlog.get_logger("sandpool.hosts")

HOST_PREFIX = "host:"
POLL_S = 1.0


class HostLink:
    """One node's host: its mailbox, what it says of itself, what is placed there."""

    def __init__(
        self,
        actor: Any,
        spec: HostSpec,
        grace_s: float,
        on_change: Callable[[], None],
        *,
        near: bool = False,
        scheduler: str = "",
        before: HostStatus | None = None,
    ) -> None:
        """`before`: what the host said whose place this one takes; until it speaks for itself it may be waited for."""
        self._link: WorkerLink[SandboxTask] = WorkerLink(
            actor,
            encode_task,
            slots=spec.most_sandboxes,
            grace_s=OVERHEAD_S + grace_s,
            near=near,
            scheduler=scheduler,
        )
        self._on_change = self._link.on_answers = on_change
        self._claims = Claims()
        self._seen: tuple[HostStatus, tuple[object, ...], HostView] | None = None
        """The view made last, and of what: every pool that changes asks for it again."""
        self._status = before
        self._says = before is None
        """Whether it answered when it was last asked how it is: one that takes work and does nothing else is unwell."""
        self.why_not = ""
        """Why this node runs no sandboxes."""
        self._polling: asyncio.Task[None] | None = None

    @property
    def said(self) -> HostStatus | None:
        """What it said last."""
        return self._status

    @property
    def status(self) -> HostStatus | None:
        """What it said last, while it answers."""
        return self._status if self._link.answers and self._says else None

    @property
    def is_empty(self) -> bool:
        """Nobody's sandbox is there, as far as the host has said; warm ones are nobody's."""
        status = self._status
        return not self._claims.tasks and (status is None or not (status.sandboxes or status.paused))

    async def open(self) -> None:
        """Wait until the host is open, or says why it cannot be; done already where it was called before."""
        if self._polling is not None:
            return
        await self._poll_once()
        self._polling = asyncio.create_task(self._poll(), name="host status")

    def view(self, roles: Collection[str]) -> HostView | None:
        """None where this node has no host."""
        status = self._status
        if status is None:
            return None
        answers = self._link.answers and self._says
        made_of = (answers, roles, *self._claims.tasks)
        if self._seen is None or self._seen[0] is not status or self._seen[1] != made_of:
            self._seen = status, made_of, view_of(status, self._claims, answers=answers, roles=roles)
        return self._seen[2]

    @property
    def busy(self) -> bool:
        return bool(self._claims.tasks)

    async def run(self, task: SandboxTask) -> Attempt:
        self._claims.tasks[task.attempt_id] = task
        try:
            return await self._link.run(task)
        finally:
            del self._claims.tasks[task.attempt_id]

    async def cancel(self, tenant: str, job_id: str) -> None:
        await self._link.cancel(tenant, job_id)

    async def hear(self, tenant: str, job_id: str, stdout_from: int, stderr_from: int) -> Heard:
        return msgspec.msgpack.decode(
            await self._link.ask("hear", job_id, tenant, stdout_from, stderr_from), type=Heard
        )

    async def close(self, drain_timeout_s: float) -> None:
        if self._polling is not None:
            self._polling.cancel()
        with contextlib.suppress(WorkerError, WorkerLost):
            async with asyncio.timeout(drain_timeout_s + POLL_S):
                await self._link.ask("drain", drain_timeout_s)
        with contextlib.suppress(WorkerError, WorkerLost):
            # So that no sandbox is ended by the death of its host only.
            await self._link.ask("close")
        await self._link.close(drain_timeout_s)

    def release(self) -> None:
        """Leave it to others."""
        if self._polling is not None:
            self._polling.cancel()
        self._link.release()

    def abandon(self) -> None:
        """Its node is gone."""
        if self._polling is not None:
            self._polling.cancel()
        self._link.abandon("its node is gone")

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            await self._poll_once()

    async def _poll_once(self) -> None:
        try:
            status = msgspec.msgpack.decode(await self._link.ask("status"), type=HostStatus)
        except WorkerError as error:
            known, self.why_not = self.why_not, error.message
            if known != error.message:
                log.warning("no sandboxes on this node", code=error.code, error=error.message, hint=error.hint)
                self._on_change()
            return
        except WorkerLost as error:
            log.warning("host does not answer", error=str(error))
            said, self._says = self._says, False
            if said:
                self._on_change()
            return
        before, self._status, self.why_not = self._status, status, ""
        said, self._says = self._says, True
        if before != status or not said:
            self._on_change()


class Hosts:
    """One HostLink per node; none where no sandboxes are wanted."""

    def __init__(
        self, spec: HostSpec | None, volumes: Mapping[str, VolumeSpec], *, grace_s: float, who: Replica = ALONE
    ) -> None:
        self._who = who
        self._spec = spec
        self._volumes = dict(volumes)
        self._grace_s = grace_s
        self._links: dict[str, HostLink] = {}
        self._seats: dict[str, tuple[str, int]] = {}
        self._doors: dict[str, str] = {}
        self.on_change: Callable[[str], None] = lambda _: None
        """Called with the node whose host has other things than before."""

    def place(self, members: Sequence[Member], namespace: str) -> None:
        """Start, or find, the hosts of these nodes. Where nodes share a machine, each has a folder of its own."""
        if self._spec is None:
            return
        for name, number in seats(self._seats, members).items():
            member = next(member for member in members if member.name == name)
            self._seats[name] = member.machine, number
            self._start(member, self._spec, number, namespace)

    def renew(self, member: Member, namespace: str) -> None:
        """Start the host of this node anew, on its seat; the one before has been ended, by whoever asks for this."""
        old = self._links.get(member.name)
        if self._spec is None or old is None:
            return
        _, number = self._seats[member.name]
        self._start(member, self._spec, number, namespace, old.said)
        old.release()

    def _start(
        self, member: Member, spec: HostSpec, number: int, namespace: str, before: HostStatus | None = None
    ) -> None:
        spec, name = _own(spec, number), member.name
        self._doors[name] = spec.doors
        actor = start_worker(HostActor, f"{HOST_PREFIX}{name}", namespace, member, spec, self._volumes)
        told, near = partial(self._said, name), is_near(member)
        self._links[name] = HostLink(
            actor, spec, self._grace_s, told, near=near, scheduler=self._who.mailbox, before=before
        )

    def is_back(self, node: str) -> bool:
        """Whether the host of this node has spoken, be it to say why it cannot open."""
        link = self._links.get(node)
        return link is None or link.status is not None or bool(link.why_not)

    def _said(self, node: str) -> None:
        self.on_change(node)

    def doors(self, node: str) -> str:
        """Where the pools of this node find the doors of its sandboxes; empty where there are none."""
        return self._doors.get(node, "")

    async def open(self) -> None:
        await asyncio.gather(*(link.open() for link in self._links.values()))

    def view(self, node: str, roles: Collection[str]) -> HostView | None:
        link = self._links.get(node)
        return link.view(roles) if link else None

    def opens(self, node: str) -> bool:
        """Whether the host of this node has said nothing yet."""
        link = self._links.get(node)
        return link is not None and link.said is None and not link.why_not

    def busy(self, node: str) -> bool:
        link = self._links.get(node)
        return link is not None and link.busy

    def is_empty(self, node: str) -> bool:
        link = self._links.get(node)
        return link is None or link.is_empty

    def statuses(self) -> dict[str, HostStatus]:
        """What each host that answers said last."""
        return {node: status for node, link in self._links.items() if (status := link.status) is not None}

    async def run(self, node: str, task: SandboxTask) -> Attempt:
        """Raises WorkerLost."""
        link = self._links.get(node)
        if link is None:
            raise WorkerLost(f"node {node} has no host any more")
        return await link.run(task)

    async def cancel(self, node: str, tenant: str, job_id: str) -> None:
        if link := self._links.get(node):
            await link.cancel(tenant, job_id)

    async def hear(self, node: str, tenant: str, job_id: str, stdout_from: int, stderr_from: int) -> Heard:
        """See Desk.hear. Raises WorkerLost, WorkerError."""
        link = self._links.get(node)
        return await link.hear(tenant, job_id, stdout_from, stderr_from) if link else Heard()

    def forget(self, node: str) -> None:
        """The node is gone, and all that ran there."""
        self._seats.pop(node, None)
        self._doors.pop(node, None)
        if link := self._links.pop(node, None):
            link.abandon()

    async def leave(self, node: str, drain_timeout_s: float) -> None:
        """Drain and end the host of this node."""
        self._seats.pop(node, None)
        self._doors.pop(node, None)
        if link := self._links.pop(node, None):
            await link.close(drain_timeout_s)

    def release(self) -> None:
        """Leave every host to the scheduler that comes next, and to the others."""
        for link in self._links.values():
            link.release()
        self._links.clear()


def _own(spec: HostSpec, number: int) -> HostSpec:
    """What the host of one node is told; the first of a machine keeps the folder in which its snapshots are."""
    if number == 0:
        return spec
    return msgspec.structs.replace(spec, folder=f"{spec.folder}/{number}", name=f"{spec.name}-{number}")
