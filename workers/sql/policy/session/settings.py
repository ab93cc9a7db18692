"""Which run-time settings a session may change, to what, and how the broker keeps them.

Three sorts: *kept* ones are remembered for the session and put on each server connection for one transaction; *fixed*
ones are accepted at the only value that the broker speaks; *ignored* ones tune what is not the session's to tune, so
they are accepted without effect because tools send them. Every other setting is refused. Used by control.py for SET and
by startup.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from zoneinfo import available_timezones

from workers.sql.policy.rules import Denied, deny, shown
from workers.sql.policy.session.verdict import Own

REPORTED = {
    "application_name": "application_name",
    "client_encoding": "client_encoding",
    "datestyle": "DateStyle",
    "intervalstyle": "IntervalStyle",
    "standard_conforming_strings": "standard_conforming_strings",
    "timezone": "TimeZone",
}
"""Settings whose changes clients are told of (ParameterStatus), as the server spells them."""
NEVER_SENT = frozenset({
    "application_name", "default_transaction_isolation", "default_transaction_read_only",
    "default_transaction_deferrable", "statement_timeout",
})  # fmt: skip
"""Kept settings that act through the broker: `begin_sql` and its own clock."""

READABLE = frozenset({
    "application_name", "bytea_output", "client_encoding", "client_min_messages", "datestyle",
    "default_transaction_deferrable", "default_transaction_isolation", "default_transaction_read_only",
    "extra_float_digits", "integer_datetimes", "intervalstyle", "is_superuser", "jit", "lc_collate", "lc_ctype",
    "lc_messages", "lc_monetary", "lc_numeric", "lc_time", "max_identifier_length", "max_index_keys", "search_path",
    "server_encoding", "server_version", "server_version_num", "standard_conforming_strings", "statement_timeout",
    "timezone", "transaction_deferrable", "transaction_isolation", "transaction_read_only", "block_size",
    "in_hot_standby", "default_text_search_config", "xmlbinary", "xmloption", "array_nulls", "row_security",
    "default_table_access_method", "escape_string_warning", "lock_timeout", "quote_all_identifiers",
})  # fmt: skip
"""Settings whose values say nothing about the machine, other sessions or secrets."""

_FIXED: dict[str, frozenset[str]] = {
    "client_encoding": frozenset({"utf8", "utf-8", "unicode"}),
    "standard_conforming_strings": frozenset({"on", "true", "yes", "1"}),
    "row_security": frozenset({"on", "true", "yes", "1"}),
    "quote_all_identifiers": frozenset({"off", "false", "no", "0"}),
    "transform_null_equals": frozenset({"off", "false", "no", "0"}),
    "array_nulls": frozenset({"on", "true", "yes", "1"}),
    "backslash_quote": frozenset({"safe_encoding"}),
    "default_tablespace": frozenset({""}),
    "default_table_access_method": frozenset({"heap"}),
}
HELD: dict[str, tuple[str, ...]] = {
    "timezone": ("utc", "etc/utc", "gmt", "etc/gmt", "zulu", "universal", "0", "+0", "-0", "+00:00", "00"),
    "datestyle": ("iso, mdy", "iso", "iso,mdy", "iso, us"),
    "intervalstyle": ("postgres",),
    "bytea_output": ("hex",),
    "xmloption": ("content",),
    "xmlbinary": ("base64",),
    "extra_float_digits": ("1", "2", "3"),
}
"""Settings by which constants, casts and dates mean something else, with what a pool's connections have (spec.py)."""
IGNORED = frozenset({
    "jit", "geqo", "plan_cache_mode", "random_page_cost", "seq_page_cost", "work_mem", "hash_mem_multiplier",
    "maintenance_work_mem", "effective_cache_size", "effective_io_concurrency", "cursor_tuple_fraction",
    "enable_seqscan", "enable_indexscan", "enable_indexonlyscan", "enable_bitmapscan", "enable_hashjoin",
    "enable_mergejoin", "enable_nestloop", "enable_hashagg", "enable_sort", "enable_material", "enable_memoize",
    "enable_parallel_hash", "enable_partitionwise_join", "enable_partitionwise_aggregate", "from_collapse_limit",
    "join_collapse_limit", "max_parallel_workers_per_gather", "max_parallel_workers", "parallel_setup_cost",
    "parallel_tuple_cost", "synchronous_commit", "check_function_bodies", "escape_string_warning",
    "synchronize_seqscans", "lock_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout",
    "transaction_timeout", "tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count",
    "tcp_user_timeout", "gin_fuzzy_search_limit",
})  # fmt: skip
"""Accepted without effect. Timeouts are among them: those of the database and of the broker hold whatever is said."""

ISOLATION_LEVELS = frozenset({"serializable", "repeatable read", "read committed", "read uncommitted"})
_TRUE = frozenset({"on", "true", "yes", "1", "t"})
_FALSE = frozenset({"off", "false", "no", "0", "f"})
_UNITS_MS = {"": 1.0, "us": 0.001, "ms": 1.0, "s": 1000.0, "min": 60_000.0, "h": 3_600_000.0, "d": 86_400_000.0}
_MAX_MS = 2**31 - 1


