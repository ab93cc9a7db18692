"""Ends a worker's process when nobody can reach it any more, so that it holds no connection over a database's budget.

A node counts as lost as soon as its raylet is gone, and its share of the connections then belongs to others; but Ray
leaves a worker alive while the raylet's remains wait to be reaped, as they do for ever in a container without an init.
So every actor of ours looks for itself, in a thread, whatever its event loop does. The end is abrupt on purpose: the
kernel closes the connections, servers stop statements whose client is gone (`workers.sql.spec`), and the reaper ends
the sandboxes of a host that died. Started by the actors in `workers.actors`, `workers.host_actor` and
`cluster.conductor`; decides nothing about work.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import structlog

log = structlog.get_logger("sandpool.lifeline")

LOOK_S = 0.5
SILENCE_S = 30.0
"""A pool that no scheduler has asked anything for so long is cut off: each asks every few seconds. Well above the time
in which Ray restarts a scheduler."""
EXIT_CODE = 71


def why_end(parent: int, parent_now: int, silent_s: float, longest_s: float | None) -> str:
    """Why this process shall end; empty while it shall not. `longest_s` None: silence means nothing."""
    if parent_now != parent:
        return "the raylet of this node is gone"
    if longest_s is not None and silent_s > longest_s:
        return f"no scheduler has been heard for {silent_s:.0f} s"
    return ""


class Lifeline:
    """Looks twice a second. `open_to`: whether somebody is connected just now, which counts as hearing them."""

    def __init__(
        self,
        *,
        longest_s: float | None = None,
        open_to: Callable[[], bool] = lambda: False,
        end: Callable[[int], object] = os._exit,
        look_s: float = LOOK_S,
    ) -> None:
        self._parent = os.getppid()
        self._longest_s = longest_s
        self._open_to = open_to
        self._end = end
        self._look_s = look_s
        self._heard = time.monotonic()
        self._let_go = threading.Event()
        threading.Thread(target=self._watch, name="lifeline", daemon=True).start()

    def heard(self) -> None:
        """A scheduler has asked something."""
        self._heard = time.monotonic()

    def let_go(self) -> None:
        """Look no more."""
        self._let_go.set()

    def _watch(self) -> None:
        while not self._let_go.wait(self._look_s):
            if self._open_to():
                self.heard()
            if reason := why_end(self._parent, os.getppid(), time.monotonic() - self._heard, self._longest_s):
                log.warning("this worker ends itself", reason=reason)
                self._end(EXIT_CODE)
                return
