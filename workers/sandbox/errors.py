"""Every way in which a sandbox can go wrong on its host. What the code *inside* does wrong is an ending, not an error.

    SandboxError (a WorkerError)
    ├── SandboxingUnavailable              this machine cannot run sandboxes; the message says what to do
    │   ├── RunscMissing                   runsc is not installed
    │   ├── RunscUnsuitable                runsc is too old, or answers something else than its version
    │   └── NotPermitted                   not root, or the cgroups cannot be written
    ├── SpecInvalid                        a limit, mount, command or name that no sandbox can have
    ├── HostFull                  (retry)  no room on this host now; another one may have some
    ├── HostClosed                (retry)  this host is draining, closed, or not open yet
    ├── UnknownSandbox                     no sandbox of this id (any more), or not this tenant's
    ├── NotInThisState                     the sandbox is paused, being saved, ...: the message says what it allows
    ├── DatabaseUnreachable                this host has no way to a database that the sandbox shall reach
    ├── SandboxEnded                       it ended while a command ran in it; its usage says whether for memory
    ├── RunscFailed               (retry)  runsc ended with an error; `detail` is what it said
    ├── RunscHung                 (retry)  runsc did not end within its deadline and was killed
    ├── ReaperLost                (retry)  the process that owns the sandboxes of this host is gone
    ├── SessionError                       talking to the runner inside
    │   ├── RunnerAbsent          (retry)  it did not connect, or did not answer, within the deadline
    │   ├── RunnerLost                     its connection ended: it died, was killed, or the sandbox is gone
    │   ├── ProtocolBroken                 it said what no runner says; the session is over
    │   ├── SessionBusy                    something runs that must end first
    │   └── FileRefused                    that file cannot be read, written or listed; `reason` names the errno
    └── SnapshotError
        ├── CheckpointRefused              the sandbox holds something that cannot be saved (a host connection)
        ├── SnapshotSpaceExhausted (retry) no room on disk; nothing was written and the sandbox goes on
        └── SnapshotUnusable               made by another runsc or for another CPU, or damaged: rebuild it

Messages may reach a tenant: no host paths, no host names. `detail` is for the operator's log.
"""

from __future__ import annotations

from workers.errors import WorkerError


class SandboxError(WorkerError):
    """Root. `detail` is what the host's own programs said: for logs, never for tenants."""

    code = "sandbox.failed"

    def __init__(self, message: str, *, hint: str = "", detail: str = "") -> None:
        super().__init__(message, hint=hint)
        self.detail = detail


class SandboxingUnavailable(SandboxError):
    code = "sandbox.unavailable"


class RunscMissing(SandboxingUnavailable):
    code = "sandbox.runsc_missing"


class RunscUnsuitable(SandboxingUnavailable):
    code = "sandbox.runsc_version"


class NotPermitted(SandboxingUnavailable):
    code = "sandbox.permission"


class SpecInvalid(SandboxError):
    """`field` names the culprit."""

    code = "sandbox.spec"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class HostFull(SandboxError):
    code = "host.full"
    retry = True


class HostClosed(SandboxError):
    code = "host.closed"
    retry = True


class UnknownSandbox(SandboxError):
    code = "sandbox.unknown"


class NotInThisState(SandboxError):
    code = "sandbox.state"


class SandboxEnded(SandboxError):
    code = "sandbox.ended"


class RunscFailed(SandboxError):
    """`command` is runsc's verb, `exit_code` what it ended with."""

    code = "sandbox.runsc_failed"
    retry = True

    def __init__(self, command: str, exit_code: int, detail: str) -> None:
        super().__init__(f"the sandbox host failed to {command} the sandbox", detail=detail)
        self.command = command
        self.exit_code = exit_code

    def __str__(self) -> str:
        return f"{self.message} (exit {self.exit_code}): {self.detail}"


class RunscHung(SandboxError):
    code = "sandbox.runsc_hung"
    retry = True

    def __init__(self, command: str, timeout_s: float, detail: str = "") -> None:
        super().__init__(f"the sandbox host did not {command} the sandbox within {timeout_s:g} s", detail=detail)
        self.command = command
        self.timeout_s = timeout_s


class ReaperLost(SandboxError):
    code = "sandbox.reaper_lost"
    retry = True


class SessionError(SandboxError):
    """What was asked of the sandbox may or may not have happened."""

    code = "session.failed"


class RunnerAbsent(SessionError):
    code = "session.runner_absent"
    retry = True


class RunnerLost(SessionError):
    code = "session.runner_lost"


class ProtocolBroken(SessionError):
    code = "session.protocol"

    def __init__(self, what: str, *, detail: str = "") -> None:
        super().__init__(f"the sandbox sent {what}", detail=detail)


class SessionBusy(SessionError):
    code = "session.busy"


class FileRefused(SessionError):
    """`reason` is the name of an errno, for example ENOENT."""

    code = "session.file"

    def __init__(self, path: str, reason: str, message: str) -> None:
        super().__init__(f"{path[:200]}: {message} ({reason})")
        self.reason = reason


class SnapshotError(SandboxError):
    code = "snapshot.failed"


class CheckpointRefused(SnapshotError):
    code = "snapshot.refused"


class SnapshotSpaceExhausted(SnapshotError):
    code = "snapshot.space"
    retry = True


class SnapshotUnusable(SnapshotError):
    code = "snapshot.unusable"


class DatabaseUnreachable(SandboxError):
    code = "database.unreachable"
