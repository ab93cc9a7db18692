"""Queries of the duckdb dialect: WITH, FROM, set operations and the clauses of SELECT, resolved as DuckDB does.

Names fold to lower case. `read_query` is called for the statement and for every query in it. Never changes the tree.
"""

from __future__ import annotations

from copy import deepcopy

from workers.sql.policy.duckdb.expression import visit, visit_any, visit_orders
from workers.sql.policy.duckdb.walk import Columns, Ctes, Node, Walk, check_keys, keys
from workers.sql.policy.functions import functions
from workers.sql.policy.names import Scope, Source, renamed, use_star
from workers.sql.policy.rules import Denied, deny, shown

_BUILT_IN = functions("duckdb")
_SELECT_KEYS = keys(
    "type modifiers cte_map select_list from_table where_clause group_expressions group_sets aggregate_handling "
    "having qualify sample"
)
_KEPT = frozenset({"COLUMN_REF", "STAR", "CONSTANT", "PARAMETER", "POSITIONAL_REFERENCE"})
"""Items of a select list that are never rewritten, or that are not one column."""
From = tuple[list[Source], Columns]


def read_query(walk: Walk, node: Node, outer: Scope | None, ctes: Ctes) -> Columns:
    """Checks a query node and gives the names of its columns, None when they cannot be known. Raises Denied."""
    ctes = _read_with(walk, node.get("cte_map", {}), outer, ctes)
    kind = node["type"]
    if kind == "SELECT_NODE":
        return _select(walk, node, outer, ctes)
    if kind == "SET_OPERATION_NODE":
        check_keys("set operation", node, keys("type modifiers cte_map setop_type setop_all children left right"))
        arms = node.get("children") or [node["left"], node["right"]]
        columns = [read_query(walk, arm, outer, ctes) for arm in arms]
        names = columns[0]
        if "BY_NAME" in node["setop_type"]:
            names = None if None in columns else tuple(dict.fromkeys(name for arm in columns for name in arm or ()))
        _modifiers(walk, node, Scope(outer, [Source("", names, row_name=False)], ctes))
        return names
    if kind == "RECURSIVE_CTE_NODE":
        check_keys(
            "WITH RECURSIVE", node, keys("type modifiers cte_map cte_name union_all left right aliases key_targets")
        )
        name = node["cte_name"].lower()
        aliases = tuple(alias.lower() for alias in node.get("aliases", ()))
        columns_left = renamed(read_query(walk, node["left"], outer, ctes), aliases)
        read_query(walk, node["right"], outer, {**ctes, name: columns_left})
        visit_any(walk, node.get("key_targets"), Scope(outer, [Source(name, columns_left)], ctes))
        return columns_left
    raise Denied("write.unsupported", f"{shown(kind)} is not a query; only queries are supported in this dialect")


def _read_with(walk: Walk, cte_map: Node, outer: Scope | None, ctes: Ctes) -> Ctes:
    if "map" not in cte_map:
        return ctes
    known = dict(ctes)
    for entry in cte_map["map"]:
        value = entry["value"]
        check_keys("WITH", value, keys("aliases materialized query_node query key_targets"))
        node = value.get("query_node") or value["query"]["node"]
        columns = read_query(walk, node, outer, known)
        known[entry["key"].lower()] = renamed(columns, tuple(alias.lower() for alias in value.get("aliases", ())))
    return known


def _select(walk: Walk, node: Node, outer: Scope | None, ctes: Ctes) -> Columns:
    check_keys("SELECT", node, _SELECT_KEYS)
    sources, starred = read_from(walk, node["from_table"], outer, ctes, [])
    outputs = _output_names(node["select_list"], starred)
    aliases = tuple(item["alias"].lower() for item in node["select_list"] if "alias" in item)
    scope = Scope(outer, sources, ctes, aliases)
    walk.named += [
        (item, deepcopy(item)) for item in node["select_list"] if "alias" not in item and item["class"] not in _KEPT
    ]
    visit_any(walk, node["select_list"], scope)
    for key in ("where_clause", "group_expressions", "having", "qualify"):
        visit_any(walk, node.get(key), scope)
    _modifiers(walk, node, scope)
    return outputs


