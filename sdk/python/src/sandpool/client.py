"""The asynchronous client: submit jobs, await their outcomes, ask about them, cancel them.

    async with AsyncClient("amqp://acme:secret@broker/sandpool") as client:
        handle = await client.submit(SqlJob(database="flights", sql="select count(*) from flights"))
        table = (await handle.outcome(timeout=60)).table()

Use one client on one event loop; it holds one connection. Everything raised is in `sandpool.errors`. The job id is the
idempotency key: whatever is in doubt may be submitted again. `sandpool.sync` is the same for programs without a loop.
All timeouts are seconds.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from types import TracebackType
from typing import Self

from sandpool.batch import outcome_batches, submit_all
from sandpool.errors import JobUnknown, UsageError
from sandpool.job import Job
from sandpool.outcome import Outcome
from sandpool.pending import Waiter
from sandpool.pipeline import Pipeline
from sandpool.session import Session
from sandpool.transport import OnProgress, Transport
from sandpool.wire import ControlCall, Explanation, JobStatus

TIMEOUT_S = 30.0
"""Default for one exchange with the broker or the scheduler."""
OUTCOME_TIMEOUT_S = 600.0
"""Default for the wait for an outcome."""


class AsyncHandle:
    """One submitted job. An outcome whose handle is forgotten is not kept."""

    __slots__ = ("_session", "_waiter")

    def __init__(self, session: Session, waiter: Waiter) -> None:
        self._session = session
        self._waiter = waiter

    @property
    def job_id(self) -> str:
        return self._waiter.job_id

    @property
    def ended(self) -> bool:
        """Whether the outcome is here, so that `outcome()` answers at once."""
        return self._waiter.ended

    async def outcome(self, timeout: float = OUTCOME_TIMEOUT_S) -> Outcome:
        """The recorded outcome, whatever its ending.

        Raises OutcomeTimeout (the job goes on), JobIdConflict.
        """
        return await self._session.outcome(self._waiter, timeout)

    async def status(self, timeout: float = TIMEOUT_S) -> JobStatus:
        """As `AsyncClient.status`."""
        call = ControlCall(action="status", job_id=self.job_id, volume=self._waiter.volume)
        return await self._session.call(call, timeout)

    async def output(self, stdout_from: int = 0, stderr_from: int = 0, timeout: float = TIMEOUT_S) -> JobStatus:
        """How the job stands, with what its running attempt has written beyond these offsets (bytes).

        Ask again with what you have got; the outcome holds all of it. Raises as `AsyncClient.status`.
        """
        call = ControlCall(
            action="output",
            job_id=self.job_id,
            volume=self._waiter.volume,
            stdout_from=stdout_from,
            stderr_from=stderr_from,
        )
        return await self._session.call(call, timeout)

    async def cancel(self, timeout: float = TIMEOUT_S) -> JobStatus:
        """As `AsyncClient.cancel`; the cancelled id stays bound to this job's work."""
        waiter = self._waiter
        call = ControlCall(action="cancel", job_id=waiter.job_id, volume=waiter.volume, digest=waiter.digest)
        return await self._session.call(call, timeout)


