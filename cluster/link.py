"""The scheduler's end of one worker actor: work goes out, attempts come back, whatever the work is.

`cluster.dispatch` makes one for each actor; the actor's end is `workers.mailbox`. A Ray call costs about a millisecond
and a job less, so work bound for one actor travels together: that of one event-loop tick, and all that gathers while a
call is under way. Attempts come back the same way, by one long poll per actor. An actor that dies takes its work with
it: each becomes WorkerLost, which is retried. What the work is, the link never looks at.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import ray
import structlog
from ray.exceptions import RayError

from cluster.errors import WorkerLost
from sandpool.outcome import Ending, ErrorInfo
from workers.attempt import Attempt, Work, not_started
from workers.errors import WorkerError
from workers.mailbox import decode_attempt

log = structlog.get_logger("sandpool.link")

COLLECT_TIMEOUT_S = 5.0
CALL_TIMEOUT_S = 30.0
OPEN_TIMEOUT_S = 15.0
BACKOFF_S = 0.5
LINGER_S = 0.004
"""When more than half of a worker's slots are busy, results wait this long for each other: a call costs more than a
result, and the next piece of work is there already (`placement.PIPELINE`)."""

W = TypeVar("W", bound=Work)


class WorkerLink(Generic[W]):
    """One actor's mailbox, seen from the scheduler. `encode` makes of a piece of work what the mailbox decodes."""

    def __init__(self, actor: Any, encode: Callable[[W], bytes], *, slots: int, grace_s: float) -> None:
        self.slots = slots
        self.busy = 0
        self._actor = actor
        self._encode = encode
        self._grace_s = grace_s
        self.answers = True
        """Whether the last call came back, be it with an error of the worker's own."""
        self._outbox: list[W] = []
        self._waiting: dict[str, asyncio.Future[Attempt]] = {}
        self._sender: asyncio.Task[None] | None = None
        self._collector = asyncio.create_task(self._collect())
        self._epoch, self._received = "", 0

    async def open(self) -> None:
        """Wait until the worker is ready, so that no first job pays for it; not for long, and not for a database
        that is away: the worker then opens with the first piece of work after it is back."""
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await self._actor.start.remote()
        except (RayError, TimeoutError) as error:
            log.warning("worker not open", error=str(_own_error(error) or type(error).__name__))

    async def run(self, work: W) -> Attempt:
        """One attempt on this worker. Raises WorkerLost."""
        self.busy += 1
        future: asyncio.Future[Attempt] = asyncio.get_running_loop().create_future()
        self._waiting[work.attempt_id] = future
        self._outbox.append(work)
        if self._sender is None:
            self._sender = asyncio.create_task(self._send())
        try:
            async with asyncio.timeout(work.timeout_s + self._grace_s):
                return await future
        except TimeoutError:
            raise WorkerLost(f"no answer {self._grace_s:g} s after its time limit") from None
        finally:
            self._waiting.pop(work.attempt_id, None)
            self.busy -= 1

    async def _send(self) -> None:
        """One call at a time; what comes meanwhile travels in the next one."""
        try:
            while self._outbox:
                batch, self._outbox = self._outbox, []
                # Who gave up meanwhile must not find its work running for nobody.
                batch = [work for work in batch if self._is_wanted(work.attempt_id)]
                try:
                    async with asyncio.timeout(CALL_TIMEOUT_S):
                        await self._actor.submit.remote([self._encode(work) for work in batch])
                except Exception as error:  # noqa: BLE001 - whatever it is, only this batch may be lost by it
                    self._fail(batch, error)
        finally:
            self._sender = None

    async def _collect(self) -> None:
        """Every result of this worker comes through here, so nothing but `close` may end it."""
        while True:
            try:
                await self._collect_once()
                self.answers = True
            except Exception as error:
                # A worker that does not open (its own error) has taken nothing; `_send` hears the same.
                self.answers = _own_error(error) is not None
                if not self.answers:
                    if not isinstance(error, RayError | TimeoutError):
                        log.exception("unexpected error while collecting results")
                    self._lose(list(self._waiting), error)
                await asyncio.sleep(BACKOFF_S)

    async def _collect_once(self) -> None:
        async with asyncio.timeout(COLLECT_TIMEOUT_S + CALL_TIMEOUT_S):
            linger_s = LINGER_S if 2 * self.busy > self.slots else 0.0
            epoch, number, letters = await self._actor.collect.remote(
                COLLECT_TIMEOUT_S, self._epoch, self._received, linger_s
            )
        if self._epoch and epoch != self._epoch:
            # The actor was restarted between two calls: what it had taken before is gone.
            self._lose(list(self._waiting), RuntimeError("the worker was restarted"))
        self._epoch, self._received = epoch, number
        for letter in letters:
            attempt = decode_attempt(letter)
            future = self._waiting.get(attempt.attempt_id)
            if future is not None and not future.done():
                future.set_result(attempt)

    def _is_wanted(self, attempt_id: str) -> bool:
        future = self._waiting.get(attempt_id)
        return future is not None and not future.done()

    def _fail(self, batch: Sequence[W], error: BaseException) -> None:
        """The worker did not take these: with its own reason when it gave one, else it is lost."""
        reason = _own_error(error)
        if reason is None:
            self._lose([work.attempt_id for work in batch], error)
            return
        for work in batch:
            future = self._waiting.get(work.attempt_id)
            if future is not None and not future.done():
                future.set_result(not_started(work, reason))

    def _lose(self, attempt_ids: Sequence[str], error: BaseException) -> None:
        if attempt_ids:
            log.warning("work lost with its worker", count=len(attempt_ids), error=type(error).__name__)
        for attempt_id in attempt_ids:
            future = self._waiting.get(attempt_id)
            if future is not None and not future.done():
                future.set_exception(WorkerLost(f"the worker that ran it is gone ({type(error).__name__})"))

    async def cancel(self, tenant: str, job_id: str) -> None:
        """Stop a job's work: here if it did not leave yet, else at its worker; one that is gone has nothing to stop."""
        for work in self._outbox:
            if (work.tenant, work.job_id) == (tenant, job_id) and self._is_wanted(work.attempt_id):
                self._waiting[work.attempt_id].set_result(_cancelled(work))
                return
        with contextlib.suppress(RayError, TimeoutError):
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await self._actor.cancel.remote(job_id, tenant)

    async def ask(self, method: str, *args: Any) -> Any:
        """Another method of the actor. Raises WorkerError as the worker raised it, WorkerLost when no answer comes."""
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                return await getattr(self._actor, method).remote(*args)
        except (RayError, TimeoutError) as error:
            if reason := _own_error(error):
                raise reason from error
            raise WorkerLost(f"the worker does not answer {method!r} ({type(error).__name__})") from error

    async def close(self, drain_timeout_s: float) -> None:
        """Drain the worker and end its actor."""
        with contextlib.suppress(RayError, TimeoutError):
            async with asyncio.timeout(drain_timeout_s + CALL_TIMEOUT_S):
                await self._actor.drain.remote(drain_timeout_s)
        self._collector.cancel()
        if self._sender is not None:
            self._sender.cancel()
        self._outbox.clear()
        self._lose(list(self._waiting), RuntimeError("closing"))
        ray.kill(self._actor)


def _cancelled(work: Work) -> Attempt:
    error = ErrorInfo("job.cancelled", "cancelled before it ran")
    return Attempt(job_id=work.job_id, attempt_id=work.attempt_id, ending=Ending.Cancelled, error=error)


def _own_error(error: BaseException) -> WorkerError | None:
    """What the actor itself raised, where Ray only carries it."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, WorkerError) else None
