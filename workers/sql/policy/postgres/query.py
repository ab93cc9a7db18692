"""Queries of the postgres dialect: WITH, FROM, set operations and the clauses of SELECT, resolved as the server does.

`read_query` is called for the statement and for every query inside it. Never changes the tree (restrict.py does).
"""

from __future__ import annotations

from workers.sql.policy.functions import functions
from workers.sql.policy.names import Scope, Source, find_source, renamed, use_star
from workers.sql.policy.postgres.calls import read_function, read_json_table, read_xml_table
from workers.sql.policy.postgres.composites import fields_of, type_of
from workers.sql.policy.postgres.expression import visit, visit_all, visit_shape
from workers.sql.policy.postgres.outputs import output_name
from workers.sql.policy.postgres.walk import Columns, Ctes, Node, Walk, alias_names, check_keys, kind_of, strings
from workers.sql.policy.rules import deny, shown

_BUILT_IN = functions("postgres")

_SELECT_KEYS = frozenset({
    "distinctClause", "targetList", "fromClause", "whereClause", "groupClause", "groupDistinct", "havingClause",
    "windowClause", "valuesLists", "sortClause", "limitOffset", "limitCount", "limitOption", "withClause", "op", "all",
    "larg", "rarg", "intoClause", "lockingClause",
})  # fmt: skip


def read_query(walk: Walk, node: Node, outer: Scope | None, ctes: Ctes) -> Columns:
    """Checks a query and gives the names of its columns, None when they cannot be known. Raises Denied."""
    kind = kind_of(node)
    if kind != "SelectStmt":
        deny(
            "write.unsupported",
            f"{kind.removesuffix('Stmt').upper()} may stand only at the top or in WITH of a statement",
        )
    return _select(walk, node["SelectStmt"], outer, ctes)


def _select(walk: Walk, select: Node, outer: Scope | None, ctes: Ctes) -> Columns:
    check_keys("SELECT", select, _SELECT_KEYS)
    if "lockingClause" in select:
        deny(
            "statement.locking",
            "row locks (FOR UPDATE, FOR SHARE and their like) are not allowed; leave the clause out",
        )
    if "intoClause" in select:
        deny("statement.into", "SELECT INTO creates a table; leave INTO out, the rows come back as the result")
    if "withClause" in select:
        ctes = read_with(walk, select["withClause"], outer, ctes)
    around = Scope(outer, [], ctes)
    for key in ("limitOffset", "limitCount"):
        if key in select:
            visit(walk, select[key], around)
    if select["op"] != "SETOP_NONE":
        return _set_operation(walk, select, outer, ctes)
    if "valuesLists" in select:
        return _values(walk, select, around)
    sources, starred = _from(walk, select.get("fromClause", []), outer, ctes)
    scope = Scope(outer, sources, ctes)
    outputs = _targets(walk, select.get("targetList", []), scope, starred)
    if "whereClause" in select:
        visit(walk, select["whereClause"], scope)
    if "havingClause" in select:
        visit(walk, select["havingClause"], scope)
    for window in select.get("windowClause", ()):
        visit_shape(walk, "WindowDef", window["WindowDef"], scope)
    if "groupClause" in select:
        _items(walk, select["groupClause"], scope, outputs, inputs_first=True)
        replaced = [s for s in sources if s.rule is not None and s.rule.is_restricted and s.rule.primary_key]
        if replaced:
            walk.groups.append((select, replaced))
    if "sortClause" in select:
        _items(walk, select["sortClause"], scope, outputs)
    if "distinctClause" in select:
        _items(walk, [item for item in select["distinctClause"] if item], scope, outputs)
    return outputs


