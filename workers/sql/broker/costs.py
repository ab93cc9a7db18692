"""The planner's estimate of a session's statement, beside the policy's `max_cost`. Pure.

A statement runs by the plan that was estimated: sessions of a database with a ceiling have `plan_cache_mode` at
`force_generic_plan`, so that no value of a parameter leads to another plan. What is asked for is text, of which the
first line is enough: it holds the cost of all. Used by `conversation`; jobs do the same in `workers.sql.estimate`.
"""

from __future__ import annotations

import re
from typing import Final

from workers.sql.broker.frames import FLUSH, message, parse
from workers.sql.broker.prepared import ServerStatement
from workers.sql.policy.session import Forward

FORCED: Final = {"plan_cache_mode": "force_generic_plan"}
"""Settings of every session of a database with a ceiling."""
FRESH_S: Final = 60.0
"""How long an estimate holds: tables grow."""
_PLANNED: Final = frozenset({"select", "insert", "update", "delete", "merge", "copy-out", "declare"})
_COST: Final = re.compile(rb"cost=[0-9.]+\.\.([0-9.]+)")
_PORTAL: Final = b"sandpool_cost"
"""Not the unnamed one, which the client may be reading from."""
_BIND_AND_RUN: Final = (
    message(b"B", _PORTAL + b"\0\0" + bytes(6))
    + message(b"E", _PORTAL + b"\0\0\0\0\0")
    + message(b"C", b"P" + _PORTAL + b"\0")
    + FLUSH
)


def has_cost(verdict: Forward) -> bool:
    """Whether the ceiling is meant for it: reads of catalogs are few and needed to write cheap statements."""
    return verdict.kind in _PLANNED and not verdict.is_catalog


def estimate_frames(statement: ServerStatement, verdict: Forward) -> bytes:
    """Parse, Bind, Execute, Close and Flush that have the server explain a statement which it knows."""
    count = max(verdict.parameters, statement.declared)
    if count:
        sql = b"EXPLAIN EXECUTE " + statement.name + b"(" + b", ".join([b"NULL"] * count) + b")"
    else:
        sql = b"EXPLAIN " + (verdict.query or verdict.sql).encode()
    return parse(b"", sql) + _BIND_AND_RUN


def cost_in(row: bytes) -> float | None:
    """The whole cost in the first line of a plan, as a DataRow's body; None where there is no plan."""
    found = _COST.search(row)
    return float(found[1]) if found else None
