"""What `sandpool up` sees of its schedulers: their states, asked again and again until it is told to stop.

A call that is under way when its actor dies can hang for good: Ray's own timers are of the wall clock, and stand still
when that was set back. So no call is waited for longer than a moment without a look at `stop`, and one that brings no
answer in time is made again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from cluster.errors import NotRunning, SettingsInvalid

POLL_S = 0.5
ANSWER_TIMEOUT_S = 10.0
"""An actor that is alive answers at once."""
WATCH_S = 5.0
MOST_SILENT = 12
"""Looks in a row without an answer after which a scheduler counts as gone; Ray restarts one within seconds."""


def wait_until_up(actor: Any, stop: threading.Event, on_state: Callable[[str], None]) -> None:
    """Until this scheduler is up or `stop` is set. Raises SettingsInvalid, NotRunning."""
    said, silent = "", 0
    while not stop.is_set():
        try:
            state, silent = _ask(actor, stop), 0
        except SettingsInvalid:
            raise
        except GetTimeoutError as error:
            state, silent = "starting", silent + 1
            if silent > MOST_SILENT:
                raise NotRunning(f"the scheduler does not start: {error}") from error
        except RayError as error:
            raise NotRunning(f"the scheduler does not start: {error}") from error
        if state == "up":
            return
        if state != said and not stop.is_set():
            said = state
            on_state(state)
        stop.wait(POLL_S)


def watch(actors: Sequence[Any], stop: threading.Event, on_state: Callable[[str], None]) -> None:
    """Until it is time to stop: say what becomes of a scheduler that Ray restarts. Raises NotRunning if it cannot."""
    said, silent = "up", [0] * len(actors)
    while not stop.wait(WATCH_S):
        states = []
        for index, actor in enumerate(actors):
            try:
                state, silent[index] = _ask(actor, stop), 0
            except RayError as error:
                silent[index] += 1
                if isinstance(error, RayTaskError) or silent[index] > MOST_SILENT:
                    raise NotRunning(f"a scheduler ended and does not start again: {error}") from error
                state = "restarting"
            states.append(state)
        worst = next((state for state in states if state != "up"), "up")
        if worst != said and not stop.is_set():
            said = worst
            on_state(worst)


def _ask(actor: Any, stop: threading.Event) -> str:
    """The state of this scheduler; empty when `stop` was set first. Raises RayError, and what the actor raised."""
    answer = actor.state.remote()
    deadline_s = time.monotonic() + ANSWER_TIMEOUT_S
    while not stop.is_set():
        if ray.wait([answer], timeout=POLL_S)[0]:
            return str(ray.get(answer))
        if time.monotonic() > deadline_s:
            raise GetTimeoutError(f"no answer within {ANSWER_TIMEOUT_S:g} s")
    return ""