class AsyncClient:
    """A connection of one tenant to Sandpool: an `amqp://tenant:password@host/vhost` URL, or a transport."""

    def __init__(self, broker: str | Transport) -> None:
        if not isinstance(broker, str) and not hasattr(broker, "open"):
            raise UsageError(f"the broker is a URL, amqp[s]://tenant:password@host[:port]/vhost, not {broker!r}")
        self._session = Session(_connect_to(broker) if isinstance(broker, str) else broker)

    @property
    def tenant(self) -> str:
        """The broker user that this client is, and so the tenant of its jobs."""
        return self._session.transport.tenant

    async def open(self, timeout: float = TIMEOUT_S) -> Self:
        """Connect. Raises BrokerUnavailable, UsageError (this user may not, or the URL is none)."""
        await self._session.open(timeout)
        return self

    async def close(self) -> None:
        """Disconnect; whoever still waits gets BrokerUnavailable. Submitted jobs go on."""
        await self._session.close()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def submit(self, job: Job, *, traceparent: str = "", timeout: float = TIMEOUT_S) -> AsyncHandle:
        """Enqueue one job; returns when the broker has it safe.

        Raises InvalidEnvelope (too large), JobIdConflict, UsageError (nothing takes this kind of job),
        BrokerUnavailable (not confirmed within `timeout`; submitting the same job again is safe).
        """
        waiter, message = self._session.prepare(job, traceparent)
        pipeline = self._pipeline(1, timeout)
        await pipeline.send(message)
        await pipeline.flush()
        return AsyncHandle(self._session, waiter)

    async def submit_many(
        self,
        jobs: Iterable[Job],
        *,
        on_progress: OnProgress | None = None,
        window: int = 1000,
        traceparent: str = "",
        timeout: float = TIMEOUT_S,
    ) -> list[AsyncHandle]:
        """Enqueue many jobs with at most `window` unconfirmed at once; returns when the broker has them all safe.

        For outcomes in bounded memory use `run_many`. `timeout` bounds the wait for each next confirm. Raises as
        `submit`; jobs confirmed before the error stay submitted.
        """
        _check_many(jobs)
        pipeline = self._pipeline(window, timeout)
        try:
            waiters = await submit_all(pipeline, lambda job: self._session.prepare(job, traceparent), jobs, on_progress)
        finally:
            pipeline.abandon()
        return [AsyncHandle(self._session, waiter) for waiter in waiters]

    async def run_many(
        self,
        jobs: Iterable[Job],
        *,
        on_progress: OnProgress | None = None,
        max_in_flight: int = 1000,
        traceparent: str = "",
        timeout: float = OUTCOME_TIMEOUT_S,
    ) -> AsyncGenerator[Outcome, None]:
        """Submit jobs and yield their outcomes as they come, never holding more than `max_in_flight` jobs.

        `timeout` bounds the wait between two outcomes. A job whose id was used for different work yields the `Denied`
        outcome with code `job.id_conflict`. Raises as `submit`, and OutcomeTimeout; leaving early stops submitting.
        """
        batches = self.batches(jobs, on_progress, max_in_flight, traceparent, timeout, off_loop=False)
        try:
            async for batch in batches:
                for outcome in batch:
                    yield outcome
        finally:
            await batches.aclose()

    def batches(
        self,
        jobs: Iterable[Job],
        on_progress: OnProgress | None,
        max_in_flight: int,
        traceparent: str,
        timeout: float,
        *,
        off_loop: bool,
    ) -> AsyncGenerator[list[Outcome], None]:
        """`run_many` with all outcomes that are there at once in one list; `off_loop`: the iterable may block."""
        _check_many(jobs)
        return outcome_batches(
            self._pipeline(max_in_flight, TIMEOUT_S),
            lambda job: self._session.prepare(job, traceparent),
            jobs,
            on_progress=on_progress,
            max_in_flight=max_in_flight,
            timeout_s=timeout,
            ask_about=self._session.ask_about,
            off_loop=off_loop,
        )

    async def status(self, job_id: str, *, volume: str = "results", timeout: float = TIMEOUT_S) -> JobStatus:
        """`running`, `ended` (with the outcome) or `unknown` (queued, or never seen), for a job of this tenant.

        Raises BrokerUnavailable when nobody answers within `timeout`.
        """
        return await self._session.call(ControlCall(action="status", job_id=job_id, volume=volume), timeout)

    async def cancel(self, job_id: str, *, volume: str = "results", timeout: float = TIMEOUT_S) -> JobStatus:
        """Cancel a queued or running job. Answers how it stands now: it may have ended before.

        Raises BrokerUnavailable when nobody answers within `timeout`.
        """
        return await self._session.call(ControlCall(action="cancel", job_id=job_id, volume=volume), timeout)

    async def explain(self, job_id: str, *, volume: str = "results", timeout: float = TIMEOUT_S) -> Explanation:
        """Why a job of this tenant waits, where it runs, why it went back to the broker, or how it ended.

        Raises JobUnknown (queued, or never seen), BrokerUnavailable when nobody answers within `timeout`.
        """
        status = await self._session.call(ControlCall(action="explain", job_id=job_id, volume=volume), timeout)
        why = status.why or Explanation(state=status.state, reason=status.state)
        if why.state == "unknown":
            raise JobUnknown(job_id, why.reason)
        return why

    def _pipeline(self, window: int, timeout_s: float) -> Pipeline:
        return Pipeline(self._session.transport, window=window, timeout_s=timeout_s)


def _check_many(jobs: Iterable[Job]) -> None:
    if not isinstance(jobs, Iterable):
        raise UsageError(f"jobs: expected several jobs, got {repr(jobs)[:80]}; one job goes by submit(job)")


def _connect_to(url: str) -> Transport:
    from sandpool.amqp import AmqpTransport  # noqa: PLC0415 - the AMQP library costs 190 ms, which a program that only builds or checks jobs need not pay

    return AmqpTransport(url)
