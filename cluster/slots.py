"""Who gets the next free slot: asks `cluster.fairness` whose turn it is and `cluster.placement` where, and wakes them.
Called by the scheduler only.

One line per database, one for sandboxes, one for sandboxes with a GPU. Bounded by the scheduler's prefetch: what cannot
wait here waits in the broker.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cluster.fairness import EQUAL, FairLine, Rate, Share
from cluster.placement import Fleet, Need, Never, Node, Placed, Wait, place

MOST_TRIED = 16
"""Waiters tried for one free place, where what they need differs: a large job in front must not hold up all."""


@dataclass(slots=True, eq=False)
class _Waiter:
    need: Need
    tenant: str
    interactive: bool
    turn: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Slots:
    """Waiting places in front of the pools and hosts."""

    def __init__(
        self,
        nodes: Callable[[], Sequence[Node] | Fleet],
        shares: Mapping[str, Share] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._nodes = nodes
        self._shares = shares or {}
        self._clock = clock
        self._lines: dict[str, FairLine[_Waiter]] = {}
        self._in_flight: Counter[str] = Counter()
        self._rates = {name: Rate(share.rate_per_s) for name, share in self._shares.items() if share.rate_per_s}
        self._timer: asyncio.TimerHandle | None = None

    async def take(self, need: Need, *, tenant: str, interactive: bool, timeout_s: float) -> Placed | Wait | Never:
        """A node with a free slot, or `Wait` when none came free in time, or `Never`.

        After `Placed` the caller must make the slot busy before its next await, and call `freed` once it is free again.
        """
        line = self._line(need)
        answer = place(need, self._nodes())
        if isinstance(answer, Never):
            return answer
        if isinstance(answer, Placed) and not line and self._may_go(tenant):
            line.take(tenant)
            self._went(tenant)
            return answer
        try:
            async with asyncio.timeout(timeout_s):
                return await self._wait(line, _Waiter(need, tenant, interactive))
        except TimeoutError:
            return answer if isinstance(answer, Wait) else Wait("other jobs are ahead in line")

    async def _wait(self, line: FairLine[_Waiter], waiter: _Waiter) -> Placed | Never:
        line.join(waiter.tenant, waiter, interactive=waiter.interactive)
        self._wake(line)  # whoever is in front may wait for its tenant's limit, and not for a slot
        self._arm()
        while True:
            try:
                await waiter.turn
            except asyncio.CancelledError:
                line.leave(waiter.tenant, waiter, interactive=waiter.interactive)
                if waiter.turn.done() and not waiter.turn.cancelled():
                    self.freed(waiter.need, waiter.tenant)  # the turn was given just now: it goes to the next in line
                raise
            answer = place(waiter.need, self._nodes())
            if isinstance(answer, Placed):
                return answer
            self._give_up_turn(line, waiter.tenant)
            if waiter.tenant in self._rates:
                self._rates[waiter.tenant].refund()
            if isinstance(answer, Never):
                self._wake(line)
                return answer
            # Whose turn came to nothing (the slot was taken on the way) keeps the place at the front.
            waiter.turn = asyncio.get_running_loop().create_future()
            line.join(waiter.tenant, waiter, interactive=waiter.interactive, front=True)

    def freed(self, need: Need, tenant: str) -> None:
        """A slot that this tenant held came free: wake the next in line."""
        line = self._line(need)
        was_full = not self._has_room(tenant)
        self._give_up_turn(line, tenant)
        for each in self._lines.values() if was_full else (line,):
            self._wake(each)

    def cluster_changed(self) -> None:
        """Pools or hosts came or went: all who may go and find a place are woken."""
        for line in self._lines.values():
            while self._wake(line):
                pass

    def waiting(self) -> Mapping[str, int]:
        """How many wait in each line now."""
        return {name: len(line) for name, line in self._lines.items()}

    def why(self, need: Need, tenant: str) -> tuple[str, int]:
        """Why somebody of this tenant waits for this need, and how many wait in that line."""
        line = self._line(need)
        share = self._shares.get(tenant, EQUAL)
        answer = place(need, self._nodes())
        if not self._has_room(tenant):
            reason = f"all {share.max_in_flight} jobs that tenant {tenant!r} may have in flight are under way"
        elif isinstance(answer, Wait | Never):
            reason = answer.reason
        elif not self._may_go(tenant):
            reason = f"tenant {tenant!r} is ahead of its rate of {share.rate_per_s:g} jobs a second"
        else:
            reason = "other jobs are ahead in line"
        return reason, len(line)

    def _line(self, need: Need) -> FairLine[_Waiter]:
        return self._lines.setdefault(line_of(need), FairLine(lambda name: self._shares.get(name, EQUAL).weight))

    def _wake(self, line: FairLine[_Waiter]) -> bool:
        """Give the turn to the first who may go and finds a place; those whose need is met nowhere are passed over.
        False: there was nobody."""
        unmet: list[Need] = []
        for tenant, interactive, waiter in line.order(self._may_go):
            if waiter.need in unmet:
                continue
            if not isinstance(place(waiter.need, self._nodes()), Wait):
                line.grant(tenant, waiter, interactive=interactive)
                self._went(tenant)
                waiter.turn.set_result(None)
                return True
            unmet.append(waiter.need)
            if len(unmet) >= MOST_TRIED:
                break
        return False

    def _has_room(self, tenant: str) -> bool:
        most = self._shares.get(tenant, EQUAL).max_in_flight
        return most is None or self._in_flight[tenant] < most

    def _may_go(self, tenant: str) -> bool:
        rate = self._rates.get(tenant)
        return self._has_room(tenant) and (rate is None or rate.ready_in_s(self._clock()) <= 0)

    def _went(self, tenant: str) -> None:
        self._in_flight[tenant] += 1
        if tenant in self._rates:
            self._rates[tenant].spend(self._clock())
            self._arm()

    def _give_up_turn(self, line: FairLine[_Waiter], tenant: str) -> None:
        line.release(tenant)
        self._in_flight[tenant] -= 1
        if not self._in_flight[tenant]:
            del self._in_flight[tenant]

    def _arm(self) -> None:
        """Wake those who wait for their tenant's rate alone: no slot that comes free would do it."""
        now_s = self._clock()
        waits_s = [
            wait_s
            for name, rate in self._rates.items()
            if (wait_s := rate.ready_in_s(now_s)) > 0 and any(line.has(name) for line in self._lines.values())
        ]
        if waits_s and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(min(waits_s), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.cluster_changed()  # several turns may have come due while the loop was busy
        self._arm()  # spent again, or not yet spent and woken by the next slot that comes free


def line_of(need: Need) -> str:
    """The line in which this need waits."""
    if need.sandbox is None:
        return f"database:{need.database}"
    return "sandbox" if need.sandbox.gpu is None else "gpu"
