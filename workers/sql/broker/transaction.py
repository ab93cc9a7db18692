"""A session's transaction as the broker sees it. Pure.

BEGIN costs nothing: it is remembered, and sent together with the first statement that needs the server. So a client
that only opened a transaction holds no connection. A statement that the policy refuses aborts the transaction, as an
error of the server would; where the server has not heard of the transaction yet, that is remembered here too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from workers.sql.policy.session import Own

Settings = dict[str, str]


@dataclass(slots=True)
class Transaction:
    """At most one of `pending`, `is_failed` and `is_open` is set."""

    pending: Own | None = None
    """BEGIN was said, and the server has not heard of it."""
    is_failed: bool = False
    """It failed before the server heard of it."""
    is_open: bool = False
    """It was opened on the server, or the message that opens it is on its way."""
    had_error: bool = False
    """Something failed in it on the server: COMMIT will roll back."""
    saved: Settings | None = None
    """The session's settings when it began: ROLLBACK brings them back."""
    local: Settings = field(default_factory=dict)
    """What SET LOCAL said: in force until it ends. The server hears of it when it opens it."""

    @property
    def is_begun(self) -> bool:
        return self.is_open or self.is_failed or self.pending is not None

    def status(self, server: str) -> str:
        """What ReadyForQuery says, where the server said `server` last (I without one)."""
        if self.is_failed:
            return "E"
        if self.pending is not None:
            return "T"
        return "T" if self.is_open and server == "I" else server

    def begin(self, own: Own, settings: Settings) -> None:
        self.pending = own
        self.saved = dict(settings)
        self.local = {}

    def opened(self) -> None:
        """The message that opens it is on its way."""
        self.pending = None
        self.is_open = True
        self.had_error = False

    def forget_local(self, names: Iterable[str]) -> None:
        """SET or RESET without LOCAL: what SET LOCAL said of these is over."""
        for name in names:
            self.local.pop(name, None)

    def fail(self) -> None:
        """Refused before the server heard of it."""
        if self.pending is not None:
            self.pending = None
            self.is_failed = True

    def end(self, *, keeps: bool) -> Settings | None:
        """COMMIT (`keeps`) or ROLLBACK: the settings to go back to, if any."""
        back = None if keeps and not self.is_failed and not self.had_error else self.saved
        self.pending = self.saved = None
        self.is_failed = self.is_open = self.had_error = False
        self.local = {}
        return back