def _modifiers(walk: Walk, node: Node, scope: Scope) -> None:
    for modifier in node.get("modifiers", ()):
        kind = modifier["type"]
        if kind == "ORDER_MODIFIER":
            visit_orders(walk, modifier.get("orders", []), scope)
        elif kind == "LIMIT_MODIFIER":
            check_keys("LIMIT", modifier, keys("type limit offset limit_type"))
            around = Scope(None, [], scope.ctes)
            visit_any(walk, modifier.get("limit"), around)
            visit_any(walk, modifier.get("offset"), around)
        elif kind == "DISTINCT_MODIFIER":
            check_keys("DISTINCT", modifier, keys("type distinct_on_targets"))
            visit_any(walk, modifier.get("distinct_on_targets"), scope)
        else:
            deny("node.unlisted", f"{shown(kind)} is not a part of SQL that the policy allows; rephrase without it")


def _output_names(items: list[Node], starred: Columns) -> Columns:
    names: list[str] = []
    for item in items:
        if "alias" in item:
            names.append(item["alias"].lower())
        elif item["class"] == "COLUMN_REF":
            names.append(item["column_names"][-1].lower())
        elif (
            item["class"] == "STAR"
            and not item.get("columns")
            and "expr" not in item
            and not item.get("relation_name")
            and starred is not None
        ):
            excluded = {name.lower() for name in item.get("exclude_list", ()) if isinstance(name, str)}
            if "rename_list" in item:
                return None
            names += [name for name in starred if name not in excluded]
        elif item["class"] in (
            "STAR",
            "FUNCTION",
            "OPERATOR",
            "WINDOW",
            "CAST",
            "SUBQUERY",
            "CASE",
            "COMPARISON",
            "CONSTANT",
        ):
            # DuckDB names these by their text, which only a quoted name can mean; a name unknown here is left to the
            # engine.
            return None
        else:
            return None
    return tuple(names)


# --- FROM
# --------------------------------------------------------------------------------------------------------------


def read_from(walk: Walk, node: Node, outer: Scope | None, ctes: Ctes, before: list[Source]) -> From:
    """Checks a table reference; `before` is what it may see to its left."""
    kind = node["type"]
    if kind == "EMPTY":
        return [], ()
    if kind == "JOIN":
        return _join(walk, node, outer, ctes, before)
    aliases = tuple(alias.lower() for alias in node.get("column_name_alias", ()))
    alias = node.get("alias", "").lower()
    scope = Scope(outer, list(before), ctes)
    if kind == "BASE_TABLE":
        source = _table(walk, node, alias, aliases, ctes)
    elif kind == "SUBQUERY":
        check_keys("subquery", node, keys("type alias subquery column_name_alias sample"))
        columns = read_query(walk, node["subquery"]["node"], scope, ctes)
        source = Source(alias, renamed(columns, aliases))
    elif kind == "TABLE_FUNCTION":
        source = _table_function(walk, node, alias, aliases, scope)
    elif kind == "EXPRESSION_LIST":
        check_keys("VALUES", node, keys("type alias values expected_names expected_types column_name_alias"))
        for row in node["values"]:
            visit_any(walk, row, scope)
        source = Source(alias, renamed(tuple(f"col{n}" for n in range(len(node["values"][0]))), aliases))
    elif kind == "PIVOT":
        source = _pivot(walk, node, alias, outer, ctes, before)
    elif kind == "SHOW_REF":
        deny("table.system", "DESCRIBE, SUMMARIZE and SHOW read metadata; ask Sandpool for the schema")
    else:
        deny("node.unlisted", f"{shown(kind)} in FROM is not a part of SQL that the policy allows; rephrase without it")
    return [source], source.columns


