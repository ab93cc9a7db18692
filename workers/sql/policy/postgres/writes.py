"""INSERT, UPDATE, DELETE and MERGE of the postgres dialect, at the top of a statement or in its WITH.

A write's target cannot be replaced by a subquery, so a row filter is ANDed to its WHERE, and whatever could put or
leave a
row outside the filter, or read a masked column, is refused. Called by check.py and query.py.
"""

from __future__ import annotations

from workers.sql.policy.names import Scope, Source, deny_column, use_star
from workers.sql.policy.postgres.expression import visit, visit_all
from workers.sql.policy.postgres.outputs import output_name
from workers.sql.policy.postgres.query import read_from_item, read_query, read_with
from workers.sql.policy.postgres.quiet import is_quiet
from workers.sql.policy.postgres.restrict import own_expression
from workers.sql.policy.postgres.walk import Columns, Ctes, Node, Walk, check_keys, kind_of
from workers.sql.policy.rules import deny, shown

WRITES = {"InsertStmt": "insert", "UpdateStmt": "update", "DeleteStmt": "delete", "MergeStmt": "merge"}


def read_write(walk: Walk, node: Node, outer: Scope | None, ctes: Ctes) -> Columns:
    """Checks a write and holds it to the filter of its target; gives the columns of RETURNING. Raises Denied."""
    kind = kind_of(node)
    if kind not in WRITES:
        deny("statement.kind", f"{kind.removesuffix('Stmt')} may not stand in WITH; only queries and listed writes may")
    message = node[kind]
    walk.write_kind = walk.write_kind or WRITES[kind]
    if "withClause" in message:
        ctes = read_with(walk, message["withClause"], outer, ctes)
    target = read_target(walk, message["relation"], WRITES[kind])
    if kind == "InsertStmt":
        _insert(walk, message, target, outer, ctes)
        scope = Scope(outer, [target], ctes)
    elif kind == "MergeStmt":
        scope = _merge(walk, message, target, outer, ctes)
    else:
        scope = _change(walk, kind, message, target, outer, ctes)
    return _returning(walk, message, target, scope)


def read_target(walk: Walk, relation: Node, kind: str) -> Source:
    """The table that a write of this kind changes. Raises Denied."""
    if relation.get("catalogname") in walk.databases and "schemaname" in relation:
        del relation["catalogname"]
    check_keys("target", relation, frozenset({"schemaname", "relname", "inh", "relpersistence", "alias"}))
    rule = walk.book.find(relation.get("schemaname", ""), relation["relname"])
    if kind not in rule.kinds:
        listed = ", ".join(sorted(rule.kinds)) or "none"
        deny(
            "write.not-allowed",
            f"{kind.upper()} on {shown(rule.name)!r} is not allowed; writes allowed on it: {listed}",
        )
    if not walk.writes:
        deny("write.undeclared", "the job does not declare that it writes; submit it with writes=true")
    walk.qualified.append((relation, rule))
    walk.allowed_tables.add((rule.schema, rule.name))
    alias = relation.get("alias")
    name = alias["aliasname"] if alias else rule.name
    return Source(name, rule.columns, rule, rule.denied, frozenset(rule.masks), "" if alias else rule.schema)


def _demand(target: Source, kind: str) -> None:
    rule = target.rule
    if rule is None or kind not in rule.kinds:
        deny("write.not-allowed", f"the {kind.upper()} part of this statement is not allowed on {shown(target.name)!r}")


def settable(target: Source, column: str) -> None:
    """Raises Denied for a column that writes may not set."""
    if column in target.denied:
        deny_column(target, column)
    if target.columns is not None and column not in target.columns:
        deny(
            "column.unknown",
            f"{shown(target.name)!r} has no column {shown(column)!r}; use the columns that the schema lists",
        )
    if target.columns is None and target.rule is not None and target.rule.hides:
        deny("schema.needed", f"writing to {shown(target.name)!r} needs its schema, because some columns are denied")


# --- UPDATE and DELETE
# -------------------------------------------------------------------------------------------------


def _change(walk: Walk, kind: str, message: Node, target: Source, outer: Scope | None, ctes: Ctes) -> Scope:
    known = {"relation", "whereClause", "returningClause", "withClause"}
    check_keys(
        kind, message, frozenset(known | ({"targetList", "fromClause"} if kind == "UpdateStmt" else {"usingClause"}))
    )
    sources = [target]
    for item in message.get("fromClause", []) + message.get("usingClause", []):
        sources += read_from_item(walk, item, outer, ctes, sources[1:])[0]
    scope = Scope(outer, sources, ctes)
    condition = message.get("whereClause")
    if condition is not None:
        if "CurrentOfExpr" in condition:
            deny(
                "write.where",
                "WHERE CURRENT OF needs a cursor, which does not exist here; name the rows by a condition",
            )
        target.used.clear()
        visit(walk, condition, scope)
    if walk.book.policy.require_where and not (condition is not None and target.used):
        word = WRITES[kind].upper()
        deny("write.where", f"{word} needs a WHERE over columns of {shown(target.name)!r}; say which rows")
    if kind == "UpdateStmt":
        for item in message["targetList"]:
            _assignment(walk, item["ResTarget"], target, scope)
    _and_filter(walk, message, target)
    return scope


