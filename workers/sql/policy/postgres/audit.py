"""Second opinion on the printed text: a flat search through PostgreSQL's tree of it, without any notion of scopes.

Independent of the walk on purpose: every table in it must be one that the policy allows and schema-qualified, every
function, type and kind of node on its list. What the walk overlooks, this refuses. Called by check.py.
"""

from __future__ import annotations

from typing import Any

from workers.sql.policy.functions import functions
from workers.sql.policy.postgres.expression import SHAPES, check_type
from workers.sql.policy.postgres.walk import Node, Walk, strings
from workers.sql.policy.rules import deny, shown

_BUILT_IN = functions("postgres")
_NODES = frozenset(SHAPES) | frozenset({
    "SelectStmt", "ResTarget", "ColumnRef", "String", "A_Star", "A_Expr", "FuncCall", "TypeCast", "SubLink",
    "A_Indirection", "A_Indices", "SQLValueFunction", "SortBy", "RangeVar", "RangeSubselect", "RangeFunction",
    "RangeTableSample", "RangeTableFunc", "RangeTableFuncCol", "JoinExpr", "CommonTableExpr", "ColumnDef", "Integer",
    "JsonTable", "JsonTableColumn",
})  # fmt: skip
_WRITE_NODES = frozenset({
    "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt", "MergeWhenClause", "MultiAssignRef", "IndexElem",
})  # fmt: skip


def audit(statement: Node, walk: Walk) -> None:
    """Raises Denied with `opinion.refused` when the printed text holds anything that is not allowed."""
    names: set[str] = set(walk.stand_ins)
    tables: list[Node] = []
    pending: list[Any] = [statement]
    while pending:
        message = pending.pop()
        for key, value in message.items():
            if type(value) is dict:
                _see(key, value, walk, names, tables)
                pending.append(_checked_cast(value, walk) if key == "TypeCast" else value)
            elif type(value) is list:
                pending += value
    for table in tables:
        _check_table(table, walk, names)


def _see(key: str, value: Node, walk: Walk, names: set[str], tables: list[Node]) -> None:
    if key[0].isupper() and key not in _NODES and not (key in _WRITE_NODES and walk.writes):
        deny("opinion.refused", f"the printed text holds {key}, which is not allowed")
    if key in ("RangeVar", "relation") and "relname" in value:
        tables.append(value)
    elif key == "CommonTableExpr":
        names.add(value["ctename"])
    elif key == "FuncCall":
        parts = strings(value["funcname"])
        written = ".".join(parts)
        allowed = parts[-1] in _BUILT_IN and parts[:-1] in ([], ["pg_catalog"])
        plain = written.removeprefix("pg_catalog.")
        if not allowed and not {written, plain} & walk.book.functions and plain not in walk.book.extra_functions:
            deny("opinion.refused", f"the printed text calls {shown(written)}(), which is not allowed")
    elif key == "typeName":
        check_type(walk, value)
    elif key in ("intoClause", "LockingClause"):
        deny("opinion.refused", f"the printed text holds {key}, which is not allowed")


def _checked_cast(cast: Node, walk: Walk) -> Node:
    """A cast without its type where the type is one that prints names of objects, and only a column or name is cast."""
    names = strings(cast["typeName"].get("names", []))
    if names[-1] not in walk.book.printing_types or names[:-1] not in ([], ["pg_catalog"]):
        return cast
    if not {"ColumnRef", "A_Const"} & cast["arg"].keys() or "arrayBounds" in cast["typeName"]:
        deny("opinion.refused", f"the printed text casts an expression to {shown(names[-1])}, which is not allowed")
    return {"arg": cast["arg"]}


def _check_table(table: Node, walk: Walk, names: set[str]) -> None:
    schema = table.get("schemaname", "")
    if "catalogname" in table or (not schema and table["relname"] not in names):
        deny("opinion.refused", f"the printed text names {shown(table['relname'])!r} without its schema")
    if schema and (schema, table["relname"]) not in walk.allowed_tables:
        deny("opinion.refused", f"the printed text reads {shown(table['relname'])!r}, which the check did not see")
