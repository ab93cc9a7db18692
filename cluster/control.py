"""The control room: answers `cancel` and `status` calls of tenants about their own jobs.

A tenant can only reach what lies under its own name: records are keyed by tenant first. Called by the door with the
messages of the control queue; never touches a job's message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime

import structlog

from cluster import outcomes
from cluster.scheduler import Scheduler
from queues.door import Delivery, Door
from queues.errors import QueueError
from sandpool import wire
from sandpool.errors import InvalidEnvelope
from workers.errors import VolumeError
from workers.volumes.record import acreate_record, aread_record
from workers.volumes.store import Volume

log = structlog.get_logger("sandpool.control")

REPEAT_DELAY_S = 5.0
MOST_REPEATS = 60
LONGEST_STOP_S = 60.0


class ControlRoom:
    """`take` is the door's callback for the control queue."""

    def __init__(self, scheduler: Scheduler, door: Door, volumes: Mapping[str, Volume]) -> None:
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

    async def _cancel(self, delivery: Delivery, tenant: str, call: wire.ControlCall) -> None:
        """A job that runs here is stopped; its own task records what came of it. Any other gets the record `Cancelled`,
        unless its ending is recorded already; whoever takes it from the queue later adopts that."""
        if run := self._scheduler.running(tenant, call.job_id):
            await self._scheduler.stop(run)
            outcome = await asyncio.wait_for(asyncio.shield(run.ended), LONGEST_STOP_S)
            if outcome is not None:
                await self._door.reply(delivery, wire.encode_outcome(outcome))
                return
        rules = self._scheduler.rules
        home = rules.home_of(tenant, call.volume)
        now = datetime.now(UTC)
        record = outcomes.tombstone(call.job_id, tenant, home, call.digest, now, rules.cancelled_retention_s)
        await self._scheduler.announce(delivery, await acreate_record(self._volumes[home.name], record))

    async def _status(self, tenant: str, call: wire.ControlCall) -> wire.JobStatus:
        if self._scheduler.running(tenant, call.job_id):
            return wire.JobStatus(job_id=call.job_id, state="running")
        home = self._scheduler.rules.home_of(tenant, call.volume)
        outcome = await aread_record(self._volumes[home.name], tenant, call.job_id)
        return wire.JobStatus(job_id=call.job_id, state="ended" if outcome else "unknown", outcome=outcome)