def _assignment(walk: Walk, item: Node, target: Source, scope: Scope) -> None:
    check_keys("SET", item, frozenset({"name", "indirection", "val"}))
    settable(target, item["name"])
    if item["name"] in _filter_columns(walk, target):
        deny(
            "write.filtered",
            f"column {shown(item['name'])!r} decides which rows exist for you and cannot be changed; leave it out",
        )
    for step in item.get("indirection", ()):
        if "A_Indices" not in step:
            deny("expression.attribute", "SET column.field is not allowed; set the whole column")
        for key in ("lidx", "uidx"):
            if key in step["A_Indices"]:
                visit(walk, step["A_Indices"][key], scope)
    value = item["val"]
    if "MultiAssignRef" in value:
        value = value["MultiAssignRef"]["source"]
    visit(walk, value, scope)


def _filter_columns(walk: Walk, target: Source) -> set[str]:
    rule = target.rule
    if rule is None or rule.filter is None:
        return set()
    tree = own_expression(walk.book, rule, rule.filter, walk.tenant, target.name)
    return set(_columns_in(tree))


def _columns_in(value: object) -> list[str]:
    if isinstance(value, list):
        return [name for item in value for name in _columns_in(item)]
    if not isinstance(value, dict):
        return []
    if "ColumnRef" in value:
        last = value["ColumnRef"]["fields"][-1]
        return [last["String"]["sval"]] if "String" in last else []
    return [name for item in value.values() for name in _columns_in(item)]


def _and_filter(walk: Walk, message: Node, target: Source) -> None:
    rule = target.rule
    if rule is None or rule.filter is None:
        return

    def filter_tree() -> Node:
        return own_expression(walk.book, rule, rule.filter or "", walk.tenant, target.name)

    condition = message.get("whereClause")
    if condition is None:
        message["whereClause"] = filter_tree()
        return
    if not is_quiet({"DeleteStmt": message}):
        # CASE keeps the caller's condition from being evaluated on rows outside the filter, where an error would tell.
        when = {"CaseWhen": {"expr": filter_tree(), "result": condition}}
        condition = {"CaseExpr": {"args": [when]}}
    message["whereClause"] = {"BoolExpr": {"boolop": "AND_EXPR", "args": [filter_tree(), condition]}}


# --- INSERT
# ------------------------------------------------------------------------------------------------------------


def _insert(walk: Walk, message: Node, target: Source, outer: Scope | None, ctes: Ctes) -> None:
    check_keys(
        "INSERT",
        message,
        frozenset({"relation", "cols", "selectStmt", "onConflictClause", "returningClause", "withClause", "override"}),
    )
    names: list[str] | None = None
    if "cols" in message:
        names = []
        for item in message["cols"]:
            if "indirection" in item["ResTarget"]:
                deny("expression.attribute", "INSERT into a part of a column is not allowed; insert the whole column")
            settable(target, item["ResTarget"]["name"])
            names.append(item["ResTarget"]["name"])
    elif target.rule is not None and target.rule.hides:
        deny(
            "column.denied",
            f"some columns of {shown(target.name)!r} may not be written; list the columns after its name",
        )
    elif target.columns is not None:
        names = list(target.columns)
    if "selectStmt" in message:
        read_query(walk, message["selectStmt"], outer, ctes)
    _hold_insert(walk, message, target, names)
    if "onConflictClause" in message:
        _on_conflict(walk, message["onConflictClause"], target, outer, ctes)


def _hold_insert(walk: Walk, message: Node, target: Source, names: list[str] | None) -> None:
    """An INSERT into a filtered table must show in its text that every row passes the filter."""
    rule = target.rule
    if rule is None or rule.filter is None:
        return
    wanted = _constants(own_expression(walk.book, rule, rule.filter, walk.tenant, target.name))
    select = message.get("selectStmt", {}).get("SelectStmt", {})
    if "valuesLists" in select:
        rows = [row["List"]["items"] for row in select["valuesLists"]]
    elif select.get("targetList") and select["op"] == "SETOP_NONE":
        rows = [[item["ResTarget"]["val"] for item in select["targetList"]]]
    else:
        rows = []
    for column, constant in (wanted or {}).items():
        index = names.index(column) if names and column in names else -1
        for row in rows:
            stars = any(_is_star(value) for value in row[: index + 1])
            if index < 0 or index >= len(row) or stars or row[index] != constant:
                rows = []
                break
    if not wanted or not rows:
        what = f" with {', '.join(wanted)} written as its literal value in every row" if wanted else ""
        deny(
            "write.filtered",
            f"rows for {shown(target.name)!r} must be seen to pass its filter; use INSERT ... VALUES{what}",
        )


def _is_star(value: Node) -> bool:
    """Whether this item of a select list stands for several columns: t.*, (f(x)).*"""
    steps = [*value.get("ColumnRef", {}).get("fields", ()), *value.get("A_Indirection", {}).get("indirection", ())]
    return any("A_Star" in step for step in steps)


