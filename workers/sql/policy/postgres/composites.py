"""The declared type of an expression, as far as it is a composite type's: what makes `(x).field` a field and no call.

PostgreSQL looks for a field first and calls a function `field(x)` only where x has none. So a field may pass where the
type is certain: a table's own column, a field or element of one, a cast. Called by expression.py and query.py. Pure.
"""

from __future__ import annotations

from workers.sql.policy.names import Scope, find_column, find_source
from workers.sql.policy.postgres.walk import Node, Walk, kind_of, strings

_FILLS = frozenset({"json_populate_record", "jsonb_populate_record"})
"""Functions whose result has the type of their first argument."""


def type_of(walk: Walk, node: Node, scope: Scope) -> str:
    """Name of a column's, cast's or field's declared type; empty where it is not certain. Raises Denied."""
    kind = kind_of(node)
    message = node[kind]
    if kind == "ColumnRef":
        return _column_type(message, scope)
    if kind == "A_Indirection":
        found = type_of(walk, message["arg"], scope)
        for step in message["indirection"]:
            found = step_type(walk, found, step)
        return found
    if kind == "TypeCast":
        name = message["typeName"]
        written = ".".join(strings(name["names"])).removeprefix(f"{walk.book.default_schema}.")
        return written + "[]" * len(name.get("arrayBounds", ()))
    if kind == "FuncCall" and strings(message["funcname"])[-1] in _FILLS and message.get("args"):
        return type_of(walk, message["args"][0], scope)
    return ""


def step_type(walk: Walk, found: str, step: Node) -> str:
    """The type after one step of an indirection: an element of an array, a part of one, a field."""
    if "A_Indices" in step:
        return found if step["A_Indices"].get("is_slice") else found.removesuffix("[]")
    return fields_of(walk, found).get(step["String"]["sval"], "") if "String" in step else ""


def fields_of(walk: Walk, found: str) -> dict[str, str]:
    """Field -> type of a composite type; empty for any other."""
    return walk.book.composites.get(found, {})


def _column_type(message: Node, scope: Scope) -> str:
    fields = message["fields"]
    if any("String" not in field for field in fields):
        return ""
    names = strings(fields)
    source = (
        find_column(scope, names[0])
        if len(names) == 1
        else find_source(scope, names[-2], names[0] if len(names) == 3 else "")
    )
    if source is None or source.rule is None or source.columns is None or source.rule.columns is None:
        return ""
    stored = dict(zip(source.columns, source.rule.columns, strict=False)).get(names[-1], "")
    return "" if stored in source.rule.masks else source.rule.types.get(stored, "")
