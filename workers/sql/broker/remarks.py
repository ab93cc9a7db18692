"""What a client may read of the server's errors and notices. Pure.

The server's words can quote values of rows that the client may not see, and positions in a text that is not the
client's: SQLSTATE and severity stay, the message is rebuilt by the rules of jobs (`faults`), the rest is left out.
"""

from __future__ import annotations

import re

from workers.sql.broker.errors import Trouble
from workers.sql.broker.frames import error_response, fields_of
from workers.sql.faults import safe_message

_COUNT = re.compile(
    r"bind message (?:supplies|has) \d+ [a-z ]*,? ?but "
    r'(?:prepared statement "[^"]*" requires \d+|\d+ parameters|query has \d+ columns)'
)
_NAMELESS = re.compile(r'prepared statement "[^"]*" requires')
_GONE = {
    "57P01": "the server ended the connection: it is shutting down or restarting",
    "57P02": "the server ended the connection: it crashed",
    "57P03": "the server is starting up or shutting down",
    "25P03": "the transaction was open without doing anything for too long",
}


def trouble_of_server(body: bytes, sql: str) -> Trouble:
    """The server's error as a client may see it."""
    fields = fields_of(body)
    sqlstate, said = fields.get("C", "XX000"), fields.get("M", "")
    if sqlstate in _GONE:
        return Trouble(sqlstate, _GONE[sqlstate], hint="try again")
    if sqlstate == "57014":
        reason = "statement timeout" if "timeout" in said else "user request"
        return Trouble(sqlstate, f"canceling statement due to {reason}")
    if sqlstate == "08P01" and (count := _COUNT.search(said)):
        return Trouble(sqlstate, _NAMELESS.sub("the statement requires", count.group()))
    return Trouble(sqlstate, safe_message(sqlstate, said, sql))


def shown_error(body: bytes, sql: str = "") -> tuple[bytes, str]:
    """ErrorResponse for the client, and its SQLSTATE. Never FATAL: losing a server connection does not end a
    session."""
    trouble = trouble_of_server(body, sql)
    return error_response(trouble), trouble.sqlstate


def shown_notice(body: bytes) -> bytes:
    """NoticeResponse for the client; empty where nothing may be said."""
    fields = fields_of(body)
    sqlstate = fields.get("C", "00000")
    if sqlstate[:2] not in ("25", "42", "01"):
        return b""
    return error_response(Trouble(sqlstate, safe_message("42000", fields.get("M", ""), "")), kind=b"N")
