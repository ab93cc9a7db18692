"""Whether a query's own conditions may run on rows that a row filter hides, without failing on them or telling of them.

A comparison of columns and constants cannot fail and has no effect, so the planner may run it before the filter (and
use
an index for it). Anything else might raise an error that shows a hidden row, so the filter is then fenced off.
Used by restrict.py only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workers.sql.policy.postgres.walk import Node

_OPERATORS = frozenset({"=", "<>", "<", "<=", ">", ">="})
_LIKE = frozenset({"AEXPR_LIKE", "AEXPR_ILIKE"})
_BETWEEN = frozenset({"AEXPR_BETWEEN", "AEXPR_NOT_BETWEEN", "AEXPR_BETWEEN_SYM", "AEXPR_NOT_BETWEEN_SYM"})
_KINDS = frozenset({
    "A_Const", "ParamRef", "ColumnRef", "BoolExpr", "NullTest", "BooleanTest", "List", "RowExpr", "CoalesceExpr",
    "CaseExpr", "CaseWhen", "A_ArrayExpr", "SubLink",
})  # fmt: skip
_AGGREGATES = frozenset({
    "count", "sum", "avg", "min", "max", "array_agg", "string_agg", "bool_and", "bool_or", "stddev", "variance",
})  # fmt: skip
_CONDITIONS = ("whereClause", "havingClause", "quals")


def is_quiet(statement: Node) -> bool:
    """True when every condition anywhere, and every column that a condition could be made of, is harmless."""
    return _query_parts(statement, top=True)


def mentions(statement: Node, masked: Mapping[str, str]) -> bool:
    """Whether a masked column stands anywhere but in the statement's own select list, where its mask could fail
    early."""
    select = statement.get("SelectStmt")
    pending: list[Any] = [statement if select is None else {k: v for k, v in select.items() if k != "targetList"}]
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending += value
        elif isinstance(value, dict):
            if "ColumnRef" in value:
                last = value["ColumnRef"]["fields"][-1]
                if "A_Star" in last or last["String"]["sval"] in masked:
                    return True
            pending += value.values()
    return False


def _query_parts(value: Any, *, top: bool) -> bool:
    if isinstance(value, list):
        return all(_query_parts(item, top=top) for item in value)
    if not isinstance(value, dict):
        return True
    for key, below in value.items():
        if key in _CONDITIONS and not _is_plain(below):
            return False
        if key == "targetList" and not top and not all(_is_output(item) for item in below):
            return False
        if not _query_parts(below, top=top and key in ("SelectStmt", "InsertStmt")):
            return False
    return True


def _is_output(item: Node) -> bool:
    value = item.get("ResTarget", {}).get("val")
    if value is None:
        return True
    call = value.get("FuncCall")
    if call is not None and len(call["funcname"]) == 1:
        return call["funcname"][0]["String"]["sval"] in _AGGREGATES
    return _is_plain(value)


def _is_plain(value: Any) -> bool:
    """Comparisons, AND, OR, NOT, IS NULL, IN, BETWEEN, LIKE a constant, over columns and constants."""
    if isinstance(value, list):
        return all(_is_plain(item) for item in value)
    for kind, message in value.items():
        if kind == "A_Expr":
            if not _is_plain_operator(message):
                return False
            parts = [message[key] for key in ("lexpr", "rexpr") if key in message]
        elif kind == "TypeCast":
            return "A_Const" in message["arg"] or "ParamRef" in message["arg"]
        elif kind == "SubLink":
            # The query below is looked at by _query_parts, which also walks through conditions.
            parts = [message["testexpr"]] if "testexpr" in message else []
        elif kind in _KINDS:
            parts = [
                part
                for part in message.values()
                if isinstance(part, list) or (isinstance(part, dict) and kind not in ("A_Const", "ColumnRef"))
            ]
            if kind == "ColumnRef":
                parts = []
        else:
            return False
        if not all(_is_plain(part) for part in parts):
            return False
    return True


def _is_plain_operator(message: Node) -> bool:
    if message["kind"] in _BETWEEN:
        return True
    if message["kind"] in _LIKE:
        pattern = message.get("rexpr", {}).get("A_Const", {}).get("sval", {}).get("sval", "\\")
        return "\\" not in pattern
    name = message["name"]
    return len(name) == 1 and name[0]["String"]["sval"] in _OPERATORS