def _constants(tree: Node) -> dict[str, Node] | None:
    """Column -> constant where the filter is `column = constant AND ...`, else None."""
    if "BoolExpr" in tree and tree["BoolExpr"]["boolop"] == "AND_EXPR":
        found: dict[str, Node] = {}
        for part in tree["BoolExpr"]["args"]:
            below = _constants(part)
            if below is None:
                return None
            found |= below
        return found
    expression = tree.get("A_Expr", {})
    if expression.get("kind") != "AEXPR_OP" or expression["name"][-1]["String"]["sval"] != "=":
        return None
    sides = [expression.get("lexpr", {}), expression.get("rexpr", {})]
    columns = [side for side in sides if "ColumnRef" in side]
    constants = [side for side in sides if "A_Const" in side]
    if len(columns) != 1 or len(constants) != 1:
        return None
    return {columns[0]["ColumnRef"]["fields"][-1]["String"]["sval"]: constants[0]}


def _on_conflict(walk: Walk, clause: Node, target: Source, outer: Scope | None, ctes: Ctes) -> None:
    check_keys("ON CONFLICT", clause, frozenset({"action", "infer", "targetList", "whereClause"}))
    excluded = Source("excluded", target.columns, target.rule, target.denied, target.masked)
    own = Scope(outer, [target], ctes)
    infer = clause.get("infer", {})
    check_keys("ON CONFLICT", infer, frozenset({"indexElems", "whereClause", "conname"}))
    for item in infer.get("indexElems", ()):
        element = item["IndexElem"]
        check_keys("ON CONFLICT", element, frozenset({"name", "expr", "ordering", "nulls_ordering", "collation"}))
        if "name" in element:
            settable(target, element["name"])
        else:
            visit(walk, element["expr"], own)
    if "whereClause" in infer:
        visit(walk, infer["whereClause"], own)
    if clause["action"] != "ONCONFLICT_UPDATE":
        return
    _demand(target, "update")
    if target.rule is not None and target.rule.filter is not None:
        deny(
            "write.filtered",
            f"ON CONFLICT DO UPDATE could change hidden rows of {shown(target.name)!r}; use UPDATE and INSERT",
        )
    scope = Scope(outer, [target, excluded], ctes)
    for item in clause["targetList"]:
        _assignment(walk, item["ResTarget"], target, scope)
    if "whereClause" in clause:
        visit(walk, clause["whereClause"], scope)


# --- MERGE and RETURNING
# -------------------------------------------------------------------------------------------------


def _merge(walk: Walk, message: Node, target: Source, outer: Scope | None, ctes: Ctes) -> Scope:
    check_keys(
        "MERGE",
        message,
        frozenset({"relation", "sourceRelation", "joinCondition", "mergeWhenClauses", "returningClause", "withClause"}),
    )
    if target.rule is not None and target.rule.filter is not None:
        deny(
            "write.filtered", f"MERGE into {shown(target.name)!r} could meet hidden rows; use UPDATE, DELETE and INSERT"
        )
    sources, _ = read_from_item(walk, message["sourceRelation"], outer, ctes, [])
    scope = Scope(outer, [target, *sources], ctes)
    visit(walk, message["joinCondition"], scope)
    for wrapped in message["mergeWhenClauses"]:
        clause = wrapped["MergeWhenClause"]
        check_keys(
            "MERGE", clause, frozenset({"matchKind", "commandType", "override", "condition", "targetList", "values"})
        )
        if "condition" in clause:
            visit(walk, clause["condition"], scope)
        command = clause["commandType"]
        if command != "CMD_NOTHING":
            _demand(target, command.removeprefix("CMD_").lower())
        if command == "CMD_INSERT":
            if "targetList" not in clause and target.rule is not None and target.rule.hides:
                deny("column.denied", f"some columns of {shown(target.name)!r} may not be written; list the columns")
            for item in clause.get("targetList", ()):
                settable(target, item["ResTarget"]["name"])
            visit_all(walk, clause.get("values", []), scope)
        else:
            for item in clause.get("targetList", ()):
                _assignment(walk, item["ResTarget"], target, scope)
    return scope


def _returning(walk: Walk, message: Node, target: Source, scope: Scope) -> Columns:
    clause = message.get("returningClause")
    if clause is None:
        return ()
    check_keys("RETURNING", clause, frozenset({"exprs"}))
    names: list[str] | None = []
    for wrapped in clause["exprs"]:
        value = wrapped["ResTarget"]["val"]
        fields = value.get("ColumnRef", {}).get("fields", [])
        if fields and "A_Star" in fields[-1]:
            if len(fields) == 1:
                for source in scope.sources:
                    use_star(source)
            else:
                visit(walk, value, scope)
            names = (
                names + list(target.columns)
                if names is not None and target.columns is not None and len(scope.sources) == 1
                else None
            )
            continue
        visit(walk, wrapped, scope)
        if names is not None:
            names.append(output_name(wrapped["ResTarget"]))
    return None if names is None else tuple(names)
