"""What each value of a statement flows into, as far as values of types that print names (regclass, ...) are concerned.

An integer next to such a value takes its type: `SELECT 'trips'::regclass UNION ALL SELECT 16400` would print the name
of a hidden table. So no value of such a type may flow anywhere: it becomes its number where it is compared and its name
elsewhere. Found here before the walk, by the syntax around it; used by guards.py.
"""

from __future__ import annotations

from typing import Any, Literal

from workers.sql.policy.postgres.walk import Node, kind_of, strings
from workers.sql.policy.session.introspection import CASTS, GUARDED, PLAIN, SIZES

Context = Literal["text", "oid", "raw"]
"""As its name; as its number; as it is, because a cast follows at once."""

_TEXT_OPERATORS = frozenset({"||", "~", "~*", "!~", "!~*", "~~", "~~*", "!~~", "!~~*", "^@"})
_TEXT_KINDS = frozenset({"AEXPR_LIKE", "AEXPR_ILIKE", "AEXPR_SIMILAR"})
_NUMBERS = frozenset({"oid", "int4", "int8", *CASTS})
_TAKE_NUMBERS = frozenset({*PLAIN, *SIZES, *(name for name, _ in GUARDED), "pg_get_expr"})
_PRIMITIVES = frozenset({"TypeCast", "FuncCall", "ColumnRef"})


def contexts(statement: Node) -> dict[int, Context]:
    """id of a node -> its context, for every cast, call and column reference that is not plain text."""
    found: dict[int, Context] = {}
    _mark(found, statement, "text")
    return found


def _mark(found: dict[int, Context], value: Any, context: Context) -> None:
    if isinstance(value, list):
        for item in value:
            _mark(found, item, context)
        return
    if not isinstance(value, dict):
        return
    for kind, message in value.items():
        if kind in _PRIMITIVES:
            found[id(value)] = context
        if not isinstance(message, dict):
            _mark(found, message, context)
        elif kind == "TypeCast":
            _mark(found, message["arg"], _under_cast(message))
        elif kind == "A_Expr":
            _mark(found, message.get("lexpr"), _under_operator(message, context))
            _mark(found, message.get("rexpr"), _under_operator(message, context))
        elif kind == "FuncCall":
            takes = strings(message.get("funcname", []))[-1:]
            _mark(found, message.get("args"), "oid" if set(takes) & _TAKE_NUMBERS else "text")
            _mark(found, [part for key, part in message.items() if key not in ("args", "funcname")], "text")
        elif kind == "SubLink":
            _mark(found, message.get("testexpr"), "oid")
            _mark(found, message["subselect"], "oid" if "testexpr" in message else context)
        elif kind == "CaseExpr":
            _mark_case(found, message, context)
        elif "op" in message and "limitOption" in message:  # SelectStmt, also as larg and rarg
            _mark_select(found, message, context)
        else:
            _mark(found, message, context)


def _mark_select(found: dict[int, Context], select: Node, context: Context) -> None:
    is_free = not {"groupClause", "distinctClause"} & select.keys() and select["op"] == "SETOP_NONE"
    for key, part in select.items():
        if key in ("larg", "rarg"):
            _mark_select(found, part, context)
        elif key in ("targetList", "valuesLists", "groupClause", "distinctClause"):
            _mark(found, part, context)
        elif key == "sortClause":
            _mark(found, part, "oid" if is_free else context)
        else:
            _mark(found, part, "text")


def _mark_case(found: dict[int, Context], message: Node, context: Context) -> None:
    _mark(found, message.get("arg"), "oid")
    _mark(found, message.get("defresult"), context)
    for wrapped in message.get("args", []):
        _mark(found, wrapped["CaseWhen"]["expr"], "oid" if "arg" in message else "text")
        _mark(found, wrapped["CaseWhen"]["result"], context)


def _under_cast(message: Node) -> Context:
    kind = message["typeName"]
    if kind_of(message["arg"]) in _PRIMITIVES and "arrayBounds" not in kind:
        return "raw"
    return "oid" if strings(kind.get("names", []))[-1:] and strings(kind["names"])[-1] in _NUMBERS else "text"


def _under_operator(message: Node, context: Context) -> Context:
    if message["kind"] == "AEXPR_NULLIF":
        return context
    if message["kind"] in _TEXT_KINDS:
        return "text"
    names = [part["String"]["sval"] for part in message.get("name", []) if "String" in part]
    return "text" if names and names[-1] in _TEXT_OPERATORS else "oid"
