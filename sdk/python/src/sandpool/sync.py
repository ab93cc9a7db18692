"""The synchronous client: the same methods as `sandpool.client`, for programs without an event loop.

    with Client("amqp://acme:secret@broker/sandpool") as client:
        outcome = client.submit(SqlJob(database="flights", sql="select 1")).outcome(timeout=60)

One background thread runs the event loop; the client may be used from any thread. After a fork, a client built from a
URL connects anew in the child on its first use; handles of the parent stay the parent's.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine, Iterable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

from sandpool.client import OUTCOME_TIMEOUT_S, TIMEOUT_S, AsyncClient, AsyncHandle
from sandpool.errors import BrokerUnavailable, UsageError
from sandpool.job import Job
from sandpool.outcome import Outcome
from sandpool.transport import OnProgress, Transport
from sandpool.wire import Explanation, JobStatus

T = TypeVar("T")

_GRACE_S = 5.0
"""Beyond a call's own timeout, which the loop enforces: only a dead loop thread needs this one."""


class Handle:
    """One submitted job. An outcome whose handle is forgotten is not kept."""

    __slots__ = ("_client", "_inner")

    def __init__(self, client: Client, inner: AsyncHandle) -> None:
        self._client = client
        self._inner = inner

    @property
    def job_id(self) -> str:
        return self._inner.job_id

    @property
    def ended(self) -> bool:
        """Whether the outcome is here, so that `outcome()` answers at once."""
        return self._inner.ended

    def outcome(self, timeout: float = OUTCOME_TIMEOUT_S) -> Outcome:
        """As `AsyncHandle.outcome`."""
        return self._client.run(self._inner.outcome(timeout), timeout)

    def status(self, timeout: float = TIMEOUT_S) -> JobStatus:
        """As `AsyncClient.status`."""
        return self._client.run(self._inner.status(timeout), timeout)

    def output(self, stdout_from: int = 0, stderr_from: int = 0, timeout: float = TIMEOUT_S) -> JobStatus:
        """As `AsyncHandle.output`."""
        return self._client.run(self._inner.output(stdout_from, stderr_from, timeout), timeout)

    def cancel(self, timeout: float = TIMEOUT_S) -> JobStatus:
        """As `AsyncHandle.cancel`."""
        return self._client.run(self._inner.cancel(timeout), timeout)


class _Thread:
    """An event loop that runs in a thread of its own, with one open client on it."""

    def __init__(self, broker: str | Transport, timeout_s: float) -> None:
        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="sandpool-client", daemon=True)
        self._thread.start()
        try:
            self.client = self.run(self._open(broker, timeout_s), timeout_s)
        except BaseException:
            self._end()
            raise

    def run(self, work: Coroutine[Any, Any, T], timeout_s: float | None) -> T:
        """The coroutine's result, from any thread but the loop's own."""
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return future.result(None if timeout_s is None else timeout_s + _GRACE_S)
        except TimeoutError:
            raise BrokerUnavailable("the client's own thread does not answer") from None
        finally:
            future.cancel()

    def close(self) -> None:
        self.run(self.client.close(), TIMEOUT_S)
        self._end()

    async def _open(self, broker: str | Transport, timeout_s: float) -> AsyncClient:
        return await AsyncClient(broker).open(timeout_s)

    def _end(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_GRACE_S)
        if not self._thread.is_alive():
            self.loop.close()


class Client:
    """A connection of one tenant to Sandpool: an `amqp://tenant:password@host/vhost` URL, or a transport."""

    def __init__(self, broker: str | Transport) -> None:
        self._broker = broker
        self._thread: _Thread | None = None
        self._closed = False
        self._opening = threading.Lock()

    @property
    def tenant(self) -> str:
        """The broker user that this client is, and so the tenant of its jobs."""
        return self._open(TIMEOUT_S).client.tenant

    def open(self, timeout: float = TIMEOUT_S) -> Self:
        """As `AsyncClient.open`; the first call of another method does the same."""
        self._closed = False
        self._open(timeout)
        return self

    def close(self) -> None:
        """As `AsyncClient.close`."""
        self._closed = True
        thread, self._thread = self._thread, None
        if thread is not None and thread.pid == os.getpid():
            thread.close()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def submit(self, job: Job, *, traceparent: str = "", timeout: float = TIMEOUT_S) -> Handle:
        """As `AsyncClient.submit`."""
        client = self._open(timeout).client
        return Handle(self, self.run(client.submit(job, traceparent=traceparent, timeout=timeout), timeout))

    def submit_many(
        self,
        jobs: Iterable[Job],
        *,
        on_progress: OnProgress | None = None,
        window: int = 1000,
        traceparent: str = "",
        timeout: float = TIMEOUT_S,
    ) -> list[Handle]:
        """As `AsyncClient.submit_many`. `on_progress` is called on the client's own thread."""
        client = self._open(timeout).client
        work = client.submit_many(
            jobs, on_progress=on_progress, window=window, traceparent=traceparent, timeout=timeout
        )
        return [Handle(self, inner) for inner in self.run(work, None)]

    def run_many(
        self,
        jobs: Iterable[Job],
        *,
        on_progress: OnProgress | None = None,
        max_in_flight: int = 1000,
        traceparent: str = "",
        timeout: float = OUTCOME_TIMEOUT_S,
    ) -> Iterator[Outcome]:
        """As `AsyncClient.run_many`. The iterable may block; it is read, and `on_progress` called, on other threads."""
        client = self._open(TIMEOUT_S).client
        batches = client.batches(jobs, on_progress, max_in_flight, traceparent, timeout, off_loop=True)
        try:
            while (batch := self.run(anext(batches, None), None)) is not None:
                yield from batch
        finally:
            self.run(batches.aclose(), TIMEOUT_S)

    def status(self, job_id: str, *, volume: str = "results", timeout: float = TIMEOUT_S) -> JobStatus:
        """As `AsyncClient.status`."""
        return self.run(self._open(timeout).client.status(job_id, volume=volume, timeout=timeout), timeout)

    def cancel(self, job_id: str, *, volume: str = "results", timeout: float = TIMEOUT_S) -> JobStatus:
        """As `AsyncClient.cancel`."""
        return self.run(self._open(timeout).client.cancel(job_id, volume=volume, timeout=timeout), timeout)

    def explain(self, job_id: str, *, volume: str = "results", timeout: float = TIMEOUT_S) -> Explanation:
        """As `AsyncClient.explain`."""
        return self.run(self._open(timeout).client.explain(job_id, volume=volume, timeout=timeout), timeout)

    def run(self, work: Coroutine[Any, Any, T], timeout_s: float | None) -> T:
        """Run a coroutine of this client on its thread."""
        thread = self._thread
        if thread is None or thread.pid != os.getpid():
            work.close()
            raise UsageError("this handle belongs to a client that was closed, or to the parent of a forked process")
        return thread.run(work, timeout_s)

    def _open(self, timeout_s: float) -> _Thread:
        with self._opening:
            if self._closed:
                raise UsageError("the client is closed; open() it again")
            if self._thread is None or self._thread.pid != os.getpid():
                if self._thread is not None and not isinstance(self._broker, str):
                    raise UsageError("a client built on a transport does not survive a fork; build one in the child")
                self._thread = _Thread(self._broker, timeout_s)
            return self._thread
