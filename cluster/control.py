"""The control room: answers `cancel`, `status`, `explain` and `output` calls of tenants about their own jobs.

A tenant can only reach what lies under its own name: records are keyed by tenant first. Called by the door with the
messages of the control queue; never touches a job's message.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

import structlog

from cluster import explaining, outcomes
from cluster.errors import WorkerLost
from cluster.run import Run
from cluster.scheduler import Scheduler
from queues.door import Delivery, Door
from queues.errors import QueueError
from sandpool import wire
from sandpool.errors import InvalidEnvelope
from sandpool.outcome import Outcome
from workers.errors import VolumeError, WorkerError
from workers.sandbox.tail import Heard
from workers.volumes.record import acreate_record, aread_record
from workers.volumes.store import Volume

log = structlog.get_logger("sandpool.control")

REPEAT_DELAY_S = 5.0
MOST_REPEATS = 60
LONGEST_STOP_S = 60.0


Peers = Callable[[str, wire.ControlCall], Awaitable[list[Outcome | wire.JobStatus]]]
"""What other schedulers of this cluster say to a tenant's call, each for itself."""


async def nobody(_: str, __: wire.ControlCall) -> list[Outcome | wire.JobStatus]:
    """The peers of a scheduler that is alone."""
    return []


class ControlRoom:
    """`take` is the door's callback for the control queue."""

    def __init__(self, scheduler: Scheduler, door: Door, volumes: Mapping[str, Volume], peers: Peers = nobody) -> None:
        self._peers = peers
        self._scheduler = scheduler
        self._door = door
        self._volumes = volumes
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, delivery: Delivery) -> None:
        task = asyncio.create_task(self._guard(delivery))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self, timeout_s: float) -> None:
        """Wait for the calls under way, then give up: the broker hands them out again."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=timeout_s)
            for task in late:
                task.cancel()

    async def _guard(self, delivery: Delivery) -> None:
        try:
            await self._answer(delivery)
        except QueueError as error:
            log.warning("control call not settled", error=str(error))
        except Exception:
            log.exception("unexpected error in a control call", tenant=delivery.tenant)
            try:
                await self._door.dead_letter(delivery, "control.error")
            except QueueError as error:
                log.warning("control call not settled", error=str(error))

    async def _answer(self, delivery: Delivery) -> None:
        tenant = delivery.tenant
        if tenant is None or tenant not in self._scheduler.rules.tenants:
            await self._door.dead_letter(delivery, "tenant.unknown" if tenant else "publisher.unverified")
            return
        try:
            call = wire.decode_control(delivery.body)
        except InvalidEnvelope as error:
            await self._door.dead_letter(delivery, f"envelope.{error.code}: {error}"[:500])
            return
        for _ in range(MOST_REPEATS):
            try:
                if call.action == "cancel":
                    await self._cancel(delivery, tenant, call)
                else:
                    await self._door.reply(delivery, wire.encode_status(await self._status(tenant, call)))
                await self._door.ack(delivery)
                return
            except (VolumeError, TimeoutError) as error:
                if isinstance(error, VolumeError) and not error.retry:
                    await self._door.dead_letter(delivery, f"{error.code}: {error}"[:500])
                    return
                # Unsettled meanwhile: the broker hands the call to another scheduler should this one die.
                log.warning("control call waits", tenant=tenant, job=call.job_id, error=str(error))
                await asyncio.sleep(REPEAT_DELAY_S)
        await self._door.dead_letter(delivery, "control.timeout")

    async def here(self, tenant: str, call: wire.ControlCall) -> Outcome | wire.JobStatus | None:
        """What this scheduler alone has to say, for itself or for another one that was asked; None: nothing. A job that
        runs here is stopped by `cancel`; its own task records what came of it. Raises TimeoutError."""
        run = self._scheduler.running(tenant, call.job_id)
        if call.action == "explain":
            why = self._scheduler.explain(tenant, call.job_id)
            return wire.JobStatus(job_id=call.job_id, state="running" if run else "unknown", why=why) if why else None
        if run is None:
            return None
        if call.action == "status":
            return wire.JobStatus(job_id=call.job_id, state="running")
        if call.action == "output":
            return await self._heard(run, call)
        await self._scheduler.stop(run)
        return await asyncio.wait_for(asyncio.shield(run.ended), LONGEST_STOP_S)

    async def _heard(self, run: Run, call: wire.ControlCall) -> wire.JobStatus:
        """What its attempt has written so far."""
        heard = Heard()
        with contextlib.suppress(WorkerError, WorkerLost):  # its worker has other troubles; the next call may hear more
            heard = await self._scheduler.hear(run, call.stdout_from, call.stderr_from)
        return wire.JobStatus(
            job_id=call.job_id, state="running", attempt=run.number, stdout=heard.stdout, stderr=heard.stderr
        )

    async def _asked(self, tenant: str, call: wire.ControlCall) -> list[Outcome | wire.JobStatus]:
        """What this scheduler says, and where it does not hold the job, what the others say."""
        own = await self.here(tenant, call)
        if isinstance(own, Outcome) or (own is not None and own.state == "running"):
            return [own]
        others = await self._peers(tenant, call)
        return [*others, own] if own is not None else others

    async def _cancel(self, delivery: Delivery, tenant: str, call: wire.ControlCall) -> None:
        """A job that runs is stopped, wherever that is. Any other gets the record `Cancelled`, unless its ending is
        recorded already; whoever takes it from the queue later adopts that."""
        for answer in await self._asked(tenant, call):
            if isinstance(answer, Outcome):
                await self._door.reply(delivery, wire.encode_outcome(answer))
                return
        rules = self._scheduler.rules
        home = rules.home_of(tenant, call.volume)
        now = datetime.now(UTC)
        record = outcomes.tombstone(call.job_id, tenant, home, call.digest, now, rules.cancelled_retention_s)
        await self._scheduler.announce(delivery, await acreate_record(self._volumes[home.name], record))

    async def _status(self, tenant: str, call: wire.ControlCall) -> wire.JobStatus:
        said = [answer for answer in await self._asked(tenant, call) if isinstance(answer, wire.JobStatus)]
        for answer in said:
            if answer.state == "running":
                return answer
        home = self._scheduler.rules.home_of(tenant, call.volume)
        outcome = await aread_record(self._volumes[home.name], tenant, call.job_id)
        explains = call.action == "explain"
        if outcome is not None:
            why = explaining.of_outcome(outcome) if explains else None
            return wire.JobStatus(job_id=call.job_id, state="ended", outcome=outcome, why=why)
        if said:
            return said[0]
        alone = len(self._scheduler.rules.tenants) == 1
        why = explaining.of_nobody(tenant, await self._door.depths(), alone=alone) if explains else None
        return wire.JobStatus(job_id=call.job_id, state="unknown", why=why)
