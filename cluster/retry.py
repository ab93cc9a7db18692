"""Another attempt, or is this the ending? Pure: (how the attempt ended, how many there were) -> Final or Again.

The class of the error decides (`error.retryable`), never its text. Delays grow exponentially with full jitter between
half and the whole delay (AWS Architecture Blog, "Exponential Backoff And Jitter"), so that jobs failed by one outage
do not come back as one herd.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sandpool.outcome import Ending
from workers.attempt import Attempt

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 120.0
NOT_BEGUN = frozenset({"pool.closed", "pool.busy", "host.full", "host.closed", "gpu.busy"})
"""The worker handed the work back before it began: that is waiting, not an attempt, and uses none up."""


@dataclass(frozen=True, slots=True)
class Final:
    """Record this attempt's ending as the job's."""


@dataclass(frozen=True, slots=True)
class Again:
    """Try once more after `delay_s`; `code` goes into the job's history."""

    delay_s: float
    code: str


def decide(
    attempt: Attempt, number: int, max_attempts: int, deadline: datetime | None, now: datetime, jitter: float
) -> Final | Again:
    """What follows attempt `number` (from 1). `jitter` is a uniform random number in [0, 1)."""
    if attempt.error is not None and attempt.error.code in NOT_BEGUN:
        return Again(backoff_s(1, jitter), f"placement.{attempt.error.code}")
    retryable = attempt.ending is Ending.Lost or (attempt.error is not None and attempt.error.retryable)
    if not retryable or number >= max_attempts:
        return Final()
    delay_s = backoff_s(number, jitter)
    if deadline is not None and now + timedelta(seconds=delay_s) >= deadline:
        return Final()
    return Again(delay_s, attempt.error.code if attempt.error else "worker.lost")


def backoff_s(number: int, jitter: float) -> float:
    """Delay after attempt `number`: 1 s, 2 s, 4 s ... 120 s, of which a random half is taken away at most."""
    whole_s = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(number - 1, 30))
    return whole_s * (0.5 + 0.5 * jitter)
