"""A session's settings: what the client set, what must be told to it, what a server connection must be told. Pure.

Which settings there are and which values they take is decided by `policy.session.settings`. On a server connection they
are in force for as long as this session holds it; one that is passed on is told the next session's.
"""

from __future__ import annotations

from collections.abc import Mapping

from workers.sql.broker.frames import parameter_status
from workers.sql.policy.session.settings import NEVER_SENT, REPORTED

Wish = tuple[tuple[str, str], ...]
_STYLES = {"iso": "ISO", "sql": "SQL", "postgres": "Postgres", "german": "German"}
_ORDERS = {"us": "MDY", "noneuropean": "MDY", "european": "DMY", "euro": "DMY"}


def wish_of(settings: Mapping[str, str], pinned: Mapping[str, str]) -> Wish:
    """What a server connection must be told, beyond what is pinned there."""
    return tuple(sorted((n, v) for n, v in settings.items() if n not in NEVER_SENT and not _is_same(v, pinned.get(n))))


def wish_sql(old: Wish, new: Wish) -> str:
    """The text that takes a connection from one session's settings to another's."""
    names = {name for name, _ in new}
    parts = [f"RESET {name}" for name, _ in old if name not in names]
    parts += ["SET {} TO '{}'".format(name, value.replace("'", "''")) for name, value in new]
    return "; ".join(parts)


def shown_value(name: str, value: str) -> str:
    """A value as the server would report it."""
    if name == "statement_timeout":
        return _time_shown(int(value))
    if name != "datestyle":
        return value
    parts = [part.strip().lower() for part in value.split(",")]
    style = next((_STYLES[part] for part in parts if part in _STYLES), "ISO")
    order = next((_ORDERS.get(part, part.upper()) for part in parts if part not in _STYLES), "MDY")
    return f"{style}, {order}"


def _time_shown(value_ms: int) -> str:
    """Milliseconds in the largest unit that holds them whole."""
    for unit, size_ms in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000)):
        if value_ms and value_ms % size_ms == 0:
            return f"{value_ms // size_ms}{unit}"
    return f"{value_ms}ms" if value_ms else "0"


def reports(before: Mapping[str, str], after: Mapping[str, str], server: Mapping[str, str]) -> bytes:
    """ParameterStatus for every change that clients are told of."""
    said = []
    for name, spelling in REPORTED.items():
        if before.get(name) != after.get(name):
            value = shown_value(name, after[name]) if name in after else server.get(spelling, "")
            said.append(parameter_status(spelling, value))
    return b"".join(said)


def _is_same(value: str, pinned: str | None) -> bool:
    if pinned is None:
        return False
    low, other = value.lower(), pinned.lower()
    return low == other or (low == "iso" and other == "iso, mdy")
