"""Decides what may happen to a kept sandbox when: (state, event) -> next state. Pure; `kept` carries it out.

    Starting ── Done ──▶ Running ── Save ──▶ Saving ── Done / Failed ──▶ Running
                            │  ▲
                          Pause  └──────────────── Failed ── Pausing
                            ▼                                   ▲ │
                         Pausing ── Done ──▶ Paused ── Resume ──▶ Resuming ── Done ──▶ Running; Failed ──▶ Paused

From everywhere: Destroy and Lost lead to Ending, and Ending ends Gone. What is not in the table is refused, and the
refusal names the state.
"""

from __future__ import annotations

from enum import StrEnum

from workers.sandbox.errors import NotInThisState


class State(StrEnum):
    Starting = "starting"
    Running = "running"
    Saving = "saving"
    """A snapshot or a fork is taken; it goes on afterwards."""
    Pausing = "pausing"
    Paused = "paused"
    """On disk; nothing of it is in memory."""
    Resuming = "resuming"
    Ending = "ending"
    Gone = "gone"


class Event(StrEnum):
    Save = "be saved"
    Pause = "be paused"
    Resume = "be resumed"
    Copy = "be copied"
    Destroy = "be destroyed"
    Done = "be ready"
    Failed = "fail"
    Lost = "be lost"
    """It ended by itself, for its memory, or with its host."""


TABLE: dict[tuple[State, Event], State] = {
    (State.Starting, Event.Done): State.Running,
    (State.Starting, Event.Failed): State.Gone,
    (State.Running, Event.Save): State.Saving,
    (State.Saving, Event.Done): State.Running,
    (State.Saving, Event.Failed): State.Running,
    (State.Running, Event.Pause): State.Pausing,
    (State.Pausing, Event.Done): State.Paused,
    (State.Pausing, Event.Failed): State.Running,
    (State.Paused, Event.Pause): State.Paused,
    (State.Paused, Event.Copy): State.Paused,
    (State.Paused, Event.Resume): State.Resuming,
    (State.Resuming, Event.Done): State.Running,
    (State.Resuming, Event.Failed): State.Paused,
    (State.Running, Event.Resume): State.Running,
    (State.Ending, Event.Done): State.Gone,
    **{(state, Event.Destroy): State.Ending for state in State if state not in (State.Ending, State.Gone)},
    **{(state, Event.Lost): State.Ending for state in State if state not in (State.Paused, State.Ending, State.Gone)},
}
IN_MEMORY = frozenset({State.Running, State.Saving, State.Pausing})
"""A live sandbox belongs to it, and its promise counts."""


def after(state: State, event: Event) -> State:
    """The next state. Raises NotInThisState."""
    following = TABLE.get((state, event))
    if following is None:
        raise NotInThisState(f"a sandbox that is {state.value} cannot {event.value}", hint="`sandbox ls` shows states")
    return following


def allowed(state: State) -> list[Event]:
    """What may happen to it next."""
    return [event for event in Event if (state, event) in TABLE]