def _items(walk: Walk, items: list[Node], scope: Scope, outputs: Columns, *, inputs_first: bool = False) -> None:
    """GROUP BY, ORDER BY and DISTINCT ON: a bare name may be an output's. GROUP BY prefers an input column."""
    names = frozenset(outputs or ())
    for item in items:
        node = item["SortBy"]["node"] if "SortBy" in item else item
        reference = node.get("ColumnRef")
        if reference is not None and len(reference["fields"]) == 1 and "String" in reference["fields"][0]:
            name = reference["fields"][0]["String"]["sval"]
            own = any(source.columns is None or name in source.columns for source in scope.sources)
            if name in names and not (inputs_first and own):
                if "SortBy" in item and "useOp" in item["SortBy"]:
                    visit(walk, {"SortBy": {**item["SortBy"], "node": {"A_Const": {}}}}, scope)
                continue
        if "GroupingSet" in item and inputs_first:
            _items(walk, item["GroupingSet"].get("content", []), scope, outputs, inputs_first=True)
        elif "RowExpr" in item and inputs_first:
            _items(walk, item["RowExpr"].get("args", []), scope, outputs, inputs_first=True)
        else:
            visit(walk, item, scope)


def _targets(walk: Walk, targets: list[Node], scope: Scope, everything: Columns) -> Columns:
    names: list[str] | None = []
    for wrapped in targets:
        target = wrapped["ResTarget"]
        value = target["val"]
        reference = value.get("ColumnRef")
        if reference is not None and "A_Star" in reference["fields"][-1]:
            starred = _star(walk, value, scope, everything)
            names = None if names is None or starred is None else [*names, *starred]
            continue
        visit(walk, wrapped, scope)
        indirection = value.get("A_Indirection")
        if indirection is not None and "A_Star" in indirection["indirection"][-1]:
            kept = {**indirection, "indirection": indirection["indirection"][:-1]}
            inside = fields_of(walk, type_of(walk, {"A_Indirection": kept}, scope))
            names = [*names, *inside] if inside and names is not None else None
        elif names is not None:
            names.append(output_name(target))
    return None if names is None else tuple(names)


def _star(walk: Walk, value: Node, scope: Scope, everything: Columns) -> Columns:
    if len(value["ColumnRef"]["fields"]) > 1:
        visit(walk, value, scope)
        source = find_source(scope, strings(value["ColumnRef"]["fields"][:-1])[-1])
        return source.columns if source is not None else None
    if not scope.sources:
        deny("column.star", "* needs something in FROM; name the columns")
    for source in scope.sources:
        if source.row_name:
            use_star(source)
    return everything


def _values(walk: Walk, select: Node, around: Scope) -> Columns:
    for row in select["valuesLists"]:
        visit(walk, row, around)
    width = len(select["valuesLists"][0]["List"].get("items", ()))
    columns = tuple(f"column{number}" for number in range(1, width + 1))
    if "sortClause" in select:
        visit_all(walk, select["sortClause"], Scope(around.parent, [Source("", columns, row_name=False)], around.ctes))
    return columns


def _set_operation(walk: Walk, select: Node, outer: Scope | None, ctes: Ctes) -> Columns:
    # A chain of unions leans to the left, one level per arm: walk down it instead of calling down it.
    rights: list[Node] = []
    left = select
    while left["op"] != "SETOP_NONE" and (left is select or left.keys() <= _PLAIN_ARM):
        rights.append(left["rarg"])
        left = left["larg"]
    columns = _select(walk, left, outer, ctes)
    for right in reversed(rights):
        _select(walk, right, outer, ctes)
    if "sortClause" in select:
        names = Scope(None, [Source("", columns, row_name=False)], ctes)
        visit_all(walk, select["sortClause"], names)
    return columns


_PLAIN_ARM = frozenset({"op", "all", "larg", "rarg", "limitOption"})


def read_with(walk: Walk, clause: Node, outer: Scope | None, ctes: Ctes) -> Ctes:
    """Checks WITH and gives the names in reach below it."""
    check_keys("WITH", clause, frozenset({"ctes", "recursive"}))
    known: dict[str, Columns] = dict(ctes)
    recursive = bool(clause.get("recursive"))
    if recursive:
        # Every name of WITH RECURSIVE is in reach of every body, also before its own turn.
        for wrapped in clause["ctes"]:
            entry = wrapped["CommonTableExpr"]
            known[entry["ctename"]] = _declared_columns(entry)
    for wrapped in clause["ctes"]:
        entry = wrapped["CommonTableExpr"]
        known[entry["ctename"]] = _cte(walk, entry, outer, known)
    return known


