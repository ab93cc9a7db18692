"""Work in, attempts out, so that neither side ever waits for a single job and a lost reply loses nothing.

The plain class behind every worker actor (`workers.actors`); what the work is, only the given decoder and `run` know. A
caller submits many pieces in one call and asks, in another that may wait, for everything that has ended since. Attempts
count up from 1 in the order of their endings; a `collect` that says how many the caller has got lets the mailbox forget
those, not before. Bounded: work above the limit is refused as retryable.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import islice
from typing import Generic, TypeVar

import msgspec

from workers.attempt import Attempt, Work, not_started
from workers.errors import PoolClosed

MAX_HELD = 2_000
"""Most pieces of work running or ended but not collected; each may hold a small result (64 KiB)."""
MAX_COLLECTED = 256
"""Most attempts in one reply."""

_encoder = msgspec.msgpack.Encoder()
_attempts = msgspec.msgpack.Decoder(Attempt)

W = TypeVar("W", bound=Work)


def decode_attempt(data: bytes) -> Attempt:
    """An attempt as `Mailbox.collect` gives it."""
    return _attempts.decode(data)


class Mailbox(Generic[W]):
    """Runs what is submitted by `run`, which never raises, and keeps the endings until they are collected."""

    def __init__(
        self, decode: Callable[[bytes], W], run: Callable[[W], Awaitable[Attempt]], *, max_held: int = MAX_HELD
    ) -> None:
        self._decode = decode
        self._run = run
        self._max_held = max_held
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ended: deque[tuple[int, str, bytes]] = deque()
        self._ended_ids: set[str] = set()
        self._number = 0
        self.epoch = secrets.token_hex(8)
        """Another one after a restart: what ran or waited here before is gone."""
        self._news = asyncio.Event()
        self.listener: Callable[[], None] | None = None
        """Called when something has ended: a stream's push (`workers.stream`), instead of a `collect` that waits."""

    @property
    def running(self) -> int:
        return len(self._tasks)

    @property
    def uncollected(self) -> int:
        return len(self._ended)

    def submit(self, letters: Sequence[bytes]) -> None:
        """Start these. One that is known already (a repeated call) is not started again."""
        for data in letters:
            work = self._decode(data)
            name = f"{work.tenant}/{work.job_id}/{work.attempt_id}"
            if name in self._tasks or name in self._ended_ids:
                continue
            if len(self._tasks) + len(self._ended) >= self._max_held:
                # Not held back here: whoever submitted has other pools to ask and a queue to leave it in.
                busy = PoolClosed("the worker holds as much work as it can", hint="submit again later")
                self._end(name, not_started(work, busy))
            else:
                self._tasks[name] = asyncio.get_running_loop().create_task(self._serve(name, work))

    async def collect(
        self, timeout_s: float, epoch: str = "", received: int = 0, linger_s: float = 0.0
    ) -> tuple[str, int, list[bytes]]:
        """(epoch, number of the last one, attempts that ended, oldest first); waits at most `timeout_s` for one.

        `received` is the number of the last attempt which the caller has got of `epoch`: up to it they are forgotten
        here, the others come again. Said of another epoch it forgets nothing. A busy caller lets the
        reply `linger_s` after the first attempt, so that several share the price of one call.
        """
        self.forget(epoch, received)
        if epoch != self.epoch:
            received = 0
        if not self._ended:
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._news.wait()
        if linger_s and len(self._tasks) > 1:
            await asyncio.sleep(linger_s)
        reply = list(islice(self._ended, MAX_COLLECTED))
        return self.epoch, reply[-1][0] if reply else received, [data for _, _, data in reply]

    def forget(self, epoch: str, received: int) -> None:
        """The caller has got everything up to the number `received` of this epoch."""
        while epoch == self.epoch and self._ended and self._ended[0][0] <= received:
            self._ended_ids.discard(self._ended.popleft()[1])

    def ended_after(self, number: int) -> Iterator[tuple[int, bytes]]:
        """Number and attempt of everything that ended after `number` and is not forgotten."""
        if self._ended:
            known = max(0, number + 1 - self._ended[0][0])
            yield from ((each, data) for each, _, data in islice(self._ended, known, None))

    def forget_listener(self, listener: Callable[[], None]) -> None:
        """Unless another has taken its place."""
        if self.listener == listener:
            self.listener = None

    async def stop(self, timeout_s: float) -> bool:
        """Cancel what runs; True when all of it has ended in time."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            _, unfinished = await asyncio.wait(tasks, timeout=timeout_s)
            return not unfinished
        return True

    async def _serve(self, name: str, work: W) -> None:
        attempt = not_started(work, PoolClosed("the worker was closed while this ran"))
        try:
            attempt = await self._run(work)
        finally:
            del self._tasks[name]
            self._end(name, attempt)

    def _end(self, name: str, attempt: Attempt) -> None:
        self._number += 1
        self._ended.append((self._number, name, _encoder.encode(attempt)))
        self._ended_ids.add(name)
        self._news.set()
        if self.listener is not None:
            self.listener()
