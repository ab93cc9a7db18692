"""Whose turn is it? Pure: the lines of one resource, by tenant and priority, and what each tenant has a right to.

`FairLine` is asked by `cluster.slots` for every slot that comes free, `Rooms` by the scheduler for every message that
it takes. Neither awaits, reads a clock or knows what a slot is.

A turn is given in three steps:
1. Interactive before batch; but while batch waits, every eighth turn is its own.
2. Among tenants who wait there, those first that hold less than their part of the slots: of what runs everyone has its
   share, however long each job takes.
3. Among equals, start-time fair queueing (Goyal, Vin, Cheng 1996) with a cost of one per turn: turns are shared by
   weight, and nobody who waits is passed over for ever.
A tenant at its limit of jobs in flight, or ahead of its rate, has no turn; others go on.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, TypeVar

BATCH_EVERY = 8
"""While batch waits, one of so many turns is its own, whatever waits in front of it."""
OWED_TURNS = 4
"""Most turns that a tenant makes up for: who waits because it holds its part of the slots (step 2) is not to lose them,
and who was away is not to come back with hours of them."""
BURST_S = 1.0
"""A rate is kept over this time: so much of it may come at once."""

Ticket = TypeVar("Ticket", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Share:
    """What one tenant has a right to."""

    weight: float = 1.0
    max_in_flight: int | None = None
    rate_per_s: float | None = None


EQUAL = Share()
"""Of a tenant of whom nothing is said."""


@dataclass(slots=True)
class _Tenant(Generic[Ticket]):
    """One tenant of one line."""

    in_use: int = 0
    finish: float = 0.0
    """Virtual time at which its last turn is paid for."""
    interactive: OrderedDict[Ticket, None] = field(default_factory=OrderedDict)
    batch: OrderedDict[Ticket, None] = field(default_factory=OrderedDict)

    def line(self, interactive: bool) -> OrderedDict[Ticket, None]:
        return self.interactive if interactive else self.batch


class FairLine(Generic[Ticket]):
    """Who waits for one resource, and who holds how much of it. A ticket is whatever the caller waits with.

    Remembers every tenant that it ever met: these are the registered ones."""

    def __init__(self, weight_of: Callable[[str], float]) -> None:
        self._weight_of = weight_of
        self._tenants: dict[str, _Tenant[Ticket]] = {}
        self._now = 0.0
        self._since_batch = 0

    def __len__(self) -> int:
        return sum(len(tenant.interactive) + len(tenant.batch) for tenant in self._tenants.values())

    def has(self, tenant: str) -> bool:
        """Whether this tenant waits here."""
        state = self._tenants.get(tenant)
        return state is not None and bool(state.interactive or state.batch)

    def count(self, tenant: str) -> int:
        """How many of this tenant wait here."""
        state = self._tenants.get(tenant)
        return len(state.interactive) + len(state.batch) if state is not None else 0

    def behind(self, tenant: str, *, interactive: bool) -> Iterator[Ticket]:
        """Who waits behind the first of this tenant's line."""
        return islice(self._tenants[tenant].line(interactive), 1, None)

    def in_use(self, tenant: str) -> int:
        """How many slots this tenant holds."""
        return self._tenants[tenant].in_use if tenant in self._tenants else 0

    def join(self, tenant: str, ticket: Ticket, *, interactive: bool, front: bool = False) -> None:
        """Wait at the end of one's own line; `front`: whose turn came to nothing keeps its place."""
        line = self._tenants.setdefault(tenant, _Tenant()).line(interactive)
        line[ticket] = None
        if front:
            line.move_to_end(ticket, last=False)

    def leave(self, tenant: str, ticket: Ticket, *, interactive: bool) -> None:
        """Wait no more; harmless for one who does not."""
        if tenant in self._tenants:
            self._tenants[tenant].line(interactive).pop(ticket, None)

    def order(self, may_go: Callable[[str], bool]) -> Iterator[tuple[str, bool, Ticket]]:
        """(tenant, interactive, ticket) of the first in every tenant's lines, in the order of their turns."""
        for interactive in self._classes():
            names = [name for name, tenant in self._tenants.items() if tenant.line(interactive) and may_go(name)]
            for name in self._claims(names):
                yield name, interactive, next(iter(self._tenants[name].line(interactive)))

    def grant(self, tenant: str, ticket: Ticket, *, interactive: bool) -> None:
        """This ticket's turn has come: it holds a slot until `release`."""
        state = self._tenants[tenant]
        batch_waits = any(other.batch for other in self._tenants.values())
        state.line(interactive).pop(ticket)
        self._since_batch = self._since_batch + 1 if interactive and batch_waits else 0
        self._charge(tenant, state)

    def take(self, tenant: str) -> None:
        """A slot without waiting, where nobody was in line."""
        self._charge(tenant, self._tenants.setdefault(tenant, _Tenant()))

    def release(self, tenant: str) -> None:
        """The slot is free again."""
        self._tenants[tenant].in_use -= 1

    def undo(self, tenant: str) -> None:
        """The turn that was given came to nothing: it is not paid for."""
        state = self._tenants[tenant]
        state.in_use -= 1
        state.finish -= 1 / self._weight_of(tenant)

    def _charge(self, name: str, tenant: _Tenant[Ticket]) -> None:
        start = self._start(name, tenant)
        self._now = max(self._now, start)
        tenant.finish = start + 1 / self._weight_of(name)
        tenant.in_use += 1

    def _start(self, name: str, tenant: _Tenant[Ticket]) -> float:
        """Virtual time at which its next turn begins."""
        return max(self._now - OWED_TURNS / self._weight_of(name), tenant.finish)

    def _claims(self, names: list[str]) -> list[str]:
        """These tenants in the order of their claims."""
        if len(names) < 2:
            return names
        active = [(name, t) for name, t in self._tenants.items() if t.in_use or t.interactive or t.batch]
        per_weight = (1 + sum(t.in_use for _, t in active)) / sum(self._weight_of(name) for name, _ in active)

        def claim(name: str) -> tuple[bool, float, str]:
            tenant = self._tenants[name]
            part = math.floor(per_weight * self._weight_of(name)) + 1  # slots are whole
            return tenant.in_use >= part, self._start(name, tenant), name

        return sorted(names, key=claim)

    def _classes(self) -> tuple[bool, bool]:
        batch_turn = self._since_batch >= BATCH_EVERY - 1
        return (False, True) if batch_turn else (True, False)


