"""Every error a caller of `sandpool` can see, and what each means for a retry.

    SandpoolError
    ├── UsageError (also ValueError)     the call or the job is wrong: change it, do not repeat it
    │   ├── InvalidJob                   a field is missing, of the wrong type or out of its range
    │   ├── InvalidEnvelope              bytes that are no job, outcome or control message of a version we know
    │   └── JobIdConflict                this job id was used before for different work
    ├── Unavailable                      something is down or slow: the same call may succeed later
    │   ├── BrokerUnavailable            the message broker refuses, is away, or did not confirm in time
    │   ├── OutcomeTimeout               no outcome within the caller's own time limit; the job goes on
    │   ├── JobUnknown                   nobody holds this job: it is queued, or was never submitted
    │   └── ResultUnavailable            the outcome is known, its data cannot be read now
    └── JobError                         the job ended, not well; carries the outcome
        ├── JobDenied  JobFailed  JobTimedOut  JobOutOfMemory
        └── JobOutputCapped  JobCancelled  JobLost

`error.retry` says whether repeating the same call can help. Errors carry data as attributes; messages say what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from sandpool.outcome import Outcome


class SandpoolError(Exception):
    """Root of every error raised by this distribution."""

    retry: ClassVar[bool] = False


class UsageError(SandpoolError, ValueError):
    """The caller's mistake; repeating the call repeats the error."""


class InvalidJob(UsageError):
    """A job that cannot be submitted. `field` names the culprit."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class InvalidEnvelope(UsageError):
    """Bytes that are not a message we understand.

    `code` is one of `oversized`, `malformed`, `version`, `kind`, `field`; dead letters carry it as their reason.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class JobIdConflict(UsageError):
    """The job id already names different work. `job_id` is that id; submit under a new one."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job id {job_id} was already used for different work; submit this job under a new id")
        self.job_id = job_id


class Unavailable(SandpoolError):
    """Something this call needs is away for now."""

    retry: ClassVar[bool] = True


class BrokerUnavailable(Unavailable):
    """The message broker refuses, is away, or did not confirm in time."""


class OutcomeTimeout(Unavailable):
    """No outcome within the caller's time limit. The job itself goes on; ask again or cancel it."""

    def __init__(self, job_id: str, timeout_s: float) -> None:
        super().__init__(f"job {job_id} has no outcome after {timeout_s:g} s; it goes on: wait again or cancel it")
        self.job_id = job_id
        self.timeout_s = timeout_s


class JobUnknown(Unavailable):
    """No scheduler holds the job and no ending of it is recorded. The message says what waits in the broker."""

    def __init__(self, job_id: str, reason: str) -> None:
        super().__init__(f"job {job_id}: {reason}")
        self.job_id = job_id


class ResultUnavailable(Unavailable):
    """The outcome is recorded, but its data cannot be read from here now."""


class JobError(SandpoolError):
    """The job has ended otherwise than `Succeeded`. `outcome` is the record."""

    def __init__(self, outcome: Outcome) -> None:
        error = outcome.error
        detail = f": {error.message}" if error else ""
        hint = f" ({error.hint})" if error and error.hint else ""
        super().__init__(f"job {outcome.job_id} ended {outcome.ending}{detail}{hint}")
        self.outcome = outcome


class JobDenied(JobError):
    """The policy or an admission rule refused the job; `outcome.verdict.rule` names the rule."""


class JobFailed(JobError):
    """The work itself failed; `outcome.error` says how."""


class JobTimedOut(JobError):
    """The deadline passed."""


class JobOutOfMemory(JobError):
    """The work needed more memory than its limit."""


class JobOutputCapped(JobError):
    """The result was larger than its row or byte limit; what was written before is there and marked partial."""


class JobCancelled(JobError):
    """Someone with the right to do so cancelled the job."""


class JobLost(JobError):
    """Every attempt lost its worker before it could end."""
