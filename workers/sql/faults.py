"""Translates what the PostgreSQL drivers raise into workers.errors. The fence: nothing of a driver passes it.

Called wherever `session`, `bulk` and `pool` talk to a server. Messages go to the tenant, and engine messages can quote
row values (`invalid input syntax for type integer: "<a cell>"`), so they are rebuilt: the SQLSTATE's condition name,
the server's own words only where they describe the statement, quoted fragments only where the statement itself
contains them, never DETAIL, HINT, CONTEXT, host names or DSNs.
"""

from __future__ import annotations

import re

import adbc_driver_manager
import asyncpg

from workers.errors import (
    DatabaseError,
    DatabaseRefusesRole,
    DatabaseUnavailable,
    InvalidParameter,
    StatementConflict,
    StatementFailed,
    StatementTimedOut,
    UnrepresentableValue,
    WorkerError,
)

_CONDITIONS: dict[str, str] = {}
for _class in vars(asyncpg.exceptions).values():
    if isinstance(_class, type) and issubclass(_class, asyncpg.PostgresError) and getattr(_class, "sqlstate", None):
        _words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", _class.__name__.removesuffix("Error")).lower()
        _CONDITIONS.setdefault(_class.sqlstate, _words)

# Not one statement's fault: the server is starting, stopping, full or gone, or the connection broke.
_UNAVAILABLE = {
    "53000",
    "53100",
    "53300",
    "57000",
    "57P01",
    "57P02",
    "57P03",
    "57P05",
    "25P03",
    "40003",
    "58000",
    "58030",
}
_CONFLICT = {"40000", "40001", "40P01", "55P03"}
_ROLE = {"28000", "28P01", "3D000", "0LP01"}
# Conditions about the statement's text, whose messages name types, tables, columns and functions.
_DESCRIPTIVE_CLASSES = ("0A", "21", "25", "3B", "3F", "42", "44", "54")
_QUOTED = re.compile(r'"((?:[^"]|"")*)"|\'((?:[^\']|\'\')*)\'')
_PARAMETER = re.compile(r"\$([0-9]+)")
_TYPE_NAME = re.compile(r"\bfor (?:type|enum) [a-z][a-z0-9_ ]*(?=:|$|\()")


def translate(error: BaseException, sql: str = "") -> WorkerError:
    """The worker error for anything that a driver, a socket or a result raised while `sql` ran."""
    if isinstance(error, WorkerError):
        return error
    sqlstate = getattr(error, "sqlstate", None)
    if isinstance(error, asyncpg.PostgresError) and (parameter := _parameter_of(error)):
        return InvalidParameter(
            f"parameter ${parameter} has no value of the type the statement declares",
            hint="pass the value as JSON or as PostgreSQL's text form of it, or cast the parameter in the statement",
            sqlstate=sqlstate or "",
        )
    if isinstance(error, asyncpg.PostgresError | adbc_driver_manager.Error) and sqlstate and sqlstate != "XX000":
        return from_sqlstate(sqlstate, server_message(error), sql, constraint=getattr(error, "constraint_name", None))
    if isinstance(error, TimeoutError | OSError | asyncpg.PostgresConnectionError):
        return DatabaseUnavailable("the database does not answer in time or refuses the connection")
    if isinstance(error, asyncpg.InternalClientError):
        return DatabaseUnavailable("the connection to the database is in an unknown state and was closed")
    if isinstance(error, asyncpg.UnsupportedClientFeatureError):
        return StatementFailed(
            "a type in this statement has no transfer form", hint="select it as text: CAST(x AS text)"
        )
    if isinstance(error, asyncpg.ClientConfigurationError):
        return DatabaseRefusesRole("the database's address (DSN) is not usable", hint="check it in the configuration")
    if isinstance(error, asyncpg.InterfaceError):
        return DatabaseUnavailable("the connection to the database was lost")
    if isinstance(error, UnicodeError):
        return UnrepresentableValue("a text value is not valid UTF-8", hint="select convert_to(column, 'UTF8') instead")
    if isinstance(error, adbc_driver_manager.Error):
        return _from_adbc(error)
    if isinstance(error, asyncpg.PostgresError):
        return StatementFailed("the server failed internally on this statement", sqlstate=sqlstate or "")
    return DatabaseError(f"the pool failed on this statement ({type(error).__name__})")


