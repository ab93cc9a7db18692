"""How long each stage of an attempt took, measured where it happens and told with the attempt.

`Pool.run` and `run_task` collect them; whatever they call measures with `timed`, which costs some microseconds and
knows no tracing: spans are made of it by `cluster.observing`, so that no worker has to speak to a collector.
"""

from __future__ import annotations

import time
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


class timings:  # noqa: N801 - used as `with timings()`; a generator would cost twice as much, for every statement
    """`with`: what is `timed` in this task belongs to one attempt."""

    __slots__ = ("_token",)

    def __enter__(self) -> Timings:
        made = Timings()
        self._token = _current.set(made)
        return made

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)


class timed:  # noqa: N801
    """`with`: one stage, however it ends. Nothing is measured where no attempt collects."""

    __slots__ = ("_stage", "_started_s")

    def __init__(self, stage: str) -> None:
        self._stage = stage

    def __enter__(self) -> None:
        self._started_s = time.monotonic()

    def __exit__(self, *_: object) -> None:
        if (current := _current.get()) is not None:
            current.add(self._stage, self._started_s)
