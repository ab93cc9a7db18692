"""The sandboxes of one kind that nobody has used: handed out at once, made ahead of demand, made now for who waits.

Called by `host`, which decides how many to keep (`demand`) and how one is made. Whoever finds the pool empty waits for
the next one that is made, whichever was begun for whom: a burst is served first come, first served, and what a waiter
that gave up leaves is kept for the next. It never touches what is inside a sandbox.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

import structlog

from workers.sandbox.errors import HostClosed
from workers.sandbox.starter import Live

log = structlog.get_logger("sandpool.pool")


class WarmPool:
    def __init__(
        self, make: Callable[[], Awaitable[Live]], discard: Callable[[Live], object], turns: asyncio.Semaphore
    ) -> None:
        """`turns` bounds how many sandboxes of all kinds are made at once."""
        self._make = make
        self._discard = discard
        self._turns = turns
        self._idle: deque[Live] = deque()
        self._waiting: deque[asyncio.Future[Live]] = deque()
        self._making: set[asyncio.Task[None]] = set()
        self._target = 0
        self._closed = False

    @property
    def spare(self) -> int:
        """Sandboxes that could be taken at once."""
        return len(self._idle)

    @property
    def busy(self) -> bool:
        """Whether anybody waits or anything is being made."""
        return bool(self._waiting or self._making)

    def spare_id(self) -> str | None:
        """The id of any one of them."""
        return self._idle[0].id if self._idle else None

    def take_spare(self) -> Live | None:
        """The one that has been there longest."""
        return self._idle.popleft() if self._idle else None

    async def take(self) -> Live:
        """The next one that is made. Raises what making it raised, HostClosed."""
        if self._closed:
            raise HostClosed("this host is closing", hint="try again: another host may take it")
        waiter: asyncio.Future[Live] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._balance()
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._offer(waiter.result())  # it came in the same instant
            raise
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def keep(self, target: int) -> None:
        """Have so many spare ones from now on: more are made beside what is asked for, what is too much goes."""
        self._target = target
        while len(self._idle) > target:
            self._discard(self._idle.popleft())
        self._balance()

    def drop_all(self) -> None:
        """Every spare one goes; those that are being made come."""
        while self._idle:
            self._discard(self._idle.popleft())

    async def close(self) -> None:
        self._closed = True
        self.drop_all()
        for task in self._making:
            task.cancel()
        if self._making:
            await asyncio.wait(self._making)
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(HostClosed("this host is closing", hint="try again: another host may take it"))

    def _balance(self) -> None:
        """As many are being made as are waited for; those for the target only while nobody waits for a turn."""
        wanted = len(self._waiting)
        if not self._turns.locked():
            wanted += max(0, self._target - len(self._idle))
        while len(self._making) < wanted and not self._closed:
            task = asyncio.create_task(self._make_one(), name="warm sandbox")
            self._making.add(task)
            task.add_done_callback(self._made)

    async def _make_one(self) -> None:
        try:
            async with self._turns:
                live = await self._make()
        except Exception as error:  # noqa: BLE001 - whatever it is: somebody waits
            self._fail(error)
        else:
            self._offer(live)

    def _made(self, task: asyncio.Task[None]) -> None:
        self._making.discard(task)
        if not task.cancelled():
            self._balance()

    def _offer(self, live: Live) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(live)
                return
        if self._closed or len(self._idle) >= self._target:
            self._discard(live)
        else:
            self._idle.append(live)

    def _fail(self, error: Exception) -> None:
        """Whoever waits longest is told; the others have one on the way each. A spare one is not tried again here."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(error)
                return
        log.warning("no spare sandbox", error=str(error))
        self._target = len(self._idle)
