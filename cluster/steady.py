"""What time it is, for whoever removes what is old: a clock that was set ahead makes nothing old at once.

Pure: the clocks are read by the caller (`cluster.sweeping`). Whatever began before the jump has ended once `settle_s`
have passed; then the new time is believed. A clock that was set back is believed at once: it only removes later.
"""

from __future__ import annotations

from datetime import datetime, timedelta

TOLERANCE = timedelta(seconds=60)
"""Between two readings: clocks are also set right little by little."""


class SteadyClock:
    """Of one process, read by one task."""

    def __init__(self, wall: datetime, passed_s: float, settle_s: float) -> None:
        self._settle_s = settle_s
        self._ahead_since_s: float | None = None
        self._wall, self._passed_s = wall, passed_s

    def now(self, wall: datetime, passed_s: float) -> datetime:
        """`wall`: what the clock says; `passed_s`: of the monotonic clock."""
        expected = self._wall + timedelta(seconds=passed_s - self._passed_s)
        if wall <= expected + TOLERANCE:
            self._believe(wall, passed_s)
            return wall
        if self._ahead_since_s is None:
            self._ahead_since_s = passed_s
        if passed_s - self._ahead_since_s < self._settle_s:
            return expected
        self._believe(wall, passed_s)
        return wall

    def _believe(self, wall: datetime, passed_s: float) -> None:
        self._wall, self._passed_s = wall, passed_s
        self._ahead_since_s = None