def _declared_columns(entry: Node) -> Columns:
    """Columns of a WITH RECURSIVE entry before its body is read: its alias list or its first arm's aliases."""
    aliases = tuple(strings(entry["aliascolnames"])) if "aliascolnames" in entry else ()
    query = entry["ctequery"].get("SelectStmt")
    while query is not None and "larg" in query:
        query = query["larg"]
    if query is None or "valuesLists" in query:
        return aliases or None
    targets = [target["ResTarget"] for target in query.get("targetList", ())]
    if any("*" in _stars(target["val"]) for target in targets):
        return None
    return renamed(tuple(output_name(target) for target in targets), aliases)


def _stars(value: Node) -> str:
    parts = value.get("ColumnRef", {}).get("fields", []) + value.get("A_Indirection", {}).get("indirection", [])
    return "*" if parts and "A_Star" in parts[-1] else ""


def _cte(walk: Walk, entry: Node, outer: Scope | None, ctes: dict[str, Columns]) -> Columns:
    check_keys(
        "WITH",
        entry,
        frozenset({"ctename", "aliascolnames", "ctematerialized", "ctequery", "search_clause", "cycle_clause"}),
    )
    body = entry["ctequery"]
    if kind_of(body) == "SelectStmt":
        columns = read_query(walk, body, outer, ctes)
    else:
        columns = walk.read_write(walk, body, outer, ctes)
    columns = renamed(columns, tuple(strings(entry["aliascolnames"])) if "aliascolnames" in entry else ())
    extra: list[str] = []
    if "search_clause" in entry:
        extra.append(entry["search_clause"]["search_seq_column"])
    if "cycle_clause" in entry:
        cycle = entry["cycle_clause"]
        around = Scope(None, [], ctes)
        for key in ("cycle_mark_value", "cycle_mark_default"):
            if key in cycle:
                visit(walk, cycle[key], around)
        extra += [cycle["cycle_mark_column"], cycle["cycle_path_column"]]
    return None if columns is None else columns + tuple(extra)


# --- FROM
# --------------------------------------------------------------------------------------------------------------


From = tuple[list[Source], Columns]
"""The sources that an item of FROM adds, and the columns that * means over it."""


def _from(walk: Walk, items: list[Node], outer: Scope | None, ctes: Ctes) -> From:
    sources: list[Source] = []
    columns: Columns = ()
    for item in items:
        added, starred = read_from_item(walk, item, outer, ctes, sources)
        sources += added
        columns = None if columns is None or starred is None else columns + starred
    return sources, columns


def read_from_item(walk: Walk, item: Node, outer: Scope | None, ctes: Ctes, before: list[Source]) -> From:
    """Checks one item of FROM; `before` is what LATERAL may see."""
    kind = kind_of(item)
    message = item[kind]
    if kind == "JoinExpr":
        return _join(walk, message, outer, ctes, before)
    if kind == "RangeVar":
        source = read_table(walk, item, message, ctes)
    elif kind == "RangeSubselect":
        source = _subquery(walk, message, outer, ctes, before)
    elif kind == "RangeFunction":
        source = read_function(walk, message, Scope(outer, list(before), ctes))
    elif kind == "RangeTableSample":
        source = _sample(walk, item, message, outer, ctes)
    elif kind == "RangeTableFunc":
        source = read_xml_table(walk, message, Scope(outer, list(before), ctes))
    elif kind == "JsonTable":
        source = read_json_table(walk, message, Scope(outer, list(before), ctes))
    else:
        deny("node.unlisted", f"{kind} in FROM is not a part of SQL that the policy allows; rephrase without it")
    return [source], source.columns


def _subquery(walk: Walk, message: Node, outer: Scope | None, ctes: Ctes, before: list[Source]) -> Source:
    check_keys("subquery", message, frozenset({"lateral", "subquery", "alias"}))
    lateral = Scope(outer, list(before), ctes) if message.get("lateral") else outer
    columns = read_query(walk, message["subquery"], lateral, ctes)
    alias = message.get("alias")
    return Source(alias["aliasname"] if alias else "", renamed(columns, alias_names(alias)))


