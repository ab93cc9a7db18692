"""`sandpool up` hears that it is to stop, and that a scheduler is back, whatever one call to a scheduler does.

Ray is stood in for by answers that come, fail or never come; real schedulers are killed in tests/e2e and tests/chaos.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from ray.exceptions import ActorUnavailableError, RayError

from cluster import conductor_states
from cluster.conductor_states import wait_until_up, watch
from cluster.errors import NotRunning

NEVER = "an answer that never comes"


class Scheduler:
    """Answers of an actor, one after the other, the last one for ever."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.state = self

    def remote(self) -> Any:
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture(autouse=True)
def _ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(answers: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        if answers[0] is NEVER:
            time.sleep(timeout)
            return [], answers
        return answers, []

    def get(answer: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr("cluster.conductor_states.ray.wait", wait)
    monkeypatch.setattr("cluster.conductor_states.ray.get", get)
    for name in ("POLL_S", "WATCH_S"):
        monkeypatch.setattr(conductor_states, name, 0.01)


def on_its_own(what: Callable[..., None], *args: Any) -> threading.Thread:
    thread = threading.Thread(target=what, args=args, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("what", [lambda *args: watch([args[0]], *args[1:]), wait_until_up])
def test_a_call_that_hangs_does_not_keep_up_from_stopping(what: Callable[..., None]) -> None:
    stop, scheduler = threading.Event(), Scheduler(NEVER)
    thread = on_its_own(what, scheduler, stop, lambda _: None)
    while not scheduler.asked:
        time.sleep(0.001)
    stop.set()
    thread.join(2)
    assert not thread.is_alive()


def test_a_call_that_hangs_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conductor_states, "ANSWER_TIMEOUT_S", 0.02)
    said: list[str] = []
    wait_until_up(Scheduler(NEVER, NEVER, "up"), threading.Event(), said.append)
    assert said == ["starting"]


def test_a_scheduler_that_is_restarted_is_told_once_when_it_goes_and_once_when_it_is_back() -> None:
    away = ActorUnavailableError("away", b"x" * 16)
    stop, said = threading.Event(), []

    def tell(state: str) -> None:
        said.append(state)
        if state == "up":
            stop.set()

    watch([Scheduler("up", away, away, "starting", "up")], stop, tell)
    assert said == ["restarting", "starting", "up"]


def test_a_scheduler_that_stays_silent_counts_as_gone() -> None:
    with pytest.raises(NotRunning, match="does not start again"):
        watch([Scheduler(RayError("away"))], threading.Event(), lambda _: None)
