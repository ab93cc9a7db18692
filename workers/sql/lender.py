"""Lends a database's connections within its budget: who gets which connection next.

Owned by `pool`. Prefers a connection that last served the same tenant (its prepared statements are still there and no
reset is due), then a fresh one, then opening another, then resetting one of another tenant. Small reads (`Session`) and
bulk reads (`BulkSession`) share the budget; an idle one of the other sort is closed to make room. Waiters are served in
order, but a waiter of the returning connection's tenant may go first a few times. Every wait has a deadline.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from workers.errors import PoolBusy, PoolClosed, WorkerError
from workers.sql.faults import translate
from workers.sql.spec import PoolSpec

MAX_OVERTAKEN = 8
"""How often others may go before the longest waiter for the sake of tenant affinity."""
AFFINITY_REACH = 32
"""How many waiters are looked at: handing over a connection must not cost more the longer the line is."""
RESET_DEADLINE_S = 5.0
FIRST_PAUSE_S = 0.01
MAX_PAUSE_S = 1.0
"""Longest pause before the next try to connect after failures."""


class Loan(Protocol):
    """What the lender knows of a connection."""

    tenant: str | None

    @property
    def is_open(self) -> bool: ...
    async def reset_for(self, tenant: str) -> None: ...
    async def close(self) -> None: ...


@dataclass(slots=True)
class _Waiter:
    tenant: str
    is_bulk: bool
    granted: asyncio.Future[Loan | None]
    """A connection to use, or None: a place in the budget to open one."""
    overtaken: int = 0


@dataclass(slots=True)
class _Shelf:
    """The connections of one sort."""

    open: Callable[[], Awaitable[Loan]]
    limit: int
    idle: list[Loan] = field(default_factory=list)
    count: int = 0


class Lender:
    """All connections of one pool. Single event loop, no locks: state changes never span an await."""

    def __init__(
        self, spec: PoolSpec, open_session: Callable[[], Awaitable[Loan]], open_bulk: Callable[[], Awaitable[Loan]]
    ) -> None:
        self._spec = spec
        self._small = _Shelf(open_session, spec.budget)
        self._bulk = _Shelf(open_bulk, max(1, min(spec.bulk_budget, spec.budget)))
        self._waiters: deque[_Waiter] = deque()
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False
        self._failures = 0
        self._open_from_s = 0.0

    @property
    def open_count(self) -> int:
        """Connections that exist or are being opened."""
        return self._small.count + self._bulk.count

    @property
    def idle_count(self) -> int:
        return len(self._small.idle) + len(self._bulk.idle)

    @property
    def waiting_count(self) -> int:
        return len(self._waiters)

    async def acquire(self, tenant: str, timeout_s: float, *, is_bulk: bool = False) -> Loan:
        """A connection ready for this tenant, to be given back with `release`.

        Raises PoolBusy, PoolClosed, DatabaseUnavailable.
        """
        loan = self._take(tenant, is_bulk)
        if loan is None and not self._may_open(is_bulk):
            loan = await self._wait(tenant, timeout_s, is_bulk)
        elif loan is None:
            self._shelf(is_bulk).count += 1
        if loan is None:
            loan = await self._open(is_bulk)
        if loan.tenant == tenant:
            return loan
        try:
            async with asyncio.timeout(RESET_DEADLINE_S):
                await loan.reset_for(tenant)
        except BaseException as error:
            self.discard(loan, is_bulk=is_bulk)
            if isinstance(error, Exception):
                raise translate(error) from None
            raise
        return loan

    def release(self, loan: Loan, *, is_bulk: bool = False) -> None:
        """Take a connection back; a broken one is closed and its place given on."""
        if self._closed or not loan.is_open:
            self.discard(loan, is_bulk=is_bulk)
            return
        waiter = self._next_waiter(loan.tenant, freed_bulk=is_bulk)
        if waiter is None:
            self._shelf(is_bulk).idle.append(loan)
        elif waiter.is_bulk is is_bulk:
            waiter.granted.set_result(loan)
        else:
            self._close_soon(loan)
            self._shelf(is_bulk).count -= 1
            self._shelf(waiter.is_bulk).count += 1
            waiter.granted.set_result(None)

    def discard(self, loan: Loan, *, is_bulk: bool = False) -> None:
        """Close a connection instead of lending it again."""
        self._close_soon(loan)
        self._free_place(is_bulk)

    async def close(self) -> None:
        """Refuse waiters, close what is idle; what is lent is closed when it comes back."""
        self._closed = True
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.granted.done():
                waiter.granted.set_exception(PoolClosed("the pool is closing"))
        for shelf in (self._small, self._bulk):
            while shelf.idle:
                self._close_soon(shelf.idle.pop())
                shelf.count -= 1
        if self._closing:
            await asyncio.wait(self._closing, timeout=RESET_DEADLINE_S)

    def _shelf(self, is_bulk: bool) -> _Shelf:
        return self._bulk if is_bulk else self._small

    def _take(self, tenant: str, is_bulk: bool) -> Loan | None:
        if self._closed:
            raise PoolClosed("the pool is closing")
        shelf = self._shelf(is_bulk)
        self._drop_dead(shelf)
        for wanted in (tenant, None):
            for index in range(len(shelf.idle) - 1, -1, -1):
                if shelf.idle[index].tenant == wanted:
                    return shelf.idle.pop(index)
        if self._may_open(is_bulk) or not shelf.idle:
            return None
        return shelf.idle.pop(0)

    def _may_open(self, is_bulk: bool) -> bool:
        shelf, other = self._shelf(is_bulk), self._shelf(not is_bulk)
        if shelf.count >= shelf.limit:
            return False
        if self.open_count < self._spec.budget:
            return True
        if other.idle and not shelf.idle:
            self._close_soon(other.idle.pop(0))
            other.count -= 1
            return True
        return False

    async def _wait(self, tenant: str, timeout_s: float, is_bulk: bool) -> Loan | None:
        if len(self._waiters) >= self._spec.max_waiting:
            raise PoolBusy("too many statements wait for this database", hint="submit again later")
        waiter = _Waiter(tenant, is_bulk, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(min(timeout_s, self._spec.acquire_timeout_s)):
                return await waiter.granted
        except BaseException as error:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            elif waiter.granted.done() and not waiter.granted.cancelled() and waiter.granted.exception() is None:
                self._give_on(waiter)
            if isinstance(error, TimeoutError):
                raise PoolBusy("no free connection to the database in time") from None
            raise

    def _give_on(self, waiter: _Waiter) -> None:
        """The grant reached a waiter that had just given up."""
        loan = waiter.granted.result()
        if loan is None:
            self._free_place(waiter.is_bulk)
        else:
            self.release(loan, is_bulk=waiter.is_bulk)

    async def _open(self, is_bulk: bool) -> Loan:
        """Connect; after failures no sooner than a pause later, so that a server that is away is not hammered."""
        now = asyncio.get_running_loop().time
        try:
            if (pause_s := self._open_from_s - now()) > 0:
                await asyncio.sleep(pause_s)
            loan = await self._shelf(is_bulk).open()
        except BaseException as error:
            if isinstance(error, WorkerError):
                self._failures += 1
                self._open_from_s = now() + min(MAX_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self._failures, 10))
            self._free_place(is_bulk)
            raise
        self._failures = 0
        return loan

    def _free_place(self, is_bulk: bool) -> None:
        self._shelf(is_bulk).count -= 1
        waiter = self._next_waiter(None, freed_bulk=False)
        if waiter is not None:
            self._shelf(waiter.is_bulk).count += 1
            waiter.granted.set_result(None)

    def _next_waiter(self, tenant: str | None, *, freed_bulk: bool) -> _Waiter | None:
        """Who is next: the first in line, or one of this tenant near the front. Removed from the line."""
        # Who cannot be served now must not hide those behind: the front is that of the servable ones.
        room = freed_bulk or self._bulk_has_room
        servable = (w for w in self._waiters if not w.granted.done() and (room or not w.is_bulk))
        ready = list(islice(servable, AFFINITY_REACH))
        if not ready:
            return None
        chosen = ready[0]
        if chosen.tenant != tenant and chosen.overtaken < MAX_OVERTAKEN:
            chosen = next((w for w in ready if w.tenant == tenant), chosen)
            if chosen is not ready[0]:
                ready[0].overtaken += 1
        self._waiters.remove(chosen)
        return chosen

    @property
    def _bulk_has_room(self) -> bool:
        return self._bulk.count < self._bulk.limit

    def _drop_dead(self, shelf: _Shelf) -> None:
        for loan in [loan for loan in shelf.idle if not loan.is_open]:
            shelf.idle.remove(loan)
            shelf.count -= 1
            self._close_soon(loan)

    def _close_soon(self, loan: Loan) -> None:
        task = asyncio.get_running_loop().create_task(loan.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