def from_sqlstate(sqlstate: str, message: str, sql: str, *, constraint: str | None = None) -> WorkerError:
    """The worker error for a SQLSTATE; `message` is the server's primary message, cleaned before use."""
    if sqlstate in _UNAVAILABLE or sqlstate[:2] == "08":
        return DatabaseUnavailable(f"the database is not available: {condition(sqlstate)}", sqlstate=sqlstate)
    if sqlstate in _CONFLICT:
        hint = "another transaction was in the way; the same statement may succeed"
        return StatementConflict(condition(sqlstate), hint=hint, sqlstate=sqlstate)
    if sqlstate in _ROLE:
        text = f"the database refuses the pool's role: {condition(sqlstate)}"
        return DatabaseRefusesRole(text, hint="check user, password and database name of its DSN", sqlstate=sqlstate)
    if sqlstate == "57014":
        if "statement timeout" in message:
            return StatementTimedOut("the statement ran longer than its time limit", sqlstate=sqlstate)
        return DatabaseUnavailable("the statement was cancelled on the server by someone else", sqlstate=sqlstate)
    if sqlstate == "53400":
        hint = "it needs more temporary space than the role may use: filter or aggregate earlier"
        return StatementFailed(condition(sqlstate), hint=hint, sqlstate=sqlstate)
    return StatementFailed(safe_message(sqlstate, message, sql, constraint), sqlstate=sqlstate)


def condition(sqlstate: str) -> str:
    """PostgreSQL's name for a SQLSTATE in plain words."""
    return _CONDITIONS.get(sqlstate, f"SQLSTATE {sqlstate}")


def safe_message(sqlstate: str, message: str, sql: str, constraint: str | None = None) -> str:
    """What may be shown of an engine message: see the module's docstring."""
    if sqlstate.startswith(_DESCRIPTIVE_CLASSES):
        return _QUOTED.sub(
            lambda match: _shown(match, sql), message.splitlines()[0] if message else condition(sqlstate)
        )
    parts = [condition(sqlstate)]
    if sqlstate.startswith("22") and (about := _TYPE_NAME.search(message)):
        parts.append(about.group().strip())
    if sqlstate.startswith("23") and constraint:
        parts.append(f'constraint "{constraint}"')
    return " ".join(parts)


def server_message(error: BaseException) -> str:
    """The primary message of a server error, without the client's additions."""
    text = str(error.args[0]) if error.args else ""
    if isinstance(error, adbc_driver_manager.Error):
        details = {name: value for name, value in error.details or () if isinstance(value, bytes)}
        primary = next((value for name, value in details.items() if _as_text(name) == "PG_DIAG_MESSAGE_PRIMARY"), b"")
        text = _as_text(primary)
    return text.strip().partition("\n")[0]


def _as_text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _parameter_of(error: asyncpg.PostgresError) -> str:
    """The number of the parameter that the server (by CONTEXT) or asyncpg (by its own DataError) could not read."""
    if getattr(error, "severity", None) is None:
        where = str(error) if isinstance(error, asyncpg.DataError) else ""
    else:
        context = str(getattr(error, "context", None) or "")
        where = context if "portal" in context else ""
    return found.group(1) if (found := _PARAMETER.search(where)) else ""


def _shown(match: re.Match[str], sql: str) -> str:
    quoted = match.group(1) if match.group(1) is not None else match.group(2)
    return match.group() if quoted and quoted in sql else '"…"'


def _from_adbc(error: adbc_driver_manager.Error) -> WorkerError:
    text = str(error)
    if error.status_code == adbc_driver_manager.AdbcStatusCode.CANCELLED:
        return DatabaseUnavailable("the statement was cancelled")
    if "overflow" in text or "ReadRecord failed" in text:
        return UnrepresentableValue("a value is outside the range of its Arrow type", hint="select it as text")
    if "connection" in text.lower() or "could not receive data" in text or "no COPY" in text:
        return DatabaseUnavailable("the connection to the database was lost")
    return DatabaseError("the bulk reader failed on this statement")
