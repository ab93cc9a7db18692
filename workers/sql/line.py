"""The line in front of a database's connections: who is next. Pure: no clock, no I/O.

Used by `lender`. Tenants take turns, whoever of one tenant came first goes first. A connection that comes back may
serve its own tenant again, or its own sort again, a few times before the turn moves on: a reset or a new connection
costs more than a short wait.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Collection
from enum import IntEnum
from typing import Generic, Protocol, TypeVar

MAX_OVERTAKEN = 8
"""How often others may go before the one whose turn it is, for the sake of the connection's tenant or sort."""


class Sort(IntEnum):
    """The sorts of connection that share one budget. An integer, because other enumerations hash slowly."""

    Small = 1
    """Statements of jobs."""
    Bulk = 2
    """Large results of jobs."""
    Wire = 3
    """Sessions of the broker."""


class Waiter(Protocol):
    """Whoever stands in line."""

    @property
    def tenant(self) -> str: ...
    @property
    def sort(self) -> Sort: ...


W = TypeVar("W", bound=Waiter)


class Line(Generic[W]):
    """Waiters by tenant and sort."""

    def __init__(self) -> None:
        self._turns: OrderedDict[str, dict[Sort, deque[W]]] = OrderedDict()
        """The tenant whose turn is next comes first."""
        self._overtaken = 0
        self.count = 0

    def has(self, sort: Sort) -> bool:
        """Whether anybody waits for this sort."""
        if self.count:
            for sorts in self._turns.values():
                if sort in sorts:
                    return True
        return False

    def join(self, waiter: W) -> None:
        """Stand behind those of the same tenant."""
        self._turns.setdefault(waiter.tenant, {}).setdefault(waiter.sort, deque()).append(waiter)
        self.count += 1

    def leave(self, waiter: W) -> bool:
        """False where it does not stand in line."""
        queue = self._turns.get(waiter.tenant, {}).get(waiter.sort)
        if queue is None or waiter not in queue:
            return False
        queue.remove(waiter)
        self._tidy(waiter.tenant, waiter.sort)
        return True

    def next(self, servable: Collection[Sort], *, tenant: str | None = None, sort: Sort | None = None) -> W | None:
        """Who is served now, taken out of the line: one whose sort is servable; `tenant` and `sort` are those of the
        connection that came back."""
        if not self.count:
            return None
        if sort is not None and self._overtaken < MAX_OVERTAKEN:
            chosen = self._of(tenant, (sort,)) if tenant is not None else None
            if chosen is None:
                chosen = next((w for t in self._turns if (w := self._of(t, (sort,)))), None)
            if chosen is not None and chosen.sort in servable:
                self._overtaken += chosen.tenant != next(iter(self._turns))
                return self._take(chosen, turn=False)
        chosen = next((w for t in self._turns if (w := self._of(t, servable))), None)
        if chosen is None:
            return None
        self._overtaken = 0
        return self._take(chosen, turn=True)

    def only(self, sort: Sort) -> W | None:
        """Who is served by a connection of this sort where one tenant alone waits, whose turn it always is: the usual
        case, and the busiest. Taken out of the line."""
        if len(self._turns) != 1:
            return None
        for tenant, sorts in self._turns.items():
            queue = sorts.get(sort)
            if queue is not None:
                waiter = queue.popleft()
                self._tidy(tenant, sort)
                return waiter
        return None

    def clear(self) -> list[W]:
        """Everybody, sent away."""
        gone = [waiter for sorts in self._turns.values() for queue in sorts.values() for waiter in queue]
        self._turns.clear()
        self.count = 0
        return gone

    def _of(self, tenant: str, servable: Collection[Sort]) -> W | None:
        for sort, queue in self._turns.get(tenant, {}).items():
            if sort in servable:
                return queue[0]
        return None

    def _take(self, waiter: W, *, turn: bool) -> W:
        self._turns[waiter.tenant][waiter.sort].popleft()
        if turn:
            self._turns.move_to_end(waiter.tenant)
        self._tidy(waiter.tenant, waiter.sort)
        return waiter

    def _tidy(self, tenant: str, sort: Sort) -> None:
        self.count -= 1
        sorts = self._turns[tenant]
        if not sorts[sort]:
            del sorts[sort]
            if not sorts:
                del self._turns[tenant]
