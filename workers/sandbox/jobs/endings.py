"""How did it end? Pure: (what the session saw, what the kernel says, what was asked) -> ending and error.

Called by `run`. The kernel's word goes before the session's, and the session's before the code's: a sandbox that was
killed for its memory only looks like a connection that broke.
"""

from __future__ import annotations

from dataclasses import dataclass

from sandpool.outcome import Ending, ErrorInfo
from workers.errors import WorkerError
from workers.sandbox.limits import MIB, Limits
from workers.sandbox.replies import Execution

LOST = "sandbox.lost"


@dataclass(frozen=True, slots=True)
class Facts:
    """What the kernel and the host know of the sandbox after the code."""

    cancelled: bool = False
    """The job was cancelled; then the sandbox was killed."""
    ended: bool = False
    """The sandbox itself is gone."""
    out_of_memory: bool = False
    lost: bool = False
    """It ended from outside, not by what ran in it."""


def ending_of(execution: Execution, facts: Facts, limits: Limits, timeout_s: float) -> tuple[Ending, ErrorInfo | None]:
    """The attempt's ending, with an error unless it is Succeeded."""
    raised = execution.error
    over = execution.lost  # never by the kind of its error: code may call its own whatever it likes
    if facts.cancelled:
        return Ending.Cancelled, ErrorInfo("job.cancelled", "cancelled while it ran")
    if facts.out_of_memory and (over or execution.ending is not Ending.Succeeded):
        return _memory(limits)
    if execution.ending is Ending.OutputCapped:
        message = f"more than {limits.output_bytes} bytes of output, or results too large to take"
        return Ending.OutputCapped, ErrorInfo("output.text", message, "write less, or files that `outputs` names")
    if execution.ending is Ending.TimedOut:
        return Ending.TimedOut, ErrorInfo("code.timeout", f"ran longer than {timeout_s:g} s", "raise timeout_s")
    if over and raised is not None:
        return _over(raised.kind, raised.message, facts)
    if raised is not None and raised.kind == "MemoryError":
        return _memory(limits)
    if raised is not None:
        text = f"{raised.kind}: {raised.message}" if raised.message else raised.kind
        return Ending.Failed, ErrorInfo("code.raised", text[:1000])
    if execution.code:
        how = f"ended by signal {-execution.code}" if execution.code < 0 else f"exit status {execution.code}"
        return Ending.Failed, ErrorInfo("code.exit", how)
    if execution.ending is Ending.Cancelled:
        return Ending.Failed, ErrorInfo("code.raised", "KeyboardInterrupt")
    return Ending.Succeeded, None


def ending_unread(error: WorkerError, facts: Facts, limits: Limits) -> tuple[Ending, ErrorInfo]:
    """Of code that had ended, when what it left could not be had from its sandbox."""
    if facts.cancelled:
        return Ending.Cancelled, ErrorInfo("job.cancelled", "cancelled while its outputs were read")
    if facts.out_of_memory:
        return _memory(limits)
    if facts.lost:
        return Ending.Lost, ErrorInfo(LOST, "the sandbox was ended from outside", retryable=True)
    return Ending.Failed, error.info()


def _over(kind: str, message: str, facts: Facts) -> tuple[Ending, ErrorInfo]:
    if facts.lost:
        return Ending.Lost, ErrorInfo(LOST, "the sandbox was ended from outside", retryable=True)
    if kind == "session.runner_lost" or facts.ended:
        hint = "something in it killed or replaced the process that runs it"
        return Ending.Failed, ErrorInfo("code.ended_sandbox", "the code ended the sandbox that it ran in", hint)
    return Ending.Failed, ErrorInfo(kind, message)


def _memory(limits: Limits) -> tuple[Ending, ErrorInfo]:
    message = f"needed more than its {limits.memory_bytes // MIB} MiB of memory, files in memory included"
    return Ending.OutOfMemory, ErrorInfo("code.memory", message, "raise limits.memory_bytes, or use less at once")
