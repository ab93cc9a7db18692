"""Expressions of the duckdb dialect: every node of a listed class, every name meaning something allowed.

Called by query.py with the scope in which an expression stands. Never changes the tree, but notes what has to change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workers.sql.policy.duckdb.walk import Node, Walk, check_keys, keys
from workers.sql.policy.functions import functions
from workers.sql.policy.names import Scope, Source, find_column, find_source, use_qualified, use_star
from workers.sql.policy.rules import Denied, deny, shown

_BUILT_IN = functions("duckdb")

# Class -> members that are plain values, and members that hold expressions.
_SHAPES: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "CONSTANT": (keys("literal value"), keys("")),
    "PARAMETER": (keys("identifier"), keys("")),
    "OPERATOR": (keys(""), keys("children")),
    "COMPARISON": (keys(""), keys("left right")),
    "CONJUNCTION": (keys(""), keys("children")),
    "CAST": (keys("try_cast cast_type"), keys("child type_expr")),
    "BETWEEN": (keys(""), keys("input lower upper")),
    "COLLATE": (keys("collation"), keys("child")),
    "TYPE": (keys("type_name qualified_name"), keys("children")),
}
_COMMON = keys("class type alias")
_FUNCTION_KEYS = keys(
    "class type alias function_name schema catalog arguments children filter order_bys distinct is_operator "
    "export_state qualified_name"
)
_WINDOW_KEYS = keys(
    "class type alias function_name schema catalog arguments children partitions orders start end start_expr "
    "end_expr offset_expr"
    " default_expr filter_expr exclude_clause arg_orders ignore_nulls has_ignore_nulls distinct qualified_name"
    " window_name"
)
_STAR_KEYS = keys(
    "class type alias relation_name exclude_list replace_list rename_list columns expr unpacked qualified_exclude_list"
)
_TIMES = keys("current_date current_time current_timestamp localtime localtimestamp")


def visit(walk: Walk, node: Node, scope: Scope) -> None:
    """Checks one expression. Raises Denied."""
    kind = node["class"]
    special = _SPECIAL.get(kind)
    if special is not None:
        special(walk, node, scope)
        return
    shape = _SHAPES.get(kind)
    if shape is None:
        deny("node.unlisted", f"{shown(kind)} is not a part of SQL that the policy allows; rephrase without it")
    plain, nodes = shape
    check_keys(kind, node, plain | nodes | _COMMON)
    if kind == "TYPE":
        _check_type(walk, node)
    for key in nodes:
        visit_any(walk, node.get(key), scope)


def visit_any(walk: Walk, value: Any, scope: Scope) -> None:
    """Checks an expression, a list of them, or nothing."""
    if isinstance(value, list):
        for item in value:
            visit(walk, item, scope)
    elif value is not None:
        visit(walk, value, scope)


_ALL = {"class": "STAR", "type": "STAR", "columns": True}


def visit_orders(walk: Walk, orders: list[Node], scope: Scope) -> None:
    """Checks the items of an ORDER BY."""
    for order in orders:
        check_keys("ORDER BY", order, keys("type null_order expression"))
        if order["expression"] == _ALL:
            continue  # ORDER BY ALL: the outputs, which are checked where they stand
        visit(walk, order["expression"], scope)


def _column_ref(walk: Walk, node: Node, scope: Scope) -> None:
    check_keys("COLUMN_REF", node, _COMMON | {"column_names"})
    names = [name.lower() for name in node["column_names"]]
    if len(names) == 1:
        if names[0] not in _TIMES or _is_known(names[0], scope):
            find_column(scope, names[0])
        return
    source = find_source(scope, names[0])
    if source is not None and (source.columns is None or names[1] in source.columns or names[1] in source.denied):
        use_qualified(source, names[1])
        return
    if len(names) > 2:
        source = find_source(scope, names[1], names[0])
        if source is not None:
            use_qualified(source, names[2])
            if source.rule is not None and source.rule.is_restricted:
                walk.stripped.append(node)
            return
    if source is not None and not _is_known(names[0], scope):
        deny(
            "column.unknown",
            f"{shown(names[0])!r} has no column {shown(names[1])!r}; use the columns that the schema lists",
        )
    # column.field of a struct: the column decides.
    find_column(scope, names[0])


def _is_known(name: str, scope: Scope) -> bool:
    level: Scope | None = scope
    while level is not None:
        if any(source.columns is None or name in source.columns for source in level.sources):
            return True
        level = level.parent
    return False


def check_function(walk: Walk, node: Node) -> None:
    """Refuses a call of a function that is not allowed, by its written name and schema."""
    name = node["function_name"].lower()
    schema = node.get("schema", "").lower()
    if "catalog" in node or len(node.get("qualified_name", {}).get("path", ())) > 1 + bool(schema):
        deny("function.schema", f"the function {shown(name)}() is named with its database; leave that out")
    if schema:
        if f"{schema}.{name}" not in walk.book.functions:
            deny(
                "function.schema",
                f"{shown(schema)}.{shown(name)}() is a method call or another schema's function; write "
                f"{shown(name)}(...)",
            )
    elif name not in walk.book.functions:
        if name not in _BUILT_IN:
            deny(
                "function.unlisted",
                f"the function {shown(name)}() is not on the list of harmless functions; leave it out",
            )
        if name in walk.book.user_functions:
            deny(
                "function.unlisted",
                f"{shown(name)}() is replaced by a macro of this database; the policy would have to name it",
            )


def _function(walk: Walk, node: Node, scope: Scope) -> None:
    check_keys("function", node, _FUNCTION_KEYS)
    _unfold_method(walk, node, scope)
    check_function(walk, node)
    for argument in node.get("arguments", ()):
        check_keys("argument", argument, keys("name expression"))
        visit(walk, argument["expression"], scope)
    visit_any(walk, node.get("children"), scope)
    visit_any(walk, node.get("filter"), scope)
    visit_orders(walk, node.get("order_bys", {}).get("orders", []), scope)


def _unfold_method(walk: Walk, node: Node, scope: Scope) -> None:
    """`column.f(x)` becomes `f(column, x)`, which is what DuckDB makes of it: written so, nothing else can be meant."""
    path = node.get("qualified_name", {}).get("path", [])
    if len(path) < 2 or f"{node.get('schema', '')}.{node['function_name']}".lower() in walk.book.functions:
        return
    column = path[:-1]
    first = column[0].lower()
    if find_source(scope, first) is None and not _is_known(first, scope):
        return
    reference = {"class": "COLUMN_REF", "type": "COLUMN_REF", "column_names": column}
    node["arguments"] = [{"expression": reference}, *node.get("arguments", [])]
    node["qualified_name"] = {"path": path[-1:]}
    for key in ("schema", "catalog"):
        node.pop(key, None)


def _window(walk: Walk, node: Node, scope: Scope) -> None:
    check_keys("window", node, _WINDOW_KEYS)
    if not node.get("ignore_nulls"):
        # RESPECT NULLS is what happens without a word, and the printer leaves it out.
        node.pop("has_ignore_nulls", None)
    check_function(walk, node)
    for argument in node.get("arguments", ()):
        visit(walk, argument["expression"], scope)
    for key in ("children", "partitions", "start_expr", "end_expr", "offset_expr", "default_expr", "filter_expr"):
        visit_any(walk, node.get(key), scope)
    visit_orders(walk, node.get("orders", []), scope)
    visit_orders(walk, node.get("arg_orders", []), scope)


def _case(walk: Walk, node: Node, scope: Scope) -> None:
    check_keys("CASE", node, _COMMON | {"case_checks", "else_expr"})
    for check in node["case_checks"]:
        visit(walk, check["when_expr"], scope)
        visit(walk, check["then_expr"], scope)
    visit_any(walk, node.get("else_expr"), scope)


def _subquery(walk: Walk, node: Node, scope: Scope) -> None:
    check_keys("subquery", node, _COMMON | keys("subquery_type subquery child children comparison_type"))
    visit_any(walk, node.get("child"), scope)
    visit_any(walk, node.get("children"), scope)
    check_keys("subquery", node["subquery"], keys("node named_param_map"))
    walk.read_query(walk, node["subquery"]["node"], scope, scope.ctes)


def _lambda(walk: Walk, node: Node, scope: Scope) -> None:
    """`x -> ...` is a lambda or, outside of list functions, access to JSON: the left side is checked as both."""
    check_keys("lambda", node, _COMMON | keys("lhs expr syntax_type params named_parameters copied_expr"))
    left = node["lhs"]
    names: list[str] = []
    for part in [left, *(argument["expression"] for argument in left.get("arguments", ()))]:
        if part["class"] == "COLUMN_REF" and len(part["column_names"]) == 1:
            name = part["column_names"][0].lower()
            try:
                find_column(scope, name)
            except Denied as denied:
                if denied.rule != "column.unknown":
                    raise
            names.append(name)
        elif not (part is left and left["class"] == "FUNCTION" and left["function_name"] == "row"):
            visit(walk, part, scope)
    visit(walk, node["expr"], Scope(scope, [Source("", tuple(names), row_name=False)], scope.ctes))


def _star(walk: Walk, node: Node, scope: Scope) -> None:
    check_keys("*", node, _STAR_KEYS)
    excluded = frozenset(item.lower() for item in node.get("exclude_list", ()) if isinstance(item, str))
    relation = node.get("relation_name", "").lower()
    if relation:
        source = find_source(scope, relation)
        if source is None and not _is_known(relation, scope):
            deny("column.unknown", f"nothing in FROM is named {shown(relation)!r}; use its alias where it has one")
        if source is None:
            find_column(scope, relation)  # the fields of a struct
        sources = [] if source is None else [source]
    else:
        sources = scope.sources
    is_selector = bool(node.get("columns")) or "expr" in node
    for source in sources:
        if is_selector and not source.is_whole:
            deny(
                "column.selector",
                f"COLUMNS(...) could choose columns of {shown(source.name)!r} that may not be used; name the columns",
            )
        if source.denied and source.denied <= excluded:
            walk.trimmed.append((node, source.denied))
            continue
        use_star(source)
    if "expr" in node:
        visit_any(walk, node["expr"], Scope(scope, [Source("", None, row_name=False)], scope.ctes))
    for entry in node.get("replace_list", ()):
        visit(walk, entry["value"], scope)
    for entry in node.get("rename_list", ()):
        if not isinstance(entry, dict):
            deny("node.unlisted", "this form of RENAME is not known; name the columns")


def _positional(_walk: Walk, _node: Node, scope: Scope) -> None:
    level: Scope | None = scope
    while level is not None:
        for source in level.sources:
            if not source.is_whole:
                deny(
                    "column.selector",
                    f"#1 could be a column of {shown(source.name)!r} that may not be used; write the column's name",
                )
        level = level.parent


def _check_type(walk: Walk, node: Node) -> None:
    path = node.get("qualified_name", {}).get("path", [])
    name = node.get("type_name", path[-1] if path else "").lower()
    if len(path) > 1 or (name not in _TYPES and name not in walk.book.types and name not in walk.book.column_types):
        deny("type.unlisted", f"a cast to {shown(name)} is not allowed; cast to a built-in type such as VARCHAR")


_TYPES = keys(
    "bigint binary bit bitstring blob bool boolean bpchar bytea char date datetime dec decimal double enum float "
    "float4 float8"
    " guid hugeint int int1 int128 int16 int2 int32 int4 int64 int8 integer interval json list logical long map "
    "null numeric oid"
    " real row short signed smallint string struct text time time_ns timestamp timestamp_ms timestamp_ns "
    "timestamp_s timestamp_us"
    " timestamptz timetz tinyint ubigint uhugeint uint128 uint16 uint32 uint64 uint8 uinteger union usmallint "
    "utinyint uuid"
    " varbinary varchar variant varint bignum array nvarchar"
) | {"timestamp with time zone", "time with time zone"}

_SPECIAL: dict[str, Callable[[Walk, Node, Scope], None]] = {
    "COLUMN_REF": _column_ref,
    "FUNCTION": _function,
    "WINDOW": _window,
    "CASE": _case,
    "SUBQUERY": _subquery,
    "LAMBDA": _lambda,
    "STAR": _star,
    "POSITIONAL_REFERENCE": _positional,
}
