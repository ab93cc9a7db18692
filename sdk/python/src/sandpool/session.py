"""What both clients stand on: one transport, the jobs that wait, the control calls under way.

Owned by `sandpool.client`; runs on one event loop and is the transport's listener. It never decides what an outcome
means, it only finds who waits for it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterable

from sandpool.errors import BrokerUnavailable, InvalidEnvelope, InvalidJob, OutcomeTimeout, UsageError
from sandpool.job import Job
from sandpool.outcome import Outcome
from sandpool.pending import Pending, Waiter
from sandpool.pipeline import Pipeline
from sandpool.tracing import current_traceparent
from sandpool.transport import SUBMITTED_HEADER, Outgoing, Transport
from sandpool.wire import (
    CONTROL_EXCHANGE,
    CONTROL_KEY,
    JOBS_EXCHANGE,
    ControlCall,
    JobStatus,
    decode_reply,
    encode_control,
    encode_job,
    job_routing_key,
)

_ASK_AGAIN_S = 60.0
"""A wait this long asks how its job stands, now and then: the reply may have been lost with its queue."""
_ASK_TIMEOUT_S = 10.0


class Session:
    """A transport and everybody who waits for something from it."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.pending = Pending()
        self._calls: dict[str, asyncio.Future[JobStatus]] = {}
        self._recovery: asyncio.Task[None] | None = None
        self._has_gap = False
        self._is_open = False

    async def open(self, timeout_s: float) -> None:
        """Raises BrokerUnavailable."""
        await self.transport.open(self, timeout_s)
        self._is_open = True

    async def close(self) -> None:
        """Whoever still waits gets BrokerUnavailable."""
        self._is_open = False
        if self._recovery is not None:
            self._recovery.cancel()
            await asyncio.gather(self._recovery, return_exceptions=True)
        await self.transport.close()
        closed = BrokerUnavailable("the client was closed; submitted jobs go on")
        for future in self._calls.values():
            if not future.done():
                future.set_exception(closed)
        for waiter in self.pending.open():
            waiter.abandon(closed)

    def prepare(self, job: Job, traceparent: str) -> tuple[Waiter, Outgoing]:
        """The message of a job and its waiter. Raises InvalidJob (this is none), InvalidEnvelope, JobIdConflict."""
        if not isinstance(job, Job):
            raise InvalidJob("job", f"expected SqlJob, PythonJob or CommandJob, got {repr(job)[:80]}")
        headers: dict[str, str | int] = {SUBMITTED_HEADER: time.time_ns() // 1_000_000}
        if traceparent := traceparent or current_traceparent():
            headers["traceparent"] = traceparent
        message = Outgoing(JOBS_EXCHANGE, job_routing_key(job), encode_job(job), job.id, job.id, headers)
        return self.pending.add(job), message

    async def outcome(self, waiter: Waiter, timeout_s: float) -> Outcome:
        """Raises OutcomeTimeout, JobIdConflict, BrokerUnavailable (closed), UsageError (no time limit)."""
        if not isinstance(timeout_s, int | float) or timeout_s != timeout_s:
            raise UsageError(f"timeout: expected a number of seconds, got {timeout_s!r}")
        deadline_s = time.monotonic() + timeout_s
        while not waiter.ended:
            left_s = deadline_s - time.monotonic()
            try:
                await waiter.wait(min(left_s, _ASK_AGAIN_S))
            except OutcomeTimeout:
                if left_s <= _ASK_AGAIN_S:
                    raise OutcomeTimeout(waiter.job_id, timeout_s) from None
                await self.ask_about([waiter])
        return waiter.claim()

    async def call(self, call: ControlCall, timeout_s: float) -> JobStatus:
        """Ask the scheduler. Raises BrokerUnavailable when it does not answer in time."""
        correlation_id = secrets.token_hex(16)
        answer: asyncio.Future[JobStatus] = asyncio.get_running_loop().create_future()
        self._calls[correlation_id] = answer
        try:
            async with asyncio.timeout(timeout_s):
                body = encode_control(call)
                pipeline = Pipeline(self.transport, window=1, timeout_s=timeout_s)
                await pipeline.send(Outgoing(CONTROL_EXCHANGE, CONTROL_KEY, body, correlation_id, correlation_id))
                await pipeline.flush()
                return await answer
        except TimeoutError:
            message = f"no scheduler answered the {call.action} call within {timeout_s:g} s; is the cluster up?"
            raise BrokerUnavailable(message) from None
        finally:
            del self._calls[correlation_id]

    async def ask_about(self, waiters: Iterable[Waiter]) -> None:
        """Ask how jobs stand, one after the other; an outcome in the answer ends the wait. Never raises for trouble."""
        for waiter in waiters:
            if not waiter.ended:
                try:
                    await self.call(
                        ControlCall(action="status", job_id=waiter.job_id, volume=waiter.volume), _ASK_TIMEOUT_S
                    )
                except BrokerUnavailable:
                    return  # the next gap or the next long wait asks again

    def on_reply(self, body: bytes, correlation_id: str) -> None:
        """Transport listener: one message from the reply queue."""
        try:
            reply = decode_reply(body)
        except InvalidEnvelope:
            return  # a newer cluster may send what this release does not know; whoever waits meets its own deadline
        status = JobStatus(job_id=reply.job_id, state="ended", outcome=reply) if isinstance(reply, Outcome) else reply
        if status.outcome is not None:
            self.pending.end(status.outcome)
        answer = self._calls.get(correlation_id)
        if answer is not None and not answer.done():
            answer.set_result(status)

    def on_gap(self) -> None:
        """Transport listener: replies may have been lost, so ask about every job that is still open."""
        self._has_gap = True
        if self._is_open and (self._recovery is None or self._recovery.done()):
            self._recovery = asyncio.get_running_loop().create_task(self._recover())

    async def _recover(self) -> None:
        while self._has_gap:
            self._has_gap = False
            await self.ask_about(self.pending.open())
