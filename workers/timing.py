"""How long each stage of an attempt took, measured where it happens and told with the attempt.

`Pool.run` and `run_task` collect them; whatever they call measures with `timed`, which costs some microseconds and
knows no tracing: spans are made of it by `cluster.observing`, so that no worker has to speak to a collector.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from workers.attempt import Timing

MOST = 16
"""Of one attempt; what comes then is not told."""


class Timings:
    """Of the attempt that begins now."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self._stages: list[Timing] = []

    def add(self, stage: str, started_s: float) -> None:
        """This stage, which began at that moment of the monotonic clock, is over."""
        if len(self._stages) < MOST:
            took_s = time.monotonic() - started_s
            self._stages.append(Timing(stage, round(started_s - self._began_s, 6), round(took_s, 6)))

    @property
    def stages(self) -> tuple[Timing, ...]:
        return tuple(self._stages)


_current: ContextVar[Timings | None] = ContextVar("timings", default=None)


@contextmanager
def timings() -> Iterator[Timings]:
    """`with`: what is `timed` in this task belongs to one attempt."""
    made = Timings()
    token = _current.set(made)
    try:
        yield made
    finally:
        _current.reset(token)


@contextmanager
def timed(stage: str) -> Iterator[None]:
    """`with`: one stage, however it ends. Nothing is measured where no attempt collects."""
    started_s = time.monotonic()
    try:
        yield
    finally:
        if (current := _current.get()) is not None:
            current.add(stage, started_s)
