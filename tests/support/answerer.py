"""A stand-in for the scheduler behind a real door: it answers every job and control call at once, as it is told.

Used by the client suite, which tests the client and the broker, not the conductor.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

import msgspec

from queues.door import Delivery, Door
from queues.topology import CONTROL_QUEUE
from sandpool.job import Job, digest
from sandpool.outcome import Ending, ErrorInfo, Outcome
from sandpool.wire import ControlCall, JobStatus, decode_control, decode_job, encode_outcome, encode_status

SQL_BATCH = "sandpool.jobs.sql.batch"


def succeeded(job: Job, tenant: str, **changes: Any) -> Outcome:
    outcome = Outcome(
        job_id=job.id,
        tenant=tenant,
        ending=Ending.Succeeded,
        digest=digest(job),
        volume=job.volume,
        ended_at=datetime(2026, 11, 23, tzinfo=UTC),
    )
    return msgspec.structs.replace(outcome, **changes)


def conflict(job: Job, tenant: str) -> Outcome:
    return succeeded(job, tenant, ending=Ending.Denied, error=ErrorInfo("job.id_conflict", "used before"))


class Answerer:
    """`answer` makes the outcome of a job; None leaves the job unanswered (running)."""

    def __init__(self, door: Door, answer: Callable[[Job, str], Outcome | None] = succeeded) -> None:
        self.door = door
        self.answer = answer
        self.jobs: list[Job] = []
        self.deliveries: list[Delivery] = []
        self.calls: list[ControlCall] = []
        self.outcomes: dict[str, Outcome] = {}
        self.copies = 1
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, prefetch: int = 100) -> None:
        await self.door.consume(SQL_BATCH, prefetch, lambda delivery: self._spawn(self._job(delivery)))
        await self.door.consume(CONTROL_QUEUE, 100, lambda delivery: self._spawn(self._call(delivery)))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _job(self, delivery: Delivery) -> None:
        job = decode_job(delivery.body)
        assert delivery.tenant is not None
        self.jobs.append(job)
        self.deliveries.append(delivery)
        outcome = self.answer(job, delivery.tenant)
        if outcome is None:
            return
        self.outcomes[job.id] = outcome
        for _ in range(self.copies):
            await self.door.publish_outcome(
                delivery, f"job.{delivery.tenant}.{outcome.ending}", encode_outcome(outcome)
            )
        await self.door.ack(delivery)

    async def _call(self, delivery: Delivery) -> None:
        call = decode_control(delivery.body)
        self.calls.append(call)
        if call.action == "cancel":
            job = next((job for job in self.jobs if job.id == call.job_id), None)
            if job is not None:
                assert delivery.tenant is not None
                self.outcomes[job.id] = succeeded(job, delivery.tenant, ending=Ending.Cancelled)
        outcome = self.outcomes.get(call.job_id)
        status = JobStatus(job_id=call.job_id, state="ended" if outcome else "unknown", outcome=outcome)
        await self.door.reply(delivery, encode_status(status))
        await self.door.ack(delivery)
