"""Who gets the next free slot of a pool or host: interactive jobs first, then by arrival. Called by the scheduler only.

Bounded by the scheduler's prefetch: what cannot wait here waits in the broker.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from cluster.placement import Need, Never, Node, Placed, Wait, place

Line = deque[asyncio.Future[None]]


class Slots:
    """Waiting places in front of pools and hosts: one line per `line_of` and priority."""

    def __init__(self, nodes: Callable[[], Sequence[Node]]) -> None:
        self._nodes = nodes
        self._lines: dict[str, tuple[Line, Line]] = {}

    async def take(self, need: Need, *, interactive: bool, timeout_s: float) -> Placed | Wait | Never:
        """A node with a free slot, or `Wait` when none came free in time, or `Never`.

        The caller must make the slot busy before its next await, and call `freed` once it is free again.
        """
        answer = place(need, self._nodes())
        lines = self._lines.setdefault(line_of(need), (deque(), deque()))
        if not isinstance(answer, Wait) and not any(lines):
            return answer
        line = lines[0 if interactive else 1]
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._wait(need, line)
        except TimeoutError:
            return answer if isinstance(answer, Wait) else Wait("other jobs are ahead in line")
        return answer

    async def _wait(self, need: Need, line: Line) -> Placed | Never:
        first = True
        while True:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            # Someone whose turn came to nothing (the slot was taken on the way) keeps the place at the front.
            (line.append if first else line.appendleft)(turn)
            first = False
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self.freed(need)  # the turn was given just now: it goes to the next in line
                raise
            finally:
                if turn in line:
                    line.remove(turn)
            answer = place(need, self._nodes())
            if not isinstance(answer, Wait):
                return answer

    def freed(self, need: Need) -> None:
        """What met this need came free: wake the next in line."""
        for line in self._lines.get(line_of(need), ()):
            while line:
                turn = line.popleft()
                if not turn.done():
                    turn.set_result(None)
                    return

    def cluster_changed(self) -> None:
        """Pools came or went: everyone in line looks again."""
        for lines in self._lines.values():
            for turn in (*lines[0], *lines[1]):
                if not turn.done():
                    turn.set_result(None)


def line_of(need: Need) -> str:
    """The line in which this need waits: one per database, one for sandboxes, one for those with a GPU."""
    if need.sandbox is None:
        return f"database:{need.database}"
    return "sandbox" if need.sandbox.gpu is None else "gpu"
