"""What the sessions of a broker share: its services, and the door by which one identity comes in. Data and bookkeeping.

A door is one Unix socket: made for one tenant and one job (a sandbox, or a person's proxy). Who can connect to it is
that identity; nothing that a client says changes it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from workers.sql.broker.rulings import Rulings
from workers.sql.broker.trail import Trail
from workers.sql.lender import Lender


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of every session. Seconds and bytes."""

    statement_s: float = 300.0
    """A statement of the client; the server's own timeout is a little shorter."""
    idle_in_transaction_s: float = 60.0
    startup_s: float = 10.0
    """From connecting to being let in."""
    half_message_s: float = 30.0
    stalled_s: float = 60.0
    """How long a client may leave its results unread."""
    wait_s: float = 30.0
    """For a connection."""
    max_bytes: int = 0
    """Of one result; 0: no limit."""
    most_sessions: int = 250
    """At one door."""
    most_statements: int = 1000
    most_portals: int = 64
    most_buffered_bytes: int = 64 << 20
    """Unread messages of all sessions at one door."""


@dataclass(slots=True)
class Services:
    """What one broker offers to all of its sessions."""

    database: str
    lender: Lender
    limits: Limits
    pinned: dict[str, str]
    """Settings of every server connection, names in lower case."""
    writes: bool
    recover: Callable[[Any, bool, bool], None]
    """Take back a connection on which something may still be going on."""
    max_cost: float | None = None
    """The planner's estimate above which a statement is refused."""
    forced: dict[str, str] = field(default_factory=dict)
    """Settings of every session, whatever it says."""
    parameters: dict[str, str] = field(default_factory=dict)
    """What the server reports of itself."""


@dataclass(eq=False, slots=True)
class Door:
    """One identity, and its sessions."""

    tenant: str
    rulings: Rulings
    trail: Trail
    most_sessions: int
    sessions: dict[bytes, Any] = field(default_factory=dict)
    """By cancel key: only sessions of this door can be cancelled through it."""
    arriving: set[Any] = field(default_factory=set)
    """Connections that have not said who they are."""
    buffered_bytes: int = 0
    is_closing: bool = False

    @property
    def is_full(self) -> bool:
        return len(self.sessions) + len(self.arriving) > self.most_sessions

    def new_key(self) -> bytes:
        """A key that nobody else has: process id and secret, as the client sees them."""
        while (key := bytes([secrets.randbelow(127)]) + secrets.token_bytes(7)) in self.sessions:
            pass
        return key
