"""The scheduler's end of one worker actor: work goes out, attempts come back, whatever the work is.

`cluster.dispatch` makes one for each actor; the actor's end is `workers.mailbox`. A Ray call costs about a millisecond
of CPU and a small job less. So work for an actor on this node travels over a stream (`cluster.stream`), which a Ray
call opens; one that breaks is opened again and loses nothing. To other nodes work travels by calls, many pieces in one:
those of one event-loop tick and all that gather while a call is under way; attempts come back by one long poll. An
actor that dies takes its work with it: each piece becomes WorkerLost, which is retried. What the work is, the link
never looks at.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import ray
import structlog
from ray.exceptions import RayError

from cluster.errors import WorkerLost
from cluster.stream import Stream
from sandpool.outcome import Ending, ErrorInfo
from workers.attempt import Attempt, Work, not_started
from workers.errors import WorkerError
from workers.mailbox import decode_attempt

log = structlog.get_logger("sandpool.link")

COLLECT_TIMEOUT_S = 5.0
CALL_TIMEOUT_S = 30.0
OPEN_TIMEOUT_S = 15.0
BACKOFF_S = 0.5
LISTEN_TIMEOUT_S = 8.0
"""Longer than a worker takes to start anew; `listen` is then asked once more."""
REOPEN_S = 0.02
"""Before a stream that broke is opened again."""
MOST_SENDS = 3
"""Over as many streams work is sent; by then it may be what breaks them."""
LINGER_S = 0.004
"""When more than half of a worker's slots are busy, results wait this long for each other: a call costs more than a
result, and the next piece of work is there already (`placement.PIPELINE`)."""

W = TypeVar("W", bound=Work)


class Calls:
    """The way to an actor on another node: Ray calls."""

    def __init__(self, actor: Any, caller: Mapping[str, str]) -> None:
        self._actor = actor
        self._caller = caller

    async def submit(self, letters: Sequence[bytes]) -> None:
        await self._actor.submit.remote(letters, **self._caller)

    async def collect(
        self, timeout_s: float, epoch: str, received: int, linger_s: float
    ) -> tuple[str, int, list[bytes]]:
        asked = self._actor.collect.remote(timeout_s, epoch, received, linger_s, **self._caller)
        found: tuple[str, int, list[bytes]] = await asked
        return found

    def close(self) -> None:
        """Nothing is held."""


class _Waiting(Generic[W]):
    """A piece of work whose attempt somebody waits for."""

    __slots__ = ("future", "sends", "work")

    def __init__(self, work: W) -> None:
        self.work = work
        self.future: asyncio.Future[Attempt] = asyncio.get_running_loop().create_future()
        self.sends = 0


class WorkerLink(Generic[W]):
    """One actor's mailbox, seen from the scheduler. `encode` makes of a piece of work what the mailbox decodes; `near`
    says that the actor is on this node and can `listen`."""

    def __init__(
        self,
        actor: Any,
        encode: Callable[[W], bytes],
        *,
        slots: int,
        grace_s: float,
        near: bool = False,
        scheduler: str = "",
    ) -> None:
        """`scheduler`: whose mailbox it is, where several use the worker."""
        self._caller = {"scheduler": scheduler} if scheduler else {}
        self.slots = slots
        self.busy = 0
        self._actor = actor
        self._encode = encode
        self._grace_s = grace_s
        self._near = near
        self._answers = True
        self.on_answers: Callable[[], None] = lambda: None
        """Called when `answers` changes."""
        self._outbox: list[_Waiting[W]] = []
        self._waiting: dict[tuple[str, str], _Waiting[W]] = {}
        """By job and attempt: the random part of an attempt's id alone is short."""
        self._way: Calls | Stream | None = None
        self._opening = asyncio.Lock()
        self._sender: asyncio.Task[None] | None = None
        self._epoch, self._received = "", 0
        self._collector = asyncio.create_task(self._collect())

    @property
    def answers(self) -> bool:
        """Whether the worker was heard the last time, be it with an error of its own."""
        return self._answers

    @answers.setter
    def answers(self, value: bool) -> None:
        if value is not self._answers:
            self._answers = value
            self.on_answers()

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
        waiting = self._waiting[work.job_id, work.attempt_id] = _Waiting(work)
        self._outbox.append(waiting)
        if self._sender is None:
            self._sender = asyncio.create_task(self._send())
        try:
            async with asyncio.timeout(work.timeout_s + self._grace_s):
                return await waiting.future
        except TimeoutError:
            raise WorkerLost(f"no answer {self._grace_s:g} s after its time limit") from None
        finally:
            del self._waiting[work.job_id, work.attempt_id]
            self.busy -= 1

    async def _send(self) -> None:
        """One call at a time; what comes meanwhile travels in the next one."""
        try:
            while self._outbox:
                batch, self._outbox = self._outbox, []
                try:
                    async with asyncio.timeout(CALL_TIMEOUT_S):
                        way = await self._open_way()
                        await self._submit(way, batch)
                except ConnectionError:
                    # What was sent the stream that comes next sends again (`_open_stream`); the rest is still here.
                    self._outbox[:0] = [each for each in batch if not each.sends and not each.future.done()]
                    await asyncio.sleep(REOPEN_S)
                except Exception as error:  # noqa: BLE001 - whatever it is, only this batch may be lost by it
                    self._fail(batch, error)
        finally:
            self._sender = None

    async def _submit(self, way: Calls | Stream, batch: Sequence[_Waiting[W]]) -> None:
        # Who gave up meanwhile must not find its work running for nobody.
        wanted = [each for each in batch if not each.future.done()]
        for each in wanted:
            each.sends += 1
        await way.submit([self._encode(each.work) for each in wanted])

    async def _open_way(self) -> Calls | Stream:
        """How work travels: what is open, or opened now. Raises RayError, TimeoutError."""
        async with self._opening:
            if self._way is None:
                self._way = await self._open_stream() if self._near else Calls(self._actor, self._caller)
            return self._way

    async def _open_stream(self) -> Calls | Stream:
        try:
            stream = await Stream.open(await self._listen(), self._epoch, self._received)
        except (OSError, RayError) as error:
            if isinstance(error, RayError) and not isinstance(getattr(error, "cause", None), OSError):
                raise
            log.warning("no stream to a worker: its work travels by calls", error=str(error))
            self._near = False
            calls = Calls(self._actor, self._caller)
            if sent := self._sent():  # a stream that is no more may not have carried it
                await self._submit(calls, sent)
            return calls
        sent = self._sent()
        if stream.epoch == self._epoch:
            # What the last stream carried may have arrived or not: the mailbox knows it by name.
            self._lose([each for each in sent if each.sends >= MOST_SENDS], ConnectionError())
            try:
                await self._submit(stream, sent)
            except BaseException:
                stream.close()
                raise
        else:
            self._lose(sent, ConnectionError())
            self._epoch, self._received = stream.epoch, 0
        return stream

    async def _listen(self) -> str:
        """A call that was under way when the actor died can hang for good: Ray's own timers are of the wall clock, and
        stand still when that was set back. A call that is made later does not."""
        while True:
            try:
                async with asyncio.timeout(LISTEN_TIMEOUT_S) as patience:
                    path: str = await self._actor.listen.remote(**self._caller)
                    return path
            except TimeoutError:
                if not patience.expired():
                    raise  # the actor's own

    def _sent(self) -> list[_Waiting[W]]:
        return [each for each in self._waiting.values() if each.sends and not each.future.done()]

    async def _collect(self) -> None:
        """Every result of this worker comes through here, so nothing but `close` may end it."""
        while True:
            try:
                await self._collect_once()
                self.answers = True
            except ConnectionError:
                self.answers = False  # until another stream is open: most likely it died, and is started anew
                self._drop_way()
                await asyncio.sleep(REOPEN_S)
            except Exception as error:
                # A worker that does not open (its own error) holds nothing; `_send` hears the same.
                self.answers = _own_error(error) is not None
                if self.answers and self._near:
                    self._lose(self._sent(), error)  # it was restarted since
                elif not self.answers:
                    if not isinstance(error, RayError | TimeoutError):
                        log.exception("unexpected error while collecting results")
                    self._lose(list(self._waiting.values()), error)
                self._drop_way()
                await asyncio.sleep(BACKOFF_S)

    async def _collect_once(self) -> None:
        async with asyncio.timeout(COLLECT_TIMEOUT_S + CALL_TIMEOUT_S):
            way = await self._open_way()
            if isinstance(way, Stream):
                self.answers = True  # it has greeted us
            linger_s = LINGER_S if 2 * self.busy > self.slots else 0.0
            epoch, number, letters = await way.collect(COLLECT_TIMEOUT_S, self._epoch, self._received, linger_s)
        if self._epoch and epoch != self._epoch:
            # The actor was restarted between two calls: what it had taken before is gone.
            self._lose(list(self._waiting.values()), RuntimeError("the worker was restarted"))
        self._epoch, self._received = epoch, number
        for letter in letters:
            attempt = decode_attempt(letter)
            waiting = self._waiting.get((attempt.job_id, attempt.attempt_id))
            if waiting is not None and not waiting.future.done():
                waiting.future.set_result(attempt)

    def _drop_way(self) -> None:
        """Only the collector may: it has taken everything that had come."""
        if self._way is not None:
            self._way.close()
            self._way = None

    def _fail(self, batch: Sequence[_Waiting[W]], error: BaseException) -> None:
        """The worker did not take these: with its own reason when it gave one, else it is lost."""
        reason = _own_error(error)
        if reason is None:
            if isinstance(error, RayError):
                self.answers = False
            self._lose(batch, error)
            return
        for waiting in batch:
            if not waiting.future.done():
                waiting.future.set_result(not_started(waiting.work, reason))

    def _lose(self, lost: Sequence[_Waiting[W]], error: BaseException) -> None:
        if lost:
            log.warning("work lost with its worker", count=len(lost), error=type(error).__name__)
        for waiting in lost:
            if not waiting.future.done():
                waiting.future.set_exception(WorkerLost(f"the worker that ran it is gone ({type(error).__name__})"))

    async def cancel(self, tenant: str, job_id: str) -> None:
        """Stop a job's work: here if it did not leave yet, else at its worker; one that is gone has nothing to stop."""
        for waiting in self._waiting.values():
            work = waiting.work
            if (work.tenant, work.job_id) == (tenant, job_id) and not waiting.sends and not waiting.future.done():
                waiting.future.set_result(_cancelled(work))
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

    def release(self) -> None:
        """Wait for nothing more of this worker, and leave it to others."""
        self._end("closing")

    async def close(self, drain_timeout_s: float) -> None:
        """Drain the worker and end its actor."""
        with contextlib.suppress(RayError, TimeoutError):
            async with asyncio.timeout(drain_timeout_s + CALL_TIMEOUT_S):
                await self._actor.drain.remote(drain_timeout_s)
        self.abandon("closing")

    def abandon(self, reason: str) -> None:
        """Wait for nothing more of this worker: what it had is lost now, and what of it still lives is ended."""
        self._end(reason)
        with contextlib.suppress(RayError):
            ray.kill(self._actor)

    def _end(self, reason: str) -> None:
        self.answers = False
        self._collector.cancel()
        self._drop_way()
        if self._sender is not None:
            self._sender.cancel()
        self._outbox.clear()
        self._lose(list(self._waiting.values()), RuntimeError(reason))


def _cancelled(work: Work) -> Attempt:
    error = ErrorInfo("job.cancelled", "cancelled before it ran")
    return Attempt(job_id=work.job_id, attempt_id=work.attempt_id, ending=Ending.Cancelled, error=error)


def _own_error(error: BaseException) -> WorkerError | None:
    """What the actor itself raised, where Ray only carries it."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, WorkerError) else None
