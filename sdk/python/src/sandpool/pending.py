"""Which submitted jobs still wait for their outcome, and what to do with one that arrives.

Used by `sandpool.client` on one event loop. A waiter lives as long as somebody holds it: an outcome for a job that
nobody asks about any more, a duplicate, or one of another client is dropped. No I/O here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from weakref import WeakValueDictionary

import msgspec

from sandpool.errors import JobIdConflict, OutcomeTimeout
from sandpool.job import Job, digest
from sandpool.outcome import Ending, Outcome

CONFLICT_CODE = "job.id_conflict"
"""`error.code` of the scheduler's answer to a job whose id names other work."""
INLINE_BUDGET_BYTES = 64 * 1024**2
"""Inline results kept for outcomes that nobody has fetched yet. Beyond it they are dropped from the outcome, whose
data is in its volume all the same."""


class Waiter:
    """One job of ours and, once it is there, its outcome."""

    __slots__ = ("__weakref__", "_budget", "_futures", "_held_bytes", "_then", "digest", "job_id", "outcome", "volume")

    def __init__(self, job: Job, work_digest: str, budget: Budget) -> None:
        self.job_id = job.id
        self.volume = job.volume
        self.digest = work_digest
        self.outcome: Outcome | None = None
        self._budget = budget
        self._held_bytes = 0
        self._futures: list[asyncio.Future[None]] = []
        self._then: list[Callable[[], None]] = []

    def __del__(self) -> None:
        self._budget.give(self._held_bytes)

    @property
    def ended(self) -> bool:
        return self.outcome is not None

    def take(self) -> Outcome:
        """The outcome, which its taker now keeps."""
        assert self.outcome is not None, "take() follows ended"
        self._budget.give(self._held_bytes)
        self._held_bytes = 0
        return self.outcome

    def claim(self) -> Outcome:
        """As `take`, but raises JobIdConflict where the outcome is that of other work."""
        outcome = self.take()
        refused = outcome.ending is Ending.Denied and outcome.error is not None and outcome.error.code == CONFLICT_CODE
        # A record without digest is a cancellation by id alone: whatever the work was, it is cancelled.
        if refused or outcome.digest not in ("", self.digest):
            raise JobIdConflict(self.job_id)
        return outcome

    async def wait(self, timeout_s: float) -> None:
        """Return when the outcome is there. Raises OutcomeTimeout."""
        if self.outcome is not None:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._futures.append(future)
        try:
            await asyncio.wait_for(future, timeout_s)
        except TimeoutError:
            raise OutcomeTimeout(self.job_id, timeout_s) from None
        finally:
            if future in self._futures:
                self._futures.remove(future)

    def abandon(self, error: Exception) -> None:
        """Nobody will tell any more: whoever waits now gets `error`."""
        for future in self._futures:
            if not future.done():
                future.set_exception(error)

    def then(self, call: Callable[[], None]) -> None:
        """Call when the outcome is there; at once if it is."""
        if self.outcome is not None:
            call()
        else:
            self._then.append(call)

    def end(self, outcome: Outcome) -> None:
        """The outcome has arrived; a second one is ignored."""
        if self.outcome is not None:
            return
        if not self._budget.take(len(outcome.inline)):
            outcome = msgspec.structs.replace(outcome, inline=b"")
        self._held_bytes = len(outcome.inline)
        self.outcome = outcome
        for future in self._futures:
            if not future.done():
                future.set_result(None)
        for call in self._then:
            call()
        self._then.clear()


class Budget:
    """Bytes that may be held at once."""

    def __init__(self, limit_bytes: int) -> None:
        self.left_bytes = limit_bytes

    def take(self, size_bytes: int) -> bool:
        if size_bytes > self.left_bytes:
            return False
        self.left_bytes -= size_bytes
        return True

    def give(self, size_bytes: int) -> None:
        self.left_bytes += size_bytes


class Pending:
    """Every waiter that somebody holds, by job id."""

    def __init__(self, inline_budget_bytes: int = INLINE_BUDGET_BYTES) -> None:
        self._waiters: WeakValueDictionary[str, Waiter] = WeakValueDictionary()
        self._budget = Budget(inline_budget_bytes)

    def add(self, job: Job) -> Waiter:
        """The waiter of a job: the same one when this job is submitted again.

        Raises JobIdConflict when other work waits under this id.
        """
        work_digest = digest(job)
        waiter = self._waiters.get(job.id)
        if waiter is None:
            waiter = self._waiters[job.id] = Waiter(job, work_digest, self._budget)
        elif waiter.digest != work_digest:
            raise JobIdConflict(job.id)
        return waiter

    def end(self, outcome: Outcome) -> None:
        """An outcome arrived; dropped when nobody waits for it."""
        waiter = self._waiters.get(outcome.job_id)
        if waiter is not None:
            waiter.end(outcome)

    def open(self) -> list[Waiter]:
        """The waiters without an outcome."""
        return [waiter for waiter in self._waiters.values() if not waiter.ended]
