"""What a client of the broker can be told in place of a result, each with its SQLSTATE.

    Trouble            the message cannot be carried out; the session goes on
    └── Fatal          the session ends with it

Raised by the pure parts of this package; `session` turns them into ErrorResponse. Codes are PostgreSQL's own
(https://www.postgresql.org/docs/current/errcodes-appendix.html), so that drivers map them to the classes they know.
"""

from __future__ import annotations

from workers.errors import (
    DatabaseRefusesRole,
    DatabaseUnavailable,
    PoolBusy,
    PoolClosed,
    WorkerError,
)


class Trouble(Exception):
    """One ErrorResponse. The message is shown to the client: no value, no DSN, no host name."""

    severity = "ERROR"

    def __init__(self, sqlstate: str, message: str, *, hint: str = "", rule: str = "") -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.message = message
        self.hint = hint
        self.rule = rule


class Fatal(Trouble):
    severity = "FATAL"


def trouble_of(error: WorkerError) -> Trouble:
    """What a client is told when no connection could be had."""
    match error:
        case PoolBusy():
            return Trouble("53300", error.message, hint="close transactions early, or ask for a larger budget")
        case PoolClosed():
            return Trouble("57P01", "the broker is shutting down", hint="connect again")
        case DatabaseRefusesRole():
            return Trouble("28000", "the database refuses the broker's role", hint="`sandpool database check` says why")
        case DatabaseUnavailable():
            return Trouble(error.sqlstate or "08006", error.message, hint="try again")
        case _:
            return Trouble("58000", error.message, hint=error.hint)
