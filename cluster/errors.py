"""What can go wrong in the conductor itself (work that goes wrong is in workers/errors.py).

ClusterError
├── SettingsInvalid      the configuration file cannot be used; names file, key and fix
├── WorkerLost  (retry)  the actor that ran an attempt died or stopped answering
├── NotRunning           no scheduler is up where one is needed
├── RayNotStarted        Ray was not up in its own time, or not at all
└── SandboxRefused       a host could not do what was asked with a kept sandbox; `code` is its error's
"""

from __future__ import annotations

from typing import ClassVar


class ClusterError(Exception):
    """Root."""

    retry: ClassVar[bool] = False


class SettingsInvalid(ClusterError):
    """The configuration cannot be used. The message has one line for each mistake."""


class WorkerLost(ClusterError):
    """The worker that ran an attempt is gone; whatever it did is not recorded."""

    retry: ClassVar[bool] = True


class NotRunning(ClusterError):
    """Nothing answers: start it with `sandpool up`."""


class RayNotStarted(ClusterError):
    """Ray's own processes were not up within the half minute that Ray gives them, or ended: starting again may do."""


class SandboxRefused(ClusterError):
    """What a host answered: `code` is the stable id of its error, `hint` what to do."""

    def __init__(self, code: str, message: str, hint: str, *, retry: bool) -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint
        self.again = retry
