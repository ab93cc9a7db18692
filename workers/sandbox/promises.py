"""Keeps count of what a host has promised: nothing is promised twice, and a promise holds until its sandbox is gone.

Called by `host` for every lease and kept sandbox; `capacity` decides. Whoever finds no room waits for sandboxes that
are being destroyed at this moment, and for nothing else: what is in use is somebody's for as long as it takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from workers.sandbox.capacity import Capacity, promised, why_full, why_never
from workers.sandbox.errors import HostFull, SpecInvalid
from workers.sandbox.limits import Limits

LEAVING_S = 5.0


class Promises:
    def __init__(self, total: Capacity, on_drop: Callable[[], None]) -> None:
        """`on_drop` is called when a promise is over: there is room then that was not there when the work ended."""
        self._total = total
        self._on_drop = on_drop
        self._made: dict[int, Limits] = {}
        self._last = 0
        self._leaving = 0
        self._changed = asyncio.Event()

    @property
    def taken(self) -> Capacity:
        return promised(self._made.values())

    async def make(self, limits: Limits) -> int:
        """The number of the promise. Raises HostFull; SpecInvalid when even the empty host has no such room."""
        if reason := why_never(self._total, limits):
            raise SpecInvalid("limits", reason)
        deadline_s = asyncio.get_running_loop().time() + LEAVING_S
        while reason := why_full(self._total, self.taken, limits):
            try:
                if not self._leaving:
                    raise TimeoutError
                self._changed.clear()
                async with asyncio.timeout_at(deadline_s):
                    await self._changed.wait()
            except TimeoutError:
                raise HostFull(reason, hint="try again later, or with smaller limits") from None
        self._last += 1
        self._made[self._last] = limits
        return self._last

    def drop(self, number: int) -> None:
        """It is over."""
        self._made.pop(number, None)
        self._changed.set()
        self._on_drop()

    def drop_after(self, number: int, ending: asyncio.Task[Any]) -> None:
        """It is over when this task is."""
        self._leaving += 1
        ending.add_done_callback(lambda _task: self._left(number))

    def _left(self, number: int) -> None:
        self._leaving -= 1
        self.drop(number)