def decide_setting(
    name: str, value: str, search_path: tuple[str, ...], *, writes: bool, is_settled: bool = True
) -> str | None:
    """The value to keep for the session in its plain form; None: accepted, nothing to keep. Raises Denied.

    `search_path`: where the policy looks names up; the session can only name the same. `writes`: whether transactions
    may be read-write. `is_settled`: the policy's filters mean the same whatever the session sets (meaning.py).
    """
    name = name.lower()
    if not is_settled and name in HELD:
        if value.strip().lower() not in HELD[name]:
            deny("session.setting", f"{name} stays {HELD[name][0]!r} here: row filters or masks may depend on it")
        return None
    normal = _KEPT.get(name)
    if normal is not None:
        kept = normal(value.strip())
        if kept is None:
            deny("session.value", f"{shown(value)!r} is not a value that the setting {name} can have here")
        if name == "default_transaction_read_only" and kept == "off" and not writes:
            deny("session.read-only", "transactions of this session are read-only; leave the setting as it is")
        return kept
    if name in _FIXED:
        if value.strip().lower() not in _FIXED[name]:
            deny("session.value", f"the setting {name} stays {min(_FIXED[name])!r} here; leave it as it is")
        return None
    if name in IGNORED:
        return None
    if name == "search_path":
        _same_path(value, search_path)
        return None
    raise Denied("session.setting", f"the setting {shown(name)} cannot be changed in this session; leave it out")


def _same_path(value: str, search_path: tuple[str, ...]) -> None:
    asked = [part.strip().strip('"') for part in value.split(",")]
    implied = {"$user", "pg_catalog", "pg_temp", ""}
    if tuple(part for part in asked if part not in implied) not in ((), search_path):
        deny(
            "session.setting",
            f"search_path stays {shown(', '.join(search_path))} here; name other tables with their schema",
        )


def milliseconds(value: str) -> int | None:
    """A time in a setting's own words ("5s", "250") in milliseconds; None when it is none."""
    match = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?)\s*(us|ms|s|min|h|d|)", value)
    if match is None:
        return None
    found = round(float(match[1]) * _UNITS_MS[match[2]])
    return found if found <= _MAX_MS else None


def _timeout(value: str) -> str | None:
    found = milliseconds(value)
    return None if found is None else str(found)


def _switch(value: str) -> str | None:
    low = value.lower()
    return "on" if low in _TRUE else "off" if low in _FALSE else None


def _one_of(*values: str) -> Callable[[str], str | None]:
    return lambda value: value.lower() if value.lower() in values else None


def _date_style(value: str) -> str | None:
    parts = [part.strip().lower() for part in value.split(",")]
    known = {"iso", "sql", "postgres", "german", "mdy", "dmy", "ymd", "us", "european", "euro", "noneuropean"}
    return ", ".join(parts) if parts and len(parts) <= 2 and set(parts) <= known else None


def _digits(value: str) -> str | None:
    return str(int(value)) if re.fullmatch(r"-?\d{1,2}", value) and -15 <= int(value) <= 3 else None


@cache
def _zones() -> dict[str, str]:
    return {name.lower(): name for name in available_timezones()}


def _time_zone(value: str) -> str | None:
    if re.fullmatch(r"[+-]?\d{1,2}(:[0-5]\d)?", value):
        return value
    return _zones().get(value.lower())


def _application_name(value: str) -> str | None:
    return "".join(c if " " <= c <= "~" else "?" for c in value[:63])


_KEPT: dict[str, Callable[[str], str | None]] = {
    "application_name": _application_name,
    "datestyle": _date_style,
    "intervalstyle": _one_of("iso_8601", "postgres", "postgres_verbose", "sql_standard"),
    "timezone": _time_zone,
    "extra_float_digits": _digits,
    "bytea_output": _one_of("hex", "escape"),
    "xmlbinary": _one_of("base64", "hex"),
    "xmloption": _one_of("content", "document"),
    "client_min_messages": _one_of(
        "debug5", "debug4", "debug3", "debug2", "debug1", "debug", "log", "notice", "warning", "error"
    ),
    "statement_timeout": _timeout,
    "default_transaction_isolation": _one_of(*ISOLATION_LEVELS),
    "default_transaction_read_only": _switch,
    "default_transaction_deferrable": _switch,
}


def local_settings_sql(settings: Mapping[str, str]) -> tuple[str, ...]:
    """Statements that put a session's kept settings on a server connection until its transaction ends."""
    return tuple(
        "SET LOCAL {} TO '{}'".format(name, value.replace("'", "''"))
        for name, value in settings.items()
        if name in _KEPT and name not in NEVER_SENT
    )


def begin_sql(begin: Own | None, settings: Mapping[str, str], *, writes: bool) -> str:
    """The text that opens a transaction: what BEGIN said (None: the broker opens one for a single statement), else what
    the session's settings say; read-only whatever is said unless `writes`."""
    isolation = (begin.isolation if begin else "") or settings.get("default_transaction_isolation", "")
    read_only = begin.read_only if begin and begin.read_only is not None else None
    if read_only is None:
        read_only = settings.get("default_transaction_read_only") == "on"
    deferrable = begin.deferrable if begin else None
    if deferrable is None:
        deferrable = settings.get("default_transaction_deferrable") == "on"
    modes = [f"ISOLATION LEVEL {isolation.upper()}"] if isolation in ISOLATION_LEVELS else []
    modes.append("READ WRITE" if writes and not read_only else "READ ONLY")
    return "BEGIN " + ", ".join(modes + (["DEFERRABLE"] if deferrable else []))