def _table(walk: Walk, node: Node, alias: str, aliases: tuple[str, ...], ctes: Ctes) -> Source:
    check_keys(
        "table", node, keys("type alias catalog_name schema_name table_name column_name_alias qualified_name sample")
    )
    if "catalog_name" in node or len(node.get("qualified_name", {}).get("path", ())) > 2:
        deny("table.qualified", f"{shown(node['table_name'])!r} is named with its database; write schema.table")
    name, schema = node["table_name"].lower(), node.get("schema_name", "").lower()
    if not schema and name in ctes:
        return Source(alias or name, renamed(ctes[name], aliases))
    rule = walk.book.find(schema, name)
    walk.allowed_tables.add((rule.schema.lower(), rule.name.lower()))
    (walk.restricted if rule.is_restricted else walk.qualified).append((node, rule))
    if rule.columns is None and aliases and rule.hides:
        deny("schema.needed", f"column aliases for {shown(name)!r} need its schema; leave the aliases out")
    columns, denied = renamed(rule.columns, aliases), rule.denied
    if aliases and rule.columns is not None and columns is not None:
        denied = frozenset(new for old, new in zip(rule.columns, columns, strict=True) if old in rule.denied)
    return Source(alias or name, columns, rule, denied, schema="" if alias else walk.book.fold(rule.schema))


def _table_function(walk: Walk, node: Node, alias: str, aliases: tuple[str, ...], scope: Scope) -> Source:
    check_keys("table function", node, keys("type alias function column_name_alias with_ordinality sample"))
    call = node["function"]
    if call["class"] != "FUNCTION":
        deny("node.unlisted", "only a function call may stand here in FROM")
    visit(walk, call, scope)
    name = call["function_name"].lower()
    columns: Columns = _BUILT_IN.get(name) or (None if name not in ("unnest",) else ("unnest",))
    if name == "unnest" and len(call.get("arguments", ())) > 1:
        columns = None
    if columns is not None and "with_ordinality" in node:
        columns = (*columns, "ordinality")
    return Source(
        alias or name, renamed(columns, aliases) if columns is not None and len(aliases) <= len(columns) else None
    )


def _join(walk: Walk, node: Node, outer: Scope | None, ctes: Ctes, before: list[Source]) -> From:
    check_keys("JOIN", node, keys("type alias left right condition using_columns join_type ref_type is_implicit"))
    left, left_columns = read_from(walk, node["left"], outer, ctes, before)
    right, right_columns = read_from(walk, node["right"], outer, ctes, before + left)
    both = left + right
    visit_any(walk, node.get("condition"), Scope(outer, both, ctes))
    shared = [name.lower() for name in node.get("using_columns", ())]
    if node.get("ref_type") == "NATURAL":
        if left_columns is None or right_columns is None:
            if any(not source.is_whole for source in both):
                deny(
                    "schema.needed",
                    "NATURAL JOIN with a restricted table needs the schema; name the columns with USING",
                )
        else:
            shared = [name for name in left_columns if name in right_columns]
    for name in shared:
        for source in both:
            if name in source.denied:
                deny(
                    "column.denied",
                    f"joining on the column {shown(name)!r} of {shown(source.name)!r} is not allowed; leave it out",
                )
    if node.get("join_type") in ("SEMI", "ANTI"):
        return left, left_columns
    if left_columns is None or right_columns is None:
        return both, None
    return both, left_columns + tuple(name for name in right_columns if name not in shared)


def _pivot(walk: Walk, node: Node, alias: str, outer: Scope | None, ctes: Ctes, before: list[Source]) -> Source:
    check_keys(
        "PIVOT", node, keys("type alias source aggregates unpivot_names pivots groups column_name_alias include_nulls")
    )
    sources, _ = read_from(walk, node["source"], outer, ctes, before)
    for source in sources:
        use_star(source)
    scope = Scope(outer, sources, ctes)
    visit_any(walk, node.get("aggregates"), scope)
    for pivot in node.get("pivots", ()):
        check_keys("PIVOT", pivot, keys("pivot_expressions unpivot_names entries"))
        visit_any(walk, pivot.get("pivot_expressions"), scope)
        for entry in pivot.get("entries", ()):
            check_keys("PIVOT", entry, keys("values star_expr alias"))
            visit_any(walk, entry.get("star_expr"), scope)
    return Source(alias, None)
