"""Functions in FROM of the postgres dialect, with XMLTABLE and JSON_TABLE: what they call and which columns they have.

Called by query.py. Never changes the tree, but for the names of columns where a guard put another call in place.
"""

from __future__ import annotations

from collections.abc import Mapping

from workers.sql.policy.functions import functions
from workers.sql.policy.names import Scope, Source, renamed
from workers.sql.policy.postgres.expression import check_type, visit, visit_all, visit_shape
from workers.sql.policy.postgres.walk import Columns, Node, Walk, alias_names, check_keys, strings
from workers.sql.policy.rules import deny, shown

_BUILT_IN = functions("postgres")


def read_function(walk: Walk, message: Node, scope: Scope) -> Source:
    """One or several functions in FROM."""
    check_keys(
        "function in FROM",
        message,
        frozenset({"lateral", "ordinality", "is_rowsfrom", "functions", "alias", "coldeflist"}),
    )
    columns: list[str] | None = []
    name = ""
    alias = message.get("alias")
    for wrapped in message["functions"]:
        call, definitions = wrapped["List"]["items"]
        written = _call_name(call)
        visit(walk, call, scope)
        own = _function_columns(
            call, _definitions(walk, definitions), alias, len(message["functions"]), walk.book.outputs
        )
        if _call_name(call) != written:
            own = _name_outputs(walk, message, call, written)
        columns = None if columns is None or own is None else columns + list(own)
        name = name or written
    if "coldeflist" in message:
        columns = list(_definitions(walk, {"List": {"items": message["coldeflist"]}}) or ())
    if columns is not None and message.get("ordinality"):
        columns.append("ordinality")
    aliases = alias_names(alias)
    known = renamed(None if columns is None else tuple(columns), aliases if columns is not None else ())
    source = Source(alias["aliasname"] if alias else name, known)
    if known is None:
        own_name = {source.name} if name in _TYPED_BY_ARGUMENT else set()
        source.members = walk.book.value_members | own_name | set(aliases)
    return source


def _name_outputs(walk: Walk, message: Node, call: Node, written: str) -> Columns:
    """A guard put another call in the place of this one: its columns keep the names that they had."""
    outputs = walk.book.outputs.get(written)
    if outputs is None or "FuncCall" not in call or len(message["functions"]) > 1:
        deny("function.unlisted", f"the function {shown(written)}() may not stand in FROM; use it in the select list")
    alias = message.setdefault("alias", {"aliasname": written})
    alias.setdefault("colnames", [{"String": {"sval": name}} for name in outputs])
    return outputs


def _call_name(call: Node) -> str:
    function = call.get("FuncCall")
    return strings(function["funcname"])[-1] if function else ""


_TYPED_BY_ARGUMENT = frozenset({
    "unnest", "json_populate_record", "jsonb_populate_record", "json_populate_recordset", "jsonb_populate_recordset",
})  # fmt: skip


def _function_columns(
    call: Node, defined: Columns, alias: Node | None, count: int, outputs: Mapping[str, tuple[str, ...]]
) -> Columns:
    """Columns of one function in FROM; None when they depend on types that the check does not know."""
    if defined:
        return defined
    name = _call_name(call)
    if not name:
        return None
    if name not in _BUILT_IN or name in _TYPED_BY_ARGUMENT:
        return outputs.get(".".join(strings(call["FuncCall"]["funcname"])).removeprefix("pg_catalog."))
    outs = _BUILT_IN[name]
    if outs:
        return outs
    return (alias["aliasname"],) if alias and count == 1 else (name,)


def _definitions(walk: Walk, node: Node) -> Columns:
    if not node:
        return None
    names: list[str] = []
    for item in node["List"].get("items", ()):
        definition = item["ColumnDef"]
        check_keys("column definition", definition, frozenset({"colname", "typeName", "is_local", "collClause"}))
        check_type(walk, definition["typeName"])
        names.append(definition["colname"])
    return tuple(names)


def read_xml_table(walk: Walk, message: Node, scope: Scope) -> Source:
    """XMLTABLE."""
    check_keys("XMLTABLE", message, frozenset({"lateral", "docexpr", "rowexpr", "namespaces", "columns", "alias"}))
    for key in ("docexpr", "rowexpr"):
        visit(walk, message[key], scope)
    visit_all(walk, message.get("namespaces", []), scope)
    names: list[str] = []
    for wrapped in message["columns"]:
        column = wrapped["RangeTableFuncCol"]
        check_keys(
            "XMLTABLE",
            column,
            frozenset({"colname", "typeName", "for_ordinality", "is_not_null", "colexpr", "coldefexpr"}),
        )
        if "typeName" in column:
            check_type(walk, column["typeName"])
        for key in ("colexpr", "coldefexpr"):
            if key in column:
                visit(walk, column[key], scope)
        names.append(column["colname"])
    alias = message.get("alias")
    return Source(alias["aliasname"] if alias else "xmltable", renamed(tuple(names), alias_names(alias)))


def read_json_table(walk: Walk, message: Node, scope: Scope) -> Source:
    """JSON_TABLE."""
    check_keys(
        "JSON_TABLE",
        message,
        frozenset({"context_item", "pathspec", "passing", "columns", "on_error", "alias", "lateral"}),
    )
    visit_shape(walk, "JsonValueExpr", message["context_item"], scope)
    _table_path(walk, message["pathspec"], scope)
    visit_all(walk, message.get("passing", []), scope)
    if "on_error" in message:
        visit_shape(walk, "JsonBehavior", message["on_error"], scope)
    names = tuple(_json_columns(walk, message["columns"], scope))
    alias = message.get("alias")
    return Source(alias["aliasname"] if alias else "json_table", renamed(names, alias_names(alias)))


def _table_path(walk: Walk, message: Node, scope: Scope) -> None:
    check_keys("JSON_TABLE", message, frozenset({"string", "name", "name_location"}))
    if "string" in message:
        visit(walk, message["string"], scope)


def _json_columns(walk: Walk, columns: list[Node], scope: Scope) -> list[str]:
    names: list[str] = []
    for wrapped in columns:
        column = wrapped["JsonTableColumn"]
        check_keys(
            "JSON_TABLE",
            column,
            frozenset(
                {
                    "coltype",
                    "name",
                    "typeName",
                    "pathspec",
                    "format",
                    "wrapper",
                    "quotes",
                    "columns",
                    "on_empty",
                    "on_error",
                }
            ),
        )
        if "typeName" in column:
            check_type(walk, column["typeName"])
        if "pathspec" in column:
            _table_path(walk, column["pathspec"], scope)
        for key in ("on_empty", "on_error"):
            if key in column:
                visit_shape(walk, "JsonBehavior", column[key], scope)
        if "columns" in column:
            names += _json_columns(walk, column["columns"], scope)
        else:
            names.append(column["name"])
    return names
