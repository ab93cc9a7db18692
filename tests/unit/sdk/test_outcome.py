"""An outcome raises the error of its ending. `sandpool.outcome`."""

from __future__ import annotations

import msgspec
import pytest

from sandpool import errors
from sandpool.outcome import Ending, ErrorInfo
from tests.unit.sdk.samples import MINIMAL_OUTCOME

CLASSES = {
    Ending.Denied: errors.JobDenied,
    Ending.Failed: errors.JobFailed,
    Ending.TimedOut: errors.JobTimedOut,
    Ending.OutOfMemory: errors.JobOutOfMemory,
    Ending.OutputCapped: errors.JobOutputCapped,
    Ending.Cancelled: errors.JobCancelled,
    Ending.Lost: errors.JobLost,
}


def test_every_ending_but_one_has_its_own_error() -> None:
    assert {*CLASSES, Ending.Succeeded} == set(Ending)
    assert len(set(CLASSES.values())) == len(CLASSES)


@pytest.mark.parametrize(("ending", "cls"), CLASSES.items())
def test_an_ending_raises_its_error_with_what_to_do(ending: Ending, cls: type[errors.JobError]) -> None:
    info = ErrorInfo("x.y", "what happened", "what to do")
    outcome = msgspec.structs.replace(MINIMAL_OUTCOME, ending=ending, error=info)
    assert not outcome.succeeded
    for read in (outcome.raise_for_ending, outcome.table):
        with pytest.raises(cls, match=r"what happened \(what to do\)") as raised:
            read()
        assert raised.value.outcome is outcome


def test_a_success_raises_nothing() -> None:
    assert MINIMAL_OUTCOME.raise_for_ending() is MINIMAL_OUTCOME
