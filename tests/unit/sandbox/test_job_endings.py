"""How a job ended: the kernel's word goes before the session's, the session's before the code's.
`workers.sandbox.jobs.endings`."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandpool.outcome import Ending
from workers.sandbox.errors import RunnerLost
from workers.sandbox.jobs.endings import Facts, ending_of, ending_unread
from workers.sandbox.limits import Limits
from workers.sandbox.replies import Execution, Raised, RunUsage

LIMITS = Limits()


def execution(ending: Ending = Ending.Succeeded, **fields: Any) -> Execution:
    usage = RunUsage(wall_s=1, output_bytes=0)
    return Execution(ending=ending, stdout=b"", stderr=b"", usage=usage, **fields)


def raised(kind: str, message: str = "m") -> Execution:
    return execution(Ending.Failed, error=Raised(kind=kind, message=message))


def lost(kind: str) -> Execution:
    return execution(Ending.Failed, error=Raised(kind=kind, message="m"), lost=True)


@pytest.mark.parametrize(
    ("execution", "facts", "ending", "code"),
    [
        (execution(), Facts(), Ending.Succeeded, None),
        (execution(code=0), Facts(), Ending.Succeeded, None),
        (raised("ValueError"), Facts(), Ending.Failed, "code.raised"),
        (raised("MemoryError"), Facts(), Ending.OutOfMemory, "code.memory"),
        (execution(Ending.Failed, code=3), Facts(), Ending.Failed, "code.exit"),
        (execution(Ending.TimedOut), Facts(), Ending.TimedOut, "code.timeout"),
        (execution(Ending.OutputCapped), Facts(), Ending.OutputCapped, "output.text"),
        (lost("session.runner_lost"), Facts(ended=True), Ending.Failed, "code.ended_sandbox"),
        (lost("session.runner_lost"), Facts(ended=True, lost=True), Ending.Lost, "sandbox.lost"),
        (lost("session.runner_lost"), Facts(ended=True, out_of_memory=True), Ending.OutOfMemory, "code.memory"),
        (lost("session.protocol"), Facts(), Ending.Failed, "session.protocol"),
        (lost("session.runner_lost"), Facts(cancelled=True), Ending.Cancelled, "job.cancelled"),
        (raised("session.runner_lost"), Facts(), Ending.Failed, "code.raised"),
        (execution(Ending.TimedOut), Facts(out_of_memory=True), Ending.OutOfMemory, "code.memory"),
        (execution(Ending.Cancelled), Facts(), Ending.Failed, "code.raised"),
    ],
)
def test_each_way_to_end_has_its_own_ending_and_code(
    execution: Execution, facts: Facts, ending: Ending, code: str | None
) -> None:
    found, error = ending_of(execution, facts, LIMITS, 5.0)
    assert (found, error.code if error else None) == (ending, code)
    assert error is None or error.retryable is (ending is Ending.Lost)


@given(
    st.sampled_from(Ending),
    st.none() | st.builds(Raised, kind=st.sampled_from(["ValueError", "session.runner_lost", ""]), message=st.text()),
    st.none() | st.integers(-64, 255),
    st.builds(Facts, st.booleans(), st.booleans(), st.booleans(), st.booleans()),
)
def test_nothing_but_success_is_without_an_error(
    ending: Ending, error: Raised | None, code: int | None, facts: Facts
) -> None:
    found, info = ending_of(execution(ending, error=error, code=code), facts, LIMITS, 5.0)
    assert (info is None) is (found is Ending.Succeeded)
    assert not facts.cancelled or found is Ending.Cancelled


@pytest.mark.parametrize(
    ("facts", "ending", "code"),
    [
        (Facts(), Ending.Failed, "session.runner_lost"),
        (Facts(cancelled=True), Ending.Cancelled, "job.cancelled"),
        (Facts(ended=True, out_of_memory=True), Ending.OutOfMemory, "code.memory"),
        (Facts(ended=True, lost=True), Ending.Lost, "sandbox.lost"),
    ],
    ids=str,
)
def test_outputs_that_could_not_be_read_end_by_what_became_of_the_sandbox(
    facts: Facts, ending: Ending, code: str
) -> None:
    found, error = ending_unread(RunnerLost("gone"), facts, Limits())
    assert (found, error.code, error.retryable) == (ending, code, ending is Ending.Lost)
