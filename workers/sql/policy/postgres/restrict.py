"""Rewrites a checked tree: schema names, row filters, masks and hidden columns in the table's place, and the row limit.

Called by check.py after the walk allowed the statement. A restricted table becomes
`(SELECT permitted columns FROM schema.table WHERE filter) AS alias`, so that no use of it can reach more.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from workers.sql.policy.document import TENANT
from workers.sql.policy.names import Source
from workers.sql.policy.postgres.grammar import parse
from workers.sql.policy.postgres.outputs import output_name
from workers.sql.policy.postgres.quiet import is_quiet, mentions
from workers.sql.policy.postgres.walk import Node, Walk, kind_of
from workers.sql.policy.rules import Denied, deny, shown
from workers.sql.policy.tables import Rulebook, TableRule

_TENANT_NUMBER = 2_147_483_647
_UNGROUPABLE = ("json", "xml", "point", "line", "lseg", "box", "path", "polygon", "circle", "pg_node_tree")


def apply_restrictions(walk: Walk, statement: Node) -> None:
    """Puts schemas, filters, masks and hidden columns into the tree."""
    for function in walk.functions:
        function["funcname"].insert(0, _string("pg_catalog"))
    for table, rule in walk.qualified:
        table["schemaname"] = rule.schema
    if not walk.restricted and not walk.replaced:
        return
    for select, sources in walk.groups:
        _extend_groups(select, sources)
    quiet: bool | None = None
    for item, rule in walk.restricted:
        fence = rule.fence
        if rule.filter is not None and fence == "auto":
            if quiet is None:
                quiet = is_quiet(statement)
            fence = not quiet or (bool(rule.masks) and mentions(statement, rule.masks))
        _replace(walk, item, rule, fenced=rule.filter is not None and bool(fence))
    for table, rule in walk.replaced:
        table.setdefault("alias", {"aliasname": table["relname"]})
        table.pop("schemaname", None)
        table["relname"] = rule.stand_in
    for reference in walk.stripped:
        del reference["fields"][0]


def _replace(walk: Walk, item: Node, rule: TableRule, *, fenced: bool) -> None:
    kind = kind_of(item)
    sample = item.pop(kind)
    table = sample["relation"]["RangeVar"] if kind == "RangeTableSample" else sample
    alias: Node = table.pop("alias", None) or {"aliasname": table["relname"]}
    if "colnames" in alias and rule.columns is not None:
        kept = [
            name for name, column in zip(alias["colnames"], rule.columns, strict=False) if column not in rule.denied
        ]
        alias = {"aliasname": alias["aliasname"], **({"colnames": kept} if kept else {})}
    select, named = restricted_select(walk.book, rule, walk.tenant)
    walk.allowed_tables |= named
    inner = select["fromClause"][0]["RangeVar"]
    if "inh" not in table:
        inner.pop("inh", None)
    if kind == "RangeTableSample":
        sample["relation"] = {"RangeVar": inner}
        select["fromClause"] = [{"RangeTableSample": sample}]
    if fenced:
        # OFFSET 0 keeps the planner from running the query's own conditions before the filter.
        select["limitOffset"] = {"A_Const": {"ival": {}}}
        select["limitOption"] = "LIMIT_OPTION_COUNT"
    item["RangeSubselect"] = {"subquery": {"SelectStmt": select}, "alias": alias}


def restricted_select(book: Rulebook, rule: TableRule, tenant: str) -> tuple[Node, set[tuple[str, str]]]:
    """A fresh SelectStmt of the rows and columns that the policy permits, and the tables that it names."""
    key = ("postgres", tenant if book.policy.uses_tenant else "")
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
    own = [(value["schemaname"], value["relname"])] if "relname" in value and "schemaname" in value else []
    return own + [name for item in value.values() for name in _tables_in(item)]


def _build_select(book: Rulebook, rule: TableRule, tenant: str) -> Node:
    columns = rule.columns
    if columns is None and rule.masks:
        deny(
            "schema.needed", f"the masks of {shown(rule.name)!r} need its columns: give the schema or list the columns"
        )
    targets: list[Node] = []
    if columns is None or not (rule.hides or rule.masks):
        targets = [{"ResTarget": {"val": {"ColumnRef": {"fields": [{"A_Star": {}}]}}}}]
    else:
        for column in columns:
            if column in rule.denied:
                continue
            if column in rule.masks:
                value = own_expression(book, rule, rule.masks[column], tenant, rule.name)
                targets.append({"ResTarget": {"name": column, "val": value}})
            else:
                targets.append({"ResTarget": {"val": column_of(rule.name, column)}})
    table = {"schemaname": rule.schema, "relname": rule.name, "inh": True, "relpersistence": "p"}
    select: Node = {"targetList": targets, "fromClause": [{"RangeVar": table}]}
    if rule.filter is not None:
        select["whereClause"] = own_expression(book, rule, rule.filter, tenant, rule.name)
    return {**select, "limitOption": "LIMIT_OPTION_DEFAULT", "op": "SETOP_NONE"}


def own_expression(book: Rulebook, rule: TableRule, text: str, tenant: str, alias: str) -> Node:
    """A filter or mask of the policy as a tree over the table `alias`, with the tenant as a string literal."""
    if TENANT in text and not tenant:
        deny("policy.tenant", "the policy filters by tenant and no tenant was given")
    try:
        statements = parse("SELECT (" + text.replace(TENANT, f"${_TENANT_NUMBER}") + "\n)")
    except Denied as error:
        deny("policy.filter", f"the policy's own expression for {shown(rule.name)!r} does not parse: {error.reason}")
    select = statements[0].get("SelectStmt", {}) if len(statements) == 1 else {}
    if select.keys() != {"targetList", "limitOption", "op"} or len(select["targetList"]) != 1:
        deny("policy.filter", f"the policy's own expression for {shown(rule.name)!r} is not one SQL expression")
    found = [0]
    value = _own(book, rule, select["targetList"][0]["ResTarget"]["val"], tenant, alias, found, top=True)
    if found[0] != text.count(TENANT):
        deny("policy.filter", f"{TENANT} in the policy's expression for {shown(rule.name)!r} must not stand in quotes")
    result: Node = value
    return result


def _own(book: Rulebook, rule: TableRule, value: Any, tenant: str, alias: str, found: list[int], *, top: bool) -> Any:
    if isinstance(value, list):
        return [_own(book, rule, item, tenant, alias, found, top=top) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("ParamRef", {}).get("number") == _TENANT_NUMBER:
        found[0] += 1
        return {"A_Const": {"sval": {"sval": tenant} if tenant else {}}}
    if "ParamRef" in value:
        deny(
            "policy.filter",
            f"the policy's expression for {shown(rule.name)!r} holds a parameter; only {TENANT} is known",
        )
    if top and "ColumnRef" in value:
        names = [field["String"]["sval"] if "String" in field else "*" for field in value["ColumnRef"]["fields"]]
        if (
            names[-1] == "*"
            or (rule.columns is not None and names[-1] not in rule.columns)
            or names[:-1] not in ([], [rule.name])
        ):
            deny(
                "policy.filter",
                f"the policy's expression for {shown(rule.name)!r} names {shown('.'.join(names))!r}, which is no "
                "column of it",
            )
        return column_of(alias, names[-1])
    if "RangeVar" in value and "schemaname" not in value["RangeVar"]:
        return {"RangeVar": {"schemaname": book.default_schema, **value["RangeVar"]}}
    below = top and "SelectStmt" not in value
    return {k: _own(book, rule, v, tenant, alias, found, top=below) for k, v in value.items()}


def _extend_groups(select: Node, sources: list[Source]) -> None:
    """GROUP BY a primary key lets SELECT use the table's other columns, but not once a subquery stands for the
    table."""
    groups: list[Node] = select["groupClause"]
    if any("GroupingSet" in item for item in groups):
        return
    grouped = [name for item in groups for name in _grouped_name(select, item)]
    for source in sources:
        rule = source.rule
        if rule is None or source.columns is None or rule.columns is None:
            continue
        names = dict(zip(rule.columns, source.columns, strict=False))
        if not all(("", names[key]) in grouped or (source.name, names[key]) in grouped for key in rule.primary_key):
            continue
        types = {names[column]: kind for column, kind in rule.types.items() if column in names}
        for column in source.columns:
            plain = types.get(column, "").lower()
            is_groupable = plain.startswith("jsonb") or not plain.startswith(_UNGROUPABLE)
            is_grouped = ("", column) in grouped or (source.name, column) in grouped
            if column in source.used and is_groupable and not is_grouped:
                groups.append(column_of(source.name, column))


def _grouped_name(select: Node, item: Node) -> list[tuple[str, str]]:
    constant = item.get("A_Const", {}).get("ival")
    if constant is not None:
        number = constant.get("ival", 0)
        targets = select.get("targetList", [])
        item = targets[number - 1]["ResTarget"]["val"] if 0 < number <= len(targets) else item
    reference = item.get("ColumnRef")
    if reference is None:
        return []
    names = [field["String"]["sval"] if "String" in field else "*" for field in reference["fields"]]
    if len(names) == 1:
        for target in select.get("targetList", []):
            value = target["ResTarget"]["val"].get("ColumnRef")
            if (
                value
                and output_name(target["ResTarget"]) == names[0]
                and len(value["fields"]) > 1
                and "String" in value["fields"][-1]
            ):
                fields = [field["String"]["sval"] for field in value["fields"]]
                return [("", names[0]), (fields[-2], fields[-1])]
        return [("", names[0])]
    return [(names[-2], names[-1])]


def cap_rows(statement: Node, max_rows: int) -> Node:
    """The statement with at most `max_rows` rows in its result, in the same order."""
    select = statement.get("SelectStmt")
    if select is None:
        return statement
    cap = (
        {"A_Const": {"ival": {"ival": max_rows}}}
        if max_rows < 2**31
        else {"A_Const": {"fval": {"fval": str(max_rows)}}}
    )
    if select.get("limitOption") == "LIMIT_OPTION_WITH_TIES":
        inner = {"RangeSubselect": {"subquery": {"SelectStmt": select}, "alias": {"aliasname": "capped"}}}
        star: Node = {"ResTarget": {"val": {"ColumnRef": {"fields": [{"A_Star": {}}]}}}}
        wrapped = {
            "targetList": [star],
            "fromClause": [inner],
            "limitCount": cap,
            "limitOption": "LIMIT_OPTION_COUNT",
            "op": "SETOP_NONE",
        }
        return {"SelectStmt": wrapped}
    count = select.get("limitCount")
    constant = count.get("A_Const") if count else None
    if count is None or (constant is not None and constant.get("isnull")):
        select["limitCount"] = cap
    elif constant is not None and "ival" in constant and constant["ival"].get("ival", 0) >= 0:
        if constant["ival"].get("ival", 0) > max_rows:
            select["limitCount"] = cap
    else:
        # LEAST passes over NULL, which means no limit; bigint is what LIMIT itself asks of a parameter.
        names = [{"String": {"sval": "pg_catalog"}}, {"String": {"sval": "int8"}}]
        big = {"TypeCast": {"arg": cap, "typeName": {"names": names, "typemod": -1}}}
        select["limitCount"] = {"MinMaxExpr": {"op": "IS_LEAST", "args": [count, big]}}
    select["limitOption"] = "LIMIT_OPTION_COUNT"
    return statement


def column_of(table: str, column: str) -> Node:
    """`table.column`."""
    return {"ColumnRef": {"fields": [_string(table), _string(column)]}}


def _string(text: str) -> Node:
    return {"String": {"sval": text}}
