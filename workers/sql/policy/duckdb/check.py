"""The whole check of one statement in the duckdb dialect: parse, walk, rewrite, print, read the print again, audit
it."""

from __future__ import annotations

from typing import Any

import duckdb

from workers.sql.policy.duckdb.expression import check_function
from workers.sql.policy.duckdb.grammar import parse, print_tree
from workers.sql.policy.duckdb.query import read_query
from workers.sql.policy.duckdb.restrict import apply_restrictions, cap_rows
from workers.sql.policy.duckdb.walk import Node, Walk
from workers.sql.policy.rules import deny, shown
from workers.sql.policy.tables import Rulebook

_FROM_NODES = frozenset({"BASE_TABLE", "SUBQUERY", "JOIN", "TABLE_FUNCTION", "EXPRESSION_LIST", "EMPTY", "PIVOT"})
_QUERY_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE"})


def check(text: str, book: Rulebook, tenant: str, *, writes: bool, max_rows: int | None) -> tuple[str, str]:  # noqa: ARG001
    """The text to run and the kind of statement. Raises Denied."""
    nodes = parse(text)
    if not nodes:
        deny("statement.empty", "there is no statement; send one")
    if len(nodes) > 1:
        deny("statement.multiple", f"there are {len(nodes)} statements; send them one by one")
    node = nodes[0]
    walk = Walk(book, tenant, read_query)
    read_query(walk, node, None, {})
    apply_restrictions(walk)
    if max_rows is not None:
        node = cap_rows(node, max_rows)
    printed = print_tree(node)
    again = parse(printed)
    if len(again) != 1 or _comparable(again[0]) != _comparable(node):
        deny("print.fidelity", "the statement cannot be printed again without changing it; rephrase it in plainer SQL")
    _audit(printed, again[0], walk)
    return printed, "select"


def _comparable(value: Any) -> Any:
    """A tree without what printing may change and nobody can see in a result."""
    if isinstance(value, list):
        return [_comparable(item) for item in value]
    if not isinstance(value, dict):
        return value
    if (
        value.get("type") == "SUBQUERY"
        and value.get("alias") == _VALUES_ALIAS
        and value.keys() == {"type", "alias", "subquery"}
    ):
        # DuckDB prints VALUES with one more SELECT * around it.
        inner = value["subquery"]["node"]
        values = inner.get("from_table", {})
        if (
            inner.keys() <= _PLAIN_SELECT
            and inner.get("select_list") == [_STAR]
            and values.get("alias") == _VALUES_ALIAS
        ):
            return _comparable(values)
    argument = value.get("expression")
    if "name" in value and isinstance(argument, dict) and argument.get("alias") == value["name"]:
        # Printed, f(a := x) gives x the alias a besides; list comprehensions are such calls without it.
        value = {**value, "expression": {key: item for key, item in argument.items() if key != "alias"}}
    return {key: _comparable(item) for key, item in value.items() if key not in ("is_operator", "is_implicit")}


_VALUES_ALIAS = "valueslist"
_STAR = {"class": "STAR", "type": "STAR"}
_PLAIN_SELECT = frozenset({"type", "cte_map", "select_list", "from_table", "aggregate_handling"})


def _is_unlisted(kind: str, value: Node) -> bool:
    if kind.endswith("_NODE"):
        return kind not in _QUERY_NODES
    is_table = "column_name_alias" in value or "table_name" in value
    return kind == "SHOW_REF" or (is_table and kind not in _FROM_NODES)


def _audit(printed: str, node: Node, walk: Walk) -> None:
    """Second opinion on the printed text: a flat search, without any notion of scopes."""
    statements = duckdb.extract_statements(printed)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        deny("opinion.refused", "DuckDB reads the printed text as something else than one query")
    names: set[str] = set()
    tables: list[Node] = []
    pending: list[Any] = [node]
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending += value
            continue
        if not isinstance(value, dict):
            continue
        pending += value.values()
        kind = value.get("type")
        if "class" not in value and isinstance(kind, str):
            if kind == "BASE_TABLE":
                tables.append(value)
            elif _is_unlisted(kind, value):
                deny("opinion.refused", f"the printed text holds {shown(kind)}, which is not allowed")
        if value.get("class") in ("FUNCTION", "WINDOW"):
            check_function(walk, value)
        names.update(
            entry["key"].lower() for entry in value.get("map", ()) if isinstance(entry, dict) and "key" in entry
        )
        if "cte_name" in value:
            names.add(value["cte_name"].lower())
    for table in tables:
        schema, name = table.get("schema_name", "").lower(), table["table_name"].lower()
        if (schema, name) not in walk.allowed_tables and (schema or name not in names):
            deny("opinion.refused", f"the printed text reads {shown(name)!r}, which the check did not see")
