"""What can go wrong with a private local server.

LocalServiceError
├── ServiceMissing    the server's programs are not installed; says how to get them
└── ServiceFailed     it did not start, did not answer in time, or refused a command; carries the end of its log
"""

from __future__ import annotations


class LocalServiceError(Exception):
    """Root of every error raised by `cluster.local`."""


class ServiceMissing(LocalServiceError):
    """A program is not installed. `service` names it, `remedy` says how to get it."""

    def __init__(self, service: str, remedy: str) -> None:
        super().__init__(f"{service} is not installed on this machine: {remedy}")
        self.service = service
        self.remedy = remedy


class ServiceFailed(LocalServiceError):
    """A server that is installed does not do its work. `log_tail` is the end of what it wrote."""

    def __init__(self, service: str, message: str, log_tail: str = "") -> None:
        super().__init__(f"{service}: {message}" + (f"\n--- end of its log ---\n{log_tail}" if log_tail else ""))
        self.service = service
        self.log_tail = log_tail
