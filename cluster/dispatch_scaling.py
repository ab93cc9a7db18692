"""Tells Ray's autoscaler how large the cluster should be, and rests idle nodes. Owned by `cluster.dispatch`.

What to ask for and which nodes may rest is `cluster.scaling`, a pure decision. Asks only when the answer has changed,
and takes its ask back when nothing is wanted any more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence

import structlog

from cluster import dispatch_nodes
from cluster.placement import SandboxNeed
from cluster.scaling import Demand, Growth, Piece, may_rest

log = structlog.get_logger("sandpool.scaling")

EVERY_S = 5.0


class Scaling:
    """`look` is called once a second and acts every few."""

    def __init__(
        self,
        growth: Growth,
        wanted: Callable[[], Sequence[SandboxNeed]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._growth = growth
        self._wanted = wanted
        self._clock = clock
        self._demand = Demand(growth.schedulers)
        self._asked: list[Piece] = []
        self._idle_since: dict[str, float] = {}
        self._next_s = 0.0

    async def look(self, idle: Collection[str], kept: Sequence[str]) -> tuple[list[str], bool]:
        """Which of the nodes that are `idle` now shall rest, and whether those that rest shall work again."""
        now = self._clock()
        if now < self._next_s:
            return [], False
        self._next_s = now + EVERY_S
        self._demand.see(self._wanted(), now)
        pieces = self._demand.pieces()
        if self._growth.speaks and pieces != self._asked:
            await asyncio.to_thread(
                dispatch_nodes.ask_for, [piece.bundle for piece in pieces], [dict(piece.labels) for piece in pieces]
            )
            log.info("asked for room", bundles=len(pieces))
            self._asked = pieces
        self._idle_since = {name: self._idle_since.get(name, now) for name in idle}
        idle_s = {name: now - since for name, since in self._idle_since.items()}
        return may_rest(idle_s, self._growth.rest_after_s, kept), bool(pieces)
