"""Whether a policy's own filters and masks mean the same whatever a session's settings are.

`at < '2024-06-01'` ends at another moment in another time zone, and '02/03/2024' is another day in another DateStyle: a
session that may change these could see rows which its filter hides. So where an expression may depend on them they
stay as they are (settings.py). By list, as everything here: what is not known to be independent is not. Pure.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from workers.sql.policy.document import TENANT
from workers.sql.policy.postgres.grammar import parse
from workers.sql.policy.postgres.walk import strings
from workers.sql.policy.rules import Denied
from workers.sql.policy.tables import Rulebook, TableRule

_KINDS = frozenset({
    "ColumnRef", "A_Const", "ParamRef", "BoolExpr", "NullTest", "BooleanTest", "A_Expr", "List", "String",
    "CoalesceExpr", "CaseExpr", "CaseWhen", "TypeCast", "FuncCall", "A_ArrayExpr",
})  # fmt: skip
_FUNCTIONS = frozenset({
    "lower", "upper", "length", "char_length", "left", "right", "substr", "substring", "btrim", "trim", "replace",
    "repeat", "lpad", "rpad", "concat", "concat_ws", "md5", "abs", "round", "trunc", "floor", "ceil", "mod", "strpos",
    "starts_with", "split_part", "nullif", "greatest", "least",
})  # fmt: skip
_TYPES = re.compile(
    r"(text|name|uuid|bool|boolean|int[248]|smallint|integer|bigint|numeric|citext|"
    r"(bp|var)?char|character( varying)?|\"char\")(\([\d,]+\))?(\[\])?"
)


def is_settled(book: Rulebook) -> bool:
    """Whether no setting that a session may change has a part in what its policy lets it see."""
    for rule in book.usable_tables():
        texts = [*rule.masks.values(), *([rule.filter] if rule.filter is not None else [])]
        if any(not _is_independent(text, _safe_columns(rule)) for text in texts):
            return False
    return True


def _safe_columns(rule: TableRule) -> frozenset[str]:
    return frozenset(name for name, kind in rule.types.items() if _TYPES.fullmatch(kind))


@cache
def _is_independent(text: str, columns: frozenset[str]) -> bool:
    try:
        tree = parse("SELECT (" + text.replace(TENANT, "$1") + "\n)")
    except Denied:
        return False  # nothing may use the table, but that is not for us to know
    pending: list[Any] = [target["ResTarget"]["val"] for target in tree[0]["SelectStmt"]["targetList"]]
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending += value
        if not isinstance(value, dict):
            continue
        for kind, below in value.items():
            if not kind[:1].isupper():
                pending.append(below)
            elif kind not in _KINDS or not _fits(kind, below, columns):
                return False
            elif kind not in ("ColumnRef", "A_Const"):
                pending += [part for key, part in below.items() if key not in ("funcname", "name", "typeName")]
    return True


def _fits(kind: str, message: Any, columns: frozenset[str]) -> bool:
    if kind == "ColumnRef":
        return "String" in message["fields"][-1] and strings(message["fields"])[-1] in columns
    if kind == "FuncCall":
        return strings(message["funcname"])[-1] in _FUNCTIONS
    if kind == "TypeCast":
        return bool(_TYPES.fullmatch(strings(message["typeName"].get("names", []))[-1]))
    return True
