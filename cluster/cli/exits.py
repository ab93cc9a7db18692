"""Exit codes of the command line, which scripts may rely on (docs/cli.md lists them). Pure; called by every command."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from sandpool.outcome import Ending


class Exit(IntEnum):
    """One code per way a command can end; codes never change their meaning."""

    Ok = 0
    Incomplete = 1
    """Not everything that was asked for is well: a batch with a job that did not succeed, a check that found faults."""
    Usage = 2
    """The call, the job or the configuration is wrong."""
    Unavailable = 3
    """The broker or the scheduler is away."""
    GoesOn = 4
    """No outcome within the time that the caller would wait; the job goes on."""
    ResultUnavailable = 5
    """The ending is recorded, but records or data cannot be read, or the file cannot be written."""
    Unknown = 6
    """Nobody holds the job and no ending is recorded: it is queued, or was never submitted."""
    Denied = 10
    Failed = 11
    TimedOut = 12
    OutOfMemory = 13
    OutputCapped = 14
    Cancelled = 15
    Lost = 16
    Internal = 70
    """A fault of Sandpool itself; SANDPOOL_DEBUG=1 shows where."""
    Interrupted = 130


def exit_for(ending: Ending) -> Exit:
    """The code of one job's ending."""
    return Exit.Ok if ending is Ending.Succeeded else Exit[ending.name]


def exit_for_all(endings: Iterable[Ending]) -> Exit:
    """The code for many jobs: Ok only when all succeeded."""
    return Exit.Ok if all(ending is Ending.Succeeded for ending in endings) else Exit.Incomplete
