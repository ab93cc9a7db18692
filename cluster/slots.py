"""Who gets the next free slot: asks `cluster.fairness` whose turn it is and `cluster.placement` where, and wakes them.
Called by the scheduler only.

One line per database, one for sandboxes, one for sandboxes with a GPU. Bounded by the scheduler's prefetch: what cannot
wait here waits in the broker.

Whoever waits is woken in two ways. Promptly, by whoever tells of a change: `freed`, `cluster_changed`. And by a look at
every line once a second while somebody waits, for what nobody tells: a node that has rested long enough, a rate that
allows the next turn, a disk that somebody cleared. So a change that is told to nobody costs a second, never a job.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cluster.fairness import EQUAL, FairLine, Rate, Share
from cluster.placement import Fleet, Need, Never, Node, Placed, Wait, has_place, place

LOOK_S = 1.0
"""While somebody waits, every line is looked at this often, whatever is told."""
MOST_TRIED = 16
"""Different needs tried for one free place: a large job in front must not hold up all. The look at every line has no
such bound."""
HOLDS_S = 60.0
"""So long the first of a tenant's line that finds no place keeps those of its own tenant behind it, so that room for it
can gather; then they pass."""
MOST_BEHIND = 64
"""Of each tenant's line looked at behind its first."""


@dataclass(slots=True, eq=False)
class _Waiter:
    need: Need
    tenant: str
    interactive: bool
    since_s: float
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
        self._woken = 0
        """Waiters whose turn was given and who have not looked yet: what they will take still seems free."""
        self._to_look: set[str] = set()
        """Lines in which somebody may go on."""
        self._looking: asyncio.Handle | None = None
        self._thorough = False
        """This look tries every need, and tells those too whom no node can ever take: what costs more than the rest."""
        self._timer: asyncio.TimerHandle | None = None

    async def take(self, need: Need, *, tenant: str, interactive: bool, timeout_s: float) -> Placed | Wait | Never:
        """A node with a free slot, or `Wait` when none came free in time, or `Never`.

        After `Placed` the caller must make the slot busy before its next await, and call `freed` once it is free again.
        """
        line = self._line(need)
        answer = place(need, self._nodes())
        if isinstance(answer, Never):
            return answer
        if isinstance(answer, Placed) and not line and not self._woken and self._may_go(tenant):
            line.take(tenant)
            self._went(tenant)
            return answer
        try:
            async with asyncio.timeout(timeout_s):
                return await self._wait(line, _Waiter(need, tenant, interactive, self._clock()))
        except TimeoutError:
            return answer if isinstance(answer, Wait) else Wait("other jobs are ahead in line")

    async def _wait(self, line: FairLine[_Waiter], waiter: _Waiter) -> Placed | Never:
        line.join(waiter.tenant, waiter, interactive=waiter.interactive)
        self._look_soon([line_of(waiter.need)])  # whoever is in front may wait for its tenant's limit, not for a slot
        self._arm()
        while True:
            try:
                await waiter.turn
            except asyncio.CancelledError:
                line.leave(waiter.tenant, waiter, interactive=waiter.interactive)
                if waiter.turn.cancelled():
                    self._look_soon([line_of(waiter.need)])  # it may have held up those behind it
                else:
                    self._undo_turn(line, waiter)  # its turn came just now: it goes to the next in line
                raise
            answer = place(waiter.need, self._nodes())
            if isinstance(answer, Placed):
                self._woken -= 1
                return answer
            self._undo_turn(line, waiter)
            if isinstance(answer, Never):
                return answer
            # Whose turn came to nothing (the slot was taken on the way) keeps the place at the front.
            waiter.turn = asyncio.get_running_loop().create_future()
            line.join(waiter.tenant, waiter, interactive=waiter.interactive, front=True)

    def freed(self, need: Need, tenant: str) -> None:
        """What this tenant held came free: wake the next in line, and then whoever else finds room."""
        line = self._line(need)
        had_room = self._has_room(tenant)
        line.release(tenant)
        self._left(tenant)
        woken = self._wake(line)
        if not had_room:
            self._look_soon(self._lines)
        elif need.sandbox is not None or not woken:  # a slot of a database serves one, a sandbox's room maybe several
            self._look_soon(_lines_beside(need))

    def cluster_changed(self) -> None:
        """Pools or hosts came or went: all who may go and find a place are woken."""
        self._look_soon(self._lines)

    def waiting(self) -> Mapping[str, int]:
        """How many wait in each line now."""
        return {name: len(line) for name, line in self._lines.items()}

    def why(self, need: Need, tenant: str) -> tuple[str, int]:
        """Why somebody of this tenant waits for this need, and how many of this tenant wait in that line."""
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
        return reason, line.count(tenant)

    def _line(self, need: Need) -> FairLine[_Waiter]:
        return self._lines.setdefault(line_of(need), FairLine(lambda name: self._shares.get(name, EQUAL).weight))

    # ---- who is woken ----

    def _look_soon(self, lines: Iterable[str]) -> None:
        """Look at these lines once whoever has just been woken, or has just taken a slot, has made it busy."""
        self._to_look.update(lines)
        if self._looking is None:
            self._looking = asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        """One more turn in every line where somebody may go on, until there is nobody: one at a time, for what the one
        takes the next does not find."""
        self._looking = None
        if self._woken:
            return self._look_soon(())
        names, self._to_look = self._to_look, set()
        again = [name for name in names if name in self._lines and self._wake(self._lines[name])]
        if again:
            self._look_soon(again)
        else:
            self._thorough = False
        return None

    def _wake(self, line: FairLine[_Waiter]) -> bool:
        """Give the turn to the first who may go and finds a place; those whose need is met nowhere are passed over.
        False: there was nobody."""
        if not line:
            return False
        unmet: list[Need] = []
        for waiter in self._candidates(line):
            if waiter.need in unmet or waiter.turn.done():  # cancelled just now: it has not left yet
                continue
            nodes = self._nodes()
            if has_place(waiter.need, nodes) or (self._thorough and isinstance(place(waiter.need, nodes), Never)):
                line.grant(waiter.tenant, waiter, interactive=waiter.interactive)
                self._went(waiter.tenant)
                self._woken += 1
                waiter.turn.set_result(None)
                return True
            unmet.append(waiter.need)
            if waiter.need.sandbox is None or (len(unmet) >= MOST_TRIED and not self._thorough):
                break  # in the line of a database all need the same
        return False

    def _candidates(self, line: FairLine[_Waiter]) -> Iterator[_Waiter]:
        """The first of every tenant in the order of their turns; then who is behind one that has had its time."""
        held_s = self._clock() - HOLDS_S
        firsts = []
        for tenant, interactive, waiter in line.order(self._may_go):
            yield waiter
            firsts.append((tenant, interactive, waiter))
        for tenant, interactive, waiter in firsts:
            if waiter.since_s <= held_s:
                yield from itertools.islice(line.behind(tenant, interactive=interactive), MOST_BEHIND)

    # ---- what each tenant has ----

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

    def _left(self, tenant: str) -> None:
        self._in_flight[tenant] -= 1
        if not self._in_flight[tenant]:
            del self._in_flight[tenant]

    def _undo_turn(self, line: FairLine[_Waiter], waiter: _Waiter) -> None:
        """A turn came to nothing: as if it had not been given. What it kept from others, also in other lines, is
        theirs."""
        self._woken -= 1
        line.undo(waiter.tenant)
        self._left(waiter.tenant)
        if waiter.tenant in self._rates:
            self._rates[waiter.tenant].refund()
        self._look_soon(self._lines)

    # ---- what nobody tells ----

    def _arm(self) -> None:
        """Look again in a while, as long as somebody waits; when a rate allows the next turn, then."""
        now_s = self._clock()
        waits_s = [
            wait_s
            for name, rate in self._rates.items()
            if (wait_s := rate.ready_in_s(now_s)) > 0 and any(line.has(name) for line in self._lines.values())
        ]
        loop = asyncio.get_running_loop()
        at_s = loop.time() + min([LOOK_S, *waits_s])
        if self._timer is not None and self._timer.when() > at_s:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = loop.call_at(at_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        waiting = [name for name, line in self._lines.items() if line]
        if waiting:
            self._thorough = True
            self._look_soon(waiting)
            self._arm()


def line_of(need: Need) -> str:
    """The line in which this need waits."""
    if need.sandbox is None:
        return f"database:{need.database}"
    return "sandbox" if need.sandbox.gpu is None else "gpu"


def _lines_beside(need: Need) -> tuple[str, ...]:
    """The lines of those who need what this one had: a sandbox with a GPU has CPUs and memory too."""
    return (line_of(need),) if need.sandbox is None else ("sandbox", "gpu")
