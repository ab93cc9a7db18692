"""Lends a database's connections within its budget: who gets which connection next.

Owned by `pool`. Prefers a connection that last served the same tenant (its prepared statements are still there and no
reset is due), then a fresh one, then opening another, then resetting one of another tenant. Small reads (`Session`),
bulk reads (`BulkSession`) and the broker's sessions (`broker.backend`) share the budget; an idle one of another sort
is closed to make room. Who waits is served in the order of `line`. Every wait has a deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from workers.errors import PoolBusy, PoolClosed, WorkerError
from workers.sql.faults import translate
from workers.sql.line import Line, Sort
from workers.sql.spec import PoolSpec

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


Receive = Callable[["Loan | WorkerError"], None]


@dataclass(slots=True, eq=False)
class Request:
    """Somebody's wish for a connection, until `receive` was called with one or with the reason why there is none."""

    tenant: str
    sort: Sort
    receive: Receive
    is_waiting: bool = False
    """Stands in line; else a connection is being opened or reset for it."""
    is_withdrawn: bool = False


@dataclass(slots=True)
class _Shelf:
    """The connections of one sort."""

    open: Callable[[], Awaitable[Loan]]
    limit: int = 0
    idle: list[Loan] = field(default_factory=list)
    count: int = 0


class Lender:
    """All connections of one pool. Single event loop, no locks: state changes never span an await."""

    def __init__(
        self,
        spec: PoolSpec,
        open_session: Callable[[], Awaitable[Loan]],
        open_bulk: Callable[[], Awaitable[Loan]],
        open_wire: Callable[[], Awaitable[Loan]] | None = None,
    ) -> None:
        self._spec = spec
        self._shelves = {Sort.Small: _Shelf(open_session), Sort.Bulk: _Shelf(open_bulk)}
        if open_wire is not None:
            self._shelves[Sort.Wire] = _Shelf(open_wire)
        self._set_limits()
        self._line: Line[Request] = Line()
        self._is_handing_over = False
        self._tasks: set[asyncio.Task[None]] = set()
        """Connections being closed, opened and reset."""
        self._closed = False
        self._is_shrunk = False
        """There may be more connections than the budget allows, since it became smaller."""
        self._failures = 0
        self._open_from_s = 0.0

    @property
    def open_count(self) -> int:
        """Connections that exist or are being opened."""
        return sum(shelf.count for shelf in self._shelves.values())

    @property
    def idle_count(self) -> int:
        return sum(len(shelf.idle) for shelf in self._shelves.values())

    @property
    def waiting_count(self) -> int:
        return self._line.count

    def set_budget(self, budget: int) -> None:
        """Another number of connections from now on. Of too many, idle ones are closed now and lent ones when they come
        back; of too few, those who wait get one each."""
        self._spec = msgspec.structs.replace(self._spec, budget=budget)
        self._set_limits()
        self._is_shrunk = True
        for shelf in self._shelves.values():
            while shelf.idle and (self.open_count > budget or shelf.count > shelf.limit):
                self._close_soon(shelf.idle.pop(0))
                shelf.count -= 1
        while not self._closed and self.open_count < budget:
            request = self._line.next(self._servable(None))
            if request is None:
                break
            self._shelves[request.sort].count += 1
            self._prepare(request, None)

    def _set_limits(self) -> None:
        spec = self._spec
        limits = {
            Sort.Small: spec.budget,
            Sort.Bulk: max(1, min(spec.bulk_budget, spec.budget)),
            Sort.Wire: spec.most_wires,
        }
        for sort, shelf in self._shelves.items():
            shelf.limit = limits[sort]

    def lend(self, tenant: str, sort: Sort = Sort.Small) -> Loan | None:
        """A connection that last served this tenant, where one is idle: nothing to wait for, open or reset."""
        idle = self._shelves[sort].idle
        for index in range(len(idle) - 1, -1, -1):
            if idle[index].tenant == tenant and idle[index].is_open:
                return idle.pop(index)
        return None

    def request(self, tenant: str, sort: Sort, receive: Receive) -> Request:
        """Have `receive` called, once, with a connection ready for this tenant, or with PoolClosed or
        DatabaseUnavailable: never from within this call. Raises PoolBusy, PoolClosed."""
        if self._closed:
            raise PoolClosed("the pool is closing")
        request = Request(tenant, sort, receive)
        loan = None if self._line.has(sort) else self._take(tenant, sort)
        if loan is not None:
            self._prepare(request, loan)
        elif not self._line.has(sort) and self._may_open(sort):
            self._shelves[sort].count += 1
            self._prepare(request, None)
        elif self._line.count >= self._spec.max_waiting:
            raise PoolBusy("too many statements wait for this database", hint="submit again later")
        else:
            request.is_waiting = True
            self._line.join(request)
        return request

    def withdraw(self, request: Request) -> None:
        """Nobody waits for it any more; a connection that is on its way is taken back."""
        request.is_withdrawn = True
        if request.is_waiting:
            self._line.leave(request)

    async def acquire(self, tenant: str, timeout_s: float, sort: Sort = Sort.Small) -> Loan:
        """A connection ready for this tenant, to be given back with `release`.

        Raises PoolBusy, PoolClosed, DatabaseUnavailable.
        """
        if self._closed:
            raise PoolClosed("the pool is closing")
        loan = self.lend(tenant, sort)
        if loan is not None:
            return loan
        granted: asyncio.Future[Loan | WorkerError] = asyncio.get_running_loop().create_future()
        request = self.request(tenant, sort, granted.set_result)
        try:
            if request.is_waiting:
                await asyncio.wait([granted], timeout=min(timeout_s, self._spec.acquire_timeout_s))
            if request.is_waiting and not granted.done():
                raise PoolBusy("no free connection to the database in time")
            # What is being opened or reset has deadlines of its own.
            result = await asyncio.shield(granted)
        except BaseException:
            if granted.done() and not granted.cancelled():
                self._return(granted.result(), sort)
            else:
                self.withdraw(request)
            raise
        if isinstance(result, WorkerError):
            raise result
        return result

    def release(self, loan: Loan, sort: Sort = Sort.Small) -> None:
        """Take a connection back; a broken one is closed and its place given on."""
        if self._closed or not loan.is_open or (self._is_shrunk and self._is_over_budget()):
            self.discard(loan, sort)
            return
        if not self._line.count:
            self._shelves[sort].idle.append(loan)
            return
        request = self._line.only(sort) or self._line.next(self._servable(sort), tenant=loan.tenant, sort=sort)
        if request is None:
            self._shelves[sort].idle.append(loan)
        elif request.sort is sort:
            self._prepare(request, loan)
        else:
            self._close_soon(loan)
            self._shelves[sort].count -= 1
            self._shelves[request.sort].count += 1
            self._prepare(request, None)

    def _is_over_budget(self) -> bool:
        self._is_shrunk = self.open_count > self._spec.budget
        return self._is_shrunk

    def discard(self, loan: Loan, sort: Sort = Sort.Small) -> None:
        """Close a connection instead of lending it again."""
        self._close_soon(loan)
        self._free_place(sort)

    async def close(self) -> None:
        """Refuse waiters, close what is idle; what is lent is closed when it comes back."""
        self._closed = True
        for request in self._line.clear():
            request.is_waiting = False
            request.receive(PoolClosed("the pool is closing"))
        for shelf in self._shelves.values():
            while shelf.idle:
                self._close_soon(shelf.idle.pop())
                shelf.count -= 1
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=RESET_DEADLINE_S)

    def _take(self, tenant: str, sort: Sort) -> Loan | None:
        shelf = self._shelves[sort]
        self._drop_dead(shelf)
        for wanted in (tenant, None):
            for index in range(len(shelf.idle) - 1, -1, -1):
                if shelf.idle[index].tenant == wanted:
                    return shelf.idle.pop(index)
        if not shelf.idle or self._may_open(sort):
            return None
        return shelf.idle.pop(0)

    def _may_open(self, sort: Sort) -> bool:
        shelf = self._shelves[sort]
        if shelf.count >= shelf.limit:
            return False
        if self.open_count < self._spec.budget:
            return True
        if shelf.idle:
            return False
        for other in self._shelves.values():
            if other.idle:
                self._close_soon(other.idle.pop(0))
                other.count -= 1
                return True
        return False

    def _prepare(self, request: Request, loan: Loan | None) -> None:
        """Hand over what is ready; what must be opened or reset first is by a task."""
        was_waiting, request.is_waiting = request.is_waiting, False
        if loan is not None and loan.tenant == request.tenant and loan.is_open:
            if self._is_handing_over or not was_waiting:
                # Later: whoever asks is not ready to receive yet, and a chain of hand-overs must not nest.
                asyncio.get_running_loop().call_soon(self._hand_over, request, loan)
                return
            self._is_handing_over = True
            try:
                self._hand_over(request, loan)
            finally:
                self._is_handing_over = False
        else:
            self._own(self._ready(request, loan))

    async def _ready(self, request: Request, loan: Loan | None) -> None:
        try:
            if loan is None:
                loan = await self._open(request.sort)
            if loan.tenant != request.tenant:
                await self._reset(loan, request)
        except WorkerError as error:
            if not request.is_withdrawn:
                request.receive(error)
            return
        self._hand_over(request, loan)

    def _hand_over(self, request: Request, loan: Loan) -> None:
        if request.is_withdrawn:
            self.release(loan, request.sort)
        elif self._closed:
            self.discard(loan, request.sort)
            request.receive(PoolClosed("the pool is closing"))
        else:
            request.receive(loan)

    def _return(self, result: Loan | WorkerError, sort: Sort) -> None:
        """It reached somebody who had just given up."""
        if not isinstance(result, WorkerError):
            self.release(result, sort)

    async def _reset(self, loan: Loan, request: Request) -> None:
        try:
            async with asyncio.timeout(RESET_DEADLINE_S):
                await loan.reset_for(request.tenant)
        except BaseException as error:
            self.discard(loan, request.sort)
            if isinstance(error, Exception):
                raise translate(error) from None
            raise

    async def _open(self, sort: Sort) -> Loan:
        """Connect; after failures no sooner than a pause later, so that a server that is away is not hammered."""
        now = asyncio.get_running_loop().time
        try:
            if (pause_s := self._open_from_s - now()) > 0:
                await asyncio.sleep(pause_s)
            loan = await self._shelves[sort].open()
        except BaseException as error:
            if isinstance(error, WorkerError):
                self._failures += 1
                self._open_from_s = now() + min(MAX_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self._failures, 10))
            self._free_place(sort)
            if isinstance(error, Exception):
                raise translate(error) from None
            raise
        self._failures = 0
        return loan

    def _free_place(self, sort: Sort) -> None:
        self._shelves[sort].count -= 1
        if self._closed or self.open_count >= self._spec.budget:
            return
        request = self._line.next(self._servable(None))
        if request is not None:
            self._shelves[request.sort].count += 1
            self._prepare(request, None)

    def _servable(self, freed: Sort | None) -> list[Sort]:
        """Sorts that may have one more connection. Who cannot be served now must not hide those behind."""
        return [sort for sort, shelf in self._shelves.items() if sort is freed or shelf.count < shelf.limit]

    def _drop_dead(self, shelf: _Shelf) -> None:
        if not shelf.idle:
            return
        for loan in [loan for loan in shelf.idle if not loan.is_open]:
            shelf.idle.remove(loan)
            shelf.count -= 1
            self._close_soon(loan)

    def _close_soon(self, loan: Loan) -> None:
        self._own(loan.close())

    def _own(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