class Rate:
    """A token bucket: `per_s` turns a second, with a burst of what comes in `BURST_S` (at least one)."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._most = max(1.0, per_s * BURST_S)
        self._tokens = self._most
        self._at_s = -math.inf

    def ready_in_s(self, now_s: float) -> float:
        """Seconds until the next turn may be had; 0.0: now."""
        self._fill(now_s)
        return 0.0 if self._tokens >= 1 else (1 - self._tokens) / self._per_s

    def spend(self, now_s: float) -> None:
        """One turn was had."""
        self._fill(now_s)
        self._tokens -= 1

    def refund(self) -> None:
        """The turn came to nothing."""
        self._tokens = min(self._most, self._tokens + 1)

    def _fill(self, now_s: float) -> None:
        if now_s > self._at_s:
            grown = self._per_s * (now_s - self._at_s) if self._at_s > -math.inf else 0.0
            self._tokens = min(self._most, self._tokens + grown)
            self._at_s = now_s


class Rooms:
    """Which messages may wait here, and which wait in their tenant's own queue (`queues.topology.parked`).

    A job queue is one line of all tenants, so what one of them floods it with stands in front of everyone else's. So a
    tenant may hold no more of a queue's prefetch than is left free (the dynamic threshold of shared buffers: Choudhury
    and Hahne 1998): one alone a half, two that flood it a third each. The rest of a flood passes through what is free,
    message by message, into its tenant's own queue, and what lies behind comes to light; one place is always free.
    """

    def __init__(self, prefetch: int) -> None:
        self._free = prefetch
        self._held: Counter[str] = Counter()

    def enter(self, tenant: str) -> bool:
        """Whether one more message of this tenant may wait here; it then counts until `leave`."""
        if self._held.get(tenant, 0) >= self._free - 1:
            return False
        self._held[tenant] += 1
        self._free -= 1
        return True

    def leave(self, tenant: str) -> None:
        """A message that had entered is settled."""
        self._free += 1
        self._held[tenant] -= 1
        if not self._held[tenant]:
            del self._held[tenant]
