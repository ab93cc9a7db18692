"""Rewrites a checked DuckDB query: schema names, filters, masks and hidden columns in the table's place, the row
limit."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from workers.sql.policy.document import TENANT
from workers.sql.policy.duckdb.grammar import parse, print_tree, select_of
from workers.sql.policy.duckdb.walk import Node, Walk
from workers.sql.policy.rules import Denied, deny, shown
from workers.sql.policy.tables import Rulebook, TableRule

_PARAMETER = "sandpool_tenant"


def apply_restrictions(walk: Walk) -> None:
    """Puts schemas, filters, masks and hidden columns into the tree."""
    for star, denied in walk.trimmed:
        kept = [name for name in star["exclude_list"] if not isinstance(name, str) or name.lower() not in denied]
        star.pop("exclude_list")
        if kept:
            star["exclude_list"] = kept
    for reference in walk.stripped:
        del reference["column_names"][0]
    for table, rule in walk.qualified:
        _qualify(table, rule)
    for table, rule in walk.restricted:
        _replace(walk, table, rule)
    for item, written in walk.named:
        if item != written:
            # DuckDB names a column after its text: it must not show what stands in a table's place.
            item["alias"] = print_tree(select_of(written)).removeprefix("SELECT ")


def _qualify(table: Node, rule: TableRule) -> None:
    table["schema_name"] = rule.schema
    table["table_name"] = rule.name
    table["qualified_name"] = {"path": [rule.schema, rule.name]}


def _replace(walk: Walk, table: Node, rule: TableRule) -> None:
    select, named = restricted_select(walk.book, rule, walk.tenant)
    walk.allowed_tables |= named
    aliases = table.get("column_name_alias", [])
    if aliases and rule.columns is not None:
        aliases = [name for name, column in zip(aliases, rule.columns, strict=False) if column not in rule.denied]
    if rule.filter is not None and rule.fence:
        # A limit keeps the optimiser from running the query's own conditions before the filter.
        zero = {"class": "CONSTANT", "type": "VALUE_CONSTANT", "literal": {"kind": "INTEGER", "text": "0"}}
        select["modifiers"] = [{"type": "LIMIT_MODIFIER", "offset": zero}]
    alias = table.get("alias") or rule.name
    # A sample of the permitted rows: it stays outside.
    kept = {key: table[key] for key in ("sample",) if key in table}
    table.clear()
    table |= {"type": "SUBQUERY", "alias": alias, "subquery": {"node": select}, **kept}
    if aliases:
        table["column_name_alias"] = aliases


def restricted_select(book: Rulebook, rule: TableRule, tenant: str) -> tuple[Node, set[tuple[str, str]]]:
    """A fresh SELECT of the rows and columns that the policy permits, and the tables that it names."""
    key = ("duckdb", tenant if book.policy.uses_tenant else "")
    if key not in rule.templates:
        if len(rule.templates) > 1024:
            rule.templates.clear()
        select = _build_select(book, rule, tenant)
        rule.templates[key] = (select, set(_tables_in(select)))
    select, named = rule.templates[key]
    return deepcopy(select), named


def _tables_in(value: Any) -> list[tuple[str, str]]:
    if isinstance(value, list):
        return [name for item in value for name in _tables_in(item)]
    if not isinstance(value, dict):
        return []
    own = (
        [(value["schema_name"].lower(), value["table_name"].lower())]
        if "table_name" in value and "schema_name" in value
        else []
    )
    return own + [name for item in value.values() for name in _tables_in(item)]


def _build_select(book: Rulebook, rule: TableRule, tenant: str) -> Node:
    columns = rule.columns
    if columns is None and rule.masks:
        deny(
            "schema.needed", f"the masks of {shown(rule.name)!r} need its columns: give the schema or list the columns"
        )
    select = parse("SELECT * FROM t")[0]
    _qualify(select["from_table"], rule)
    if columns is not None and (rule.hides or rule.masks):
        items: list[Node] = []
        for column in columns:
            stored = rule.spelling[column]
            if column in rule.masks:
                items.append({**own_expression(book, rule, rule.masks[column], tenant), "alias": stored})
            elif column not in rule.denied:
                items.append(_column(rule, stored))
        select["select_list"] = items
    if rule.filter is not None:
        select["where_clause"] = own_expression(book, rule, rule.filter, tenant)
    return select


def own_expression(book: Rulebook, rule: TableRule, text: str, tenant: str) -> Node:
    """A filter or mask of the policy as a tree, with the tenant as a string literal."""
    if TENANT in text and not tenant:
        deny("policy.tenant", "the policy filters by tenant and no tenant was given")
    try:
        nodes = parse("SELECT (" + text.replace(TENANT, "$" + _PARAMETER) + "\n)")
    except Denied as error:
        deny("policy.filter", f"the policy's own expression for {shown(rule.name)!r} does not parse: {error.reason}")
    select = nodes[0]
    if (
        len(nodes) != 1
        or len(select.get("select_list", ())) != 1
        or select.get("from_table", {}).get("type") != "EMPTY"
    ):
        deny("policy.filter", f"the policy's own expression for {shown(rule.name)!r} is not one SQL expression")
    found = [0]
    value: Node = _own(book, rule, select["select_list"][0], tenant, found, top=True)
    if found[0] != text.count(TENANT):
        deny("policy.filter", f"{TENANT} in the policy's expression for {shown(rule.name)!r} must not stand in quotes")
    return value


def _own(book: Rulebook, rule: TableRule, value: Any, tenant: str, found: list[int], *, top: bool) -> Any:
    if isinstance(value, list):
        return [_own(book, rule, item, tenant, found, top=top) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("class") == "PARAMETER":
        if value.get("identifier") != _PARAMETER:
            deny(
                "policy.filter",
                f"the policy's expression for {shown(rule.name)!r} holds a parameter; only {TENANT} is known",
            )
        found[0] += 1
        return {"class": "CONSTANT", "type": "VALUE_CONSTANT", "literal": {"kind": "STRING", "text": tenant}}
    if top and value.get("class") == "COLUMN_REF":
        names = [name.lower() for name in value["column_names"]]
        if (rule.columns is not None and names[-1] not in rule.columns) or names[:-1] not in ([], [rule.name.lower()]):
            deny(
                "policy.filter",
                f"the policy's expression for {shown(rule.name)!r} names {shown('.'.join(names))!r}, which is no "
                "column of it",
            )
        return _column(rule, value["column_names"][-1])
    if value.get("type") == "BASE_TABLE" and "schema_name" not in value:
        path = [book.default_schema, value["table_name"]]
        return {**value, "schema_name": book.default_schema, "qualified_name": {"path": path}}
    below = top and value.get("class") != "SUBQUERY"
    return {key: _own(book, rule, item, tenant, found, top=below) for key, item in value.items()}


def _column(rule: TableRule, column: str) -> Node:
    return {"class": "COLUMN_REF", "type": "COLUMN_REF", "column_names": [rule.name, column]}


def cap_rows(node: Node, max_rows: int) -> Node:
    """The query with at most `max_rows` rows in its result, in the same order."""
    cap = {"class": "CONSTANT", "type": "VALUE_CONSTANT", "literal": {"kind": "INTEGER", "text": str(max_rows)}}
    limits = [m for m in node.get("modifiers", ()) if m["type"] == "LIMIT_MODIFIER"]
    if not limits:
        node["modifiers"] = [*node.get("modifiers", ()), {"type": "LIMIT_MODIFIER", "limit": cap}]
        return node
    limit = limits[-1]
    literal = limit.get("limit", {}).get("literal", {})
    if "limit_type" not in limit and len(limits) == 1:
        if "limit" not in limit or literal.get("kind") == "NULL_LITERAL":
            limit["limit"] = cap
            return node
        if literal.get("kind") == "INTEGER" and literal["text"].isdigit():
            if int(literal["text"]) > max_rows:
                limit["limit"] = cap
            return node
    wrapped = parse("SELECT * FROM (SELECT 1) AS capped")[0]
    wrapped["from_table"]["subquery"]["node"] = node
    wrapped["modifiers"] = [{"type": "LIMIT_MODIFIER", "limit": cap}]
    return wrapped