def read_table(walk: Walk, item: Node, message: Node, ctes: Ctes) -> Source:
    """A table, view or WITH query by name."""
    check_keys("table", message, frozenset({"catalogname", "schemaname", "relname", "inh", "relpersistence", "alias"}))
    name = message["relname"]
    alias = message.get("alias")
    aliases = alias_names(alias)
    shown_name = alias["aliasname"] if alias else name
    if message.get("catalogname") in walk.databases and "schemaname" in message:
        del message["catalogname"]
    if "catalogname" in message:
        deny("table.qualified", f"{shown(name)!r} is named with its database; write schema.table")
    if "schemaname" not in message and name in ctes:
        return Source(shown_name, renamed(ctes[name], aliases))
    rule = walk.book.find(message.get("schemaname", ""), name)
    if rule.stand_in:
        walk.replaced.append((message, rule))
        walk.stand_ins.add(rule.stand_in)
        walk.introspects = True
        return Source(shown_name, renamed(rule.columns, aliases), rule, schema="" if alias else rule.schema)
    walk.allowed_tables.add((rule.schema, rule.name))
    if rule.is_restricted:
        walk.restricted.append((item, rule))
    else:
        walk.qualified.append((message, rule))
    if rule.columns is None and (aliases and rule.hides):
        deny("schema.needed", f"column aliases for {shown(name)!r} need its schema; leave the aliases out")
    columns = renamed(rule.columns, aliases)
    denied = rule.denied
    if aliases and rule.columns is not None and columns is not None:
        denied = frozenset(new for old, new in zip(rule.columns, columns, strict=True) if old in rule.denied)
    return Source(shown_name, columns, rule, denied, schema="" if alias else rule.schema)


def _sample(walk: Walk, item: Node, message: Node, outer: Scope | None, ctes: Ctes) -> Source:
    check_keys("TABLESAMPLE", message, frozenset({"relation", "method", "args", "repeatable"}))
    if strings(message["method"])[-1] not in ("system", "bernoulli"):
        deny("function.unlisted", "only the sampling methods SYSTEM and BERNOULLI are allowed")
    around = Scope(outer, [], ctes)
    visit_all(walk, message.get("args", []), around)
    if "repeatable" in message:
        visit(walk, message["repeatable"], around)
    return read_table(walk, item, message["relation"]["RangeVar"], ctes)


def _join(walk: Walk, message: Node, outer: Scope | None, ctes: Ctes, before: list[Source]) -> From:
    check_keys(
        "JOIN",
        message,
        frozenset({"jointype", "isNatural", "larg", "rarg", "usingClause", "join_using_alias", "quals", "alias"}),
    )
    left, left_columns = read_from_item(walk, message["larg"], outer, ctes, before)
    right, right_columns = read_from_item(walk, message["rarg"], outer, ctes, before + left)
    both = left + right
    if "quals" in message:
        visit(walk, message["quals"], Scope(outer, both, ctes))
    shared = strings(message.get("usingClause", []))
    if message.get("isNatural"):
        shared = _natural(both, left_columns, right_columns)
    for name in shared:
        for source in both:
            if name in source.denied:
                deny(
                    "column.denied",
                    f"joining on the column {shown(name)!r} of {shown(source.name)!r} is not allowed; leave it out",
                )
            if source.has(name):
                source.used.add(name)
    columns: Columns = None
    if left_columns is not None and right_columns is not None:
        columns = (*shared, *(c for c in left_columns + right_columns if c not in shared))
    if "join_using_alias" in message:
        both = [*both, Source(message["join_using_alias"]["aliasname"], tuple(shared), row_name=False)]
    if "alias" in message:
        return _aliased_join(message["alias"], both, columns)
    return both, columns


def _natural(both: list[Source], left: Columns, right: Columns) -> list[str]:
    if left is None or right is None:
        if any(source.rule is not None and source.rule.hides for source in both):
            deny("schema.needed", "NATURAL JOIN with a restricted table needs the schema; name the columns with USING")
        return []
    return [column for column in left if column in right]


def _aliased_join(alias: Node, both: list[Source], columns: Columns) -> From:
    for source in both:
        if not source.is_whole:
            deny(
                "column.alias-list",
                f"an alias for a join hides columns of {shown(source.name)!r} that may not be used; leave it out",
            )
    source = Source(alias["aliasname"], renamed(columns, alias_names(alias)))
    return [source], source.columns
