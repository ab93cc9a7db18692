"""One mailbox, with its streams, for each scheduler that uses a worker: what one collects is not another's.

Held by the worker actors. A scheduler is known by its name, which a restarted one has again, so that what ended
meanwhile is found; `""` is the only one. What they share is behind `run`: the pool's connections, the host's room.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from workers.attempt import Attempt, Work
from workers.errors import PoolClosed
from workers.mailbox import MAX_HELD, Mailbox
from workers.stream import Streams

MOST_SCHEDULERS = 16

W = TypeVar("W", bound=Work)


class Mailboxes(Generic[W]):
    """Mailboxes by the scheduler's name, made when it first asks for something."""

    def __init__(
        self, decode: Callable[[bytes], W], run: Callable[[W], Awaitable[Attempt]], *, max_held: int = MAX_HELD
    ) -> None:
        self._decode = decode
        self._run = run
        self._max_held = max_held
        self._boxes: dict[str, tuple[Mailbox[W], Streams]] = {}

    @property
    def connected(self) -> bool:
        """Whether a scheduler holds a stream now."""
        return any(streams.connected for _, streams in self._boxes.values())

    def of(self, scheduler: str) -> Mailbox[W]:
        """Raises PoolClosed (retryable) for one scheduler too many."""
        return self._both(scheduler)[0]

    def streams_of(self, scheduler: str) -> Streams:
        """Raises as `of`."""
        return self._both(scheduler)[1]

    async def stop(self, timeout_s: float) -> None:
        """Cancel what runs and hang up."""
        await asyncio.gather(*(box.stop(timeout_s) for box, _ in self._boxes.values()))
        await asyncio.gather(*(streams.close() for _, streams in self._boxes.values()))

    def _both(self, scheduler: str) -> tuple[Mailbox[W], Streams]:
        if scheduler not in self._boxes:
            if len(self._boxes) >= MOST_SCHEDULERS:
                raise PoolClosed(f"more than {MOST_SCHEDULERS} schedulers use this worker", hint="run fewer of them")
            mailbox = Mailbox(self._decode, self._run, max_held=self._max_held)
            self._boxes[scheduler] = mailbox, Streams(mailbox)
        return self._boxes[scheduler]
