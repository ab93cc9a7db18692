"""Expressions of the postgres dialect: every node must be of a listed kind, every name must mean something allowed.

Called by query.py and writes.py with the scope in which an expression stands. Never changes the tree, but notes for
restrict.py what has to change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workers.sql.policy.functions import functions, operators, types
from workers.sql.policy.names import Scope, Source, find_column, find_source, use_qualified, use_star
from workers.sql.policy.postgres.composites import fields_of, step_type, type_of
from workers.sql.policy.postgres.walk import Node, Walk, check_keys, kind_of, strings
from workers.sql.policy.rules import deny, shown

if TYPE_CHECKING:
    from collections.abc import Callable

_BUILT_IN = functions("postgres")
_OPERATORS = operators("postgres")
_TYPES = types("postgres")

_Shape = dict[str, str | None]
"""Key of a message -> kind of the unwrapped message below it, `` for wrapped nodes, None for a plain value."""


def _shape(plain: str, nodes: str = "", **messages: str) -> _Shape:
    return {**dict.fromkeys(plain.split()), **dict.fromkeys(nodes.split(), ""), **messages}


# Kinds that need no thought of their own: the parts listed here, nothing else.
SHAPES: dict[str, _Shape] = {
    "A_Const": _shape("ival fval boolval sval bsval isnull"),
    "ParamRef": _shape("number"),
    "BoolExpr": _shape("boolop", "args"),
    "NullTest": _shape("nulltesttype argisrow", "arg"),
    "BooleanTest": _shape("booltesttype", "arg"),
    "CaseExpr": _shape("", "arg args defresult"),
    "CaseWhen": _shape("", "expr result"),
    "CoalesceExpr": _shape("", "args"),
    "MinMaxExpr": _shape("op", "args"),
    "A_ArrayExpr": _shape("", "elements"),
    "RowExpr": _shape("row_format", "args"),
    "List": _shape("", "items"),
    "CollateClause": _shape("collname", "arg"),
    "GroupingFunc": _shape("", "args"),
    "GroupingSet": _shape("kind", "content"),
    "SetToDefault": _shape(""),
    "NamedArgExpr": _shape("name argnumber", "arg"),
    "WindowDef": _shape("name refname frameOptions", "partitionClause orderClause startOffset endOffset"),
    "XmlExpr": _shape("op name xmloption indent", "args named_args"),
    "XmlSerialize": _shape("xmloption indent", "expr", typeName="TypeName"),
    "JsonFormat": _shape("format_type encoding"),
    "JsonReturning": _shape("typid typmod", "", format="JsonFormat"),
    "JsonOutput": _shape("", "", typeName="TypeName", returning="JsonReturning"),
    "JsonValueExpr": _shape("", "raw_expr", format="JsonFormat"),
    "JsonKeyValue": _shape("", "key", value="JsonValueExpr"),
    "JsonObjectConstructor": _shape("absent_on_null unique", "exprs", output="JsonOutput"),
    "JsonArrayConstructor": _shape("absent_on_null", "exprs", output="JsonOutput"),
    "JsonArrayQueryConstructor": _shape("absent_on_null", "query", output="JsonOutput", format="JsonFormat"),
    "JsonAggConstructor": _shape("", "agg_filter agg_order", output="JsonOutput", over="WindowDef"),
    "JsonObjectAgg": _shape("absent_on_null unique", "", constructor="JsonAggConstructor", arg="JsonKeyValue"),
    "JsonArrayAgg": _shape("absent_on_null", "", constructor="JsonAggConstructor", arg="JsonValueExpr"),
    "JsonIsPredicate": _shape("item_type unique_keys", "expr", format="JsonFormat"),
    "JsonParseExpr": _shape("unique_keys", "", expr="JsonValueExpr", output="JsonOutput"),
    "JsonScalarExpr": _shape("", "expr", output="JsonOutput"),
    "JsonSerializeExpr": _shape("", "", expr="JsonValueExpr", output="JsonOutput"),
    "JsonArgument": _shape("name", "", val="JsonValueExpr"),
    "JsonBehavior": _shape("btype coerce", "expr"),
    "JsonFuncExpr": _shape(
        "op column_name wrapper quotes",
        "pathspec passing",
        context_item="JsonValueExpr",
        output="JsonOutput",
        on_empty="JsonBehavior",
        on_error="JsonBehavior",
    ),
}

_SESSION_VALUES = frozenset({
    "SVFOP_CURRENT_ROLE", "SVFOP_CURRENT_USER", "SVFOP_USER", "SVFOP_SESSION_USER", "SVFOP_CURRENT_CATALOG",
    "SVFOP_CURRENT_SCHEMA",
})  # fmt: skip

_BETWEEN = frozenset({"AEXPR_BETWEEN", "AEXPR_NOT_BETWEEN", "AEXPR_BETWEEN_SYM", "AEXPR_NOT_BETWEEN_SYM"})
_FUNCTION_KEYS = frozenset({
    "funcname", "args", "agg_order", "agg_filter", "over", "agg_within_group", "agg_star", "agg_distinct",
    "func_variadic",
    "funcformat",
})  # fmt: skip
_TYPE_KEYS = frozenset({"names", "typmods", "typemod", "arrayBounds"})


def visit(walk: Walk, node: Node, scope: Scope) -> None:
    """Checks one wrapped node, or a list's worth through `visit_all`. Raises Denied."""
    guards = walk.guards
    for kind, message in tuple(node.items()) if guards else node.items():
        if kind in guards and guards[kind](walk, node, message, scope):
            continue
        special = _SPECIAL.get(kind)
        if special is not None:
            special(walk, message, scope)
        else:
            visit_shape(walk, kind, message, scope)


def visit_all(walk: Walk, nodes: list[Node], scope: Scope) -> None:
    """Checks each of several wrapped nodes."""
    for node in nodes:
        visit(walk, node, scope)


def visit_shape(walk: Walk, kind: str, message: Node, scope: Scope) -> None:
    """Checks a message whose parts SHAPES lists."""
    shape = SHAPES.get(kind)
    if shape is None:
        deny("node.unlisted", f"{kind} is not a part of SQL that the policy allows; rephrase without it")
    for key, value in message.items():
        below = shape.get(key, "?")
        if below is None:
            continue
        if below == "?":
            deny("node.unlisted", f"{kind} with {key} is not a part of SQL that the policy allows; rephrase without it")
        if below == "":
            if type(value) is list:
                for item in value:
                    visit(walk, item, scope)
            else:
                visit(walk, value, scope)
        elif below == "TypeName":
            check_type(walk, value)
        else:
            visit_shape(walk, below, value, scope)


def visit_column(walk: Walk, message: Node, scope: Scope) -> None:
    """Checks one column reference. Raises Denied."""
    fields = message["fields"]
    last = fields[-1]
    if len(fields) == 1 and "String" in last:
        find_column(scope, last["String"]["sval"])
        return
    if "A_Star" in last:
        source = _qualifier(strings(fields[:-1]), scope)
        if source is None:
            deny("column.star", "* stands alone only in a select list; name the columns")
        use_star(source)
    else:
        names = strings(fields)
        source = _qualifier(names[:-1], scope)
        if source is None:
            deny("column.unknown", "no column is named with an empty qualifier")
        use_qualified(source, names[-1])
    if len(fields) == 3 and source.rule is not None and source.rule.is_restricted:
        walk.stripped.append(message)


def _qualifier(names: list[str], scope: Scope) -> Source | None:
    if not names:
        return None
    if len(names) > 2:
        deny("table.qualified", f"{shown('.'.join(names))!r} names another database; write table.column")
    source = find_source(scope, names[-1], names[0] if len(names) == 2 else "")
    if source is None:
        deny("column.unknown", f"nothing in FROM is named {shown('.'.join(names))!r}; use its alias where it has one")
    return source


def _operator(walk: Walk, names: list[str]) -> None:
    symbol = names[-1]
    if len(names) > 1 and names[0] != "pg_catalog" and f"{names[0]}.{symbol}" not in walk.book.operators:
        deny("operator.unlisted", f"operators of the schema {shown(names[0])!r} are not allowed; use a built-in one")
    if (
        symbol not in _OPERATORS
        and symbol not in walk.book.operators
        and f"{names[0]}.{symbol}" not in walk.book.operators
    ):
        deny("operator.unlisted", f"the operator {shown(symbol)} is not built in; the policy would have to name it")


_A_EXPR_KEYS = frozenset({"kind", "name", "lexpr", "rexpr"})


def _a_expr(walk: Walk, message: Node, scope: Scope) -> None:
    check_keys("A_Expr", message, _A_EXPR_KEYS)
    if message["kind"] not in _BETWEEN:
        name = message["name"]
        if len(name) > 1 or name[0]["String"]["sval"] not in _OPERATORS:
            _operator(walk, strings(name))
    left = message.get("lexpr")
    if left is not None:
        visit(walk, left, scope)
    right = message.get("rexpr")
    if right is not None:
        visit(walk, right, scope)


def _func_call(walk: Walk, message: Node, scope: Scope) -> None:
    check_keys("FuncCall", message, _FUNCTION_KEYS)
    check_function(walk, message)
    for key in ("args", "agg_order"):
        if key in message:
            visit_all(walk, message[key], scope)
    if "agg_filter" in message:
        visit(walk, message["agg_filter"], scope)
    if "over" in message:
        visit_shape(walk, "WindowDef", message["over"], scope)


def type_as_text(walk: Walk, node: Node, message: Node, scope: Scope) -> bool:
    """A guard of calls: pg_typeof(x) becomes pg_typeof(x)::text. Any number beside a regtype would print the name of a
    type, and each table has one: SELECT pg_typeof(1) UNION ALL SELECT 16400."""
    if strings(message["funcname"])[-1] != "pg_typeof":
        return False
    _func_call(walk, message, scope)
    node.clear()
    names = [{"String": {"sval": "pg_catalog"}}, {"String": {"sval": "text"}}]
    node["TypeCast"] = {"arg": {"FuncCall": message}, "typeName": {"names": names, "typemod": -1}}
    return True


def type_cast_to_text(walk: Walk, _node: Node, message: Node, scope: Scope) -> bool:
    """A guard of casts: pg_typeof(x)::text stays as it is."""
    call = message["arg"].get("FuncCall")
    names = strings(message["typeName"].get("names", []))
    if call is None or strings(call["funcname"])[-1] != "pg_typeof" or names[-1:] != ["text"]:
        return False
    check_type(walk, message["typeName"])
    _func_call(walk, call, scope)
    return "arrayBounds" not in message["typeName"]


def check_function(walk: Walk, message: Node) -> None:
    """Refuses a call of a function that is not allowed, by its written name and schema."""
    names = strings(message["funcname"])
    name = names[-1]
    book = walk.book
    if len(names) == 1:
        if name in _BUILT_IN:
            if name in book.user_functions:
                walk.functions.append(message)
            return
        if name in book.functions:
            return
        deny(
            "function.unlisted", f"the function {shown(name)}() is not on the list of harmless functions; leave it out"
        )
    written = ".".join(names)
    if len(names) == 2 and (
        (names[0] == "pg_catalog" and (name in _BUILT_IN or name in book.functions)) or written in book.functions
    ):
        return
    rule = "function.unlisted" if names[0] == "pg_catalog" else "function.schema"
    deny(
        rule, f"the function {shown(written)}() is not one that the policy allows; use a built-in one without a schema"
    )


def check_type(walk: Walk, message: Node) -> None:
    """Refuses types whose input functions look up objects, and user-defined ones that nobody listed."""
    check_keys("TypeName", message, _TYPE_KEYS)
    names = strings(message["names"])
    if len(names) == 1 and names[0] in _TYPES:
        return
    if len(names) == 2 and names[0] == "pg_catalog" and names[1] in _TYPES:
        return
    written = ".".join(names)
    book = walk.book
    if written in book.types or (written.lower() in book.column_types and not names[-1].startswith(("reg", "pg_"))):
        return
    deny("type.unlisted", f"a cast to {shown(written)} is not allowed; cast to a built-in type such as text")


def _type_cast(walk: Walk, message: Node, scope: Scope) -> None:
    check_keys("TypeCast", message, frozenset({"arg", "typeName"}))
    check_type(walk, message["typeName"])
    visit(walk, message["arg"], scope)


def _sub_link(walk: Walk, message: Node, scope: Scope) -> None:
    check_keys("SubLink", message, frozenset({"subLinkType", "testexpr", "operName", "subselect"}))
    if "operName" in message:
        _operator(walk, strings(message["operName"]))
    if "testexpr" in message:
        visit(walk, message["testexpr"], scope)
    walk.read_query(walk, message["subselect"], scope, scope.ctes)


def _indirection(walk: Walk, message: Node, scope: Scope) -> None:
    check_keys("A_Indirection", message, frozenset({"arg", "indirection"}))
    argument = message["arg"]
    fields: frozenset[str] = frozenset()
    row: Source | None = None
    kind = kind_of(argument)
    if kind == "FuncCall":
        name = strings(argument["FuncCall"]["funcname"])[-1]
        fields = frozenset(_BUILT_IN.get(name, ()))
    elif kind == "ColumnRef" and len(argument["ColumnRef"]["fields"]) == 1:
        row = _row_named(argument["ColumnRef"]["fields"][0], scope)
    first = True
    known = type_of(walk, argument, scope) if walk.book.composites else ""
    for step in message["indirection"]:
        step_kind = kind_of(step)
        inside = fields_of(walk, known)
        known = step_type(walk, known, step)
        if step_kind == "A_Indices":
            for key in ("lidx", "uidx"):
                if key in step["A_Indices"]:
                    visit(walk, step["A_Indices"][key], scope)
        elif row is not None and first:
            if step_kind == "A_Star":
                use_star(row)
            else:
                use_qualified(row, step["String"]["sval"])
        elif inside and (step_kind == "A_Star" or step["String"]["sval"] in inside):
            pass
        elif not first or not _is_field(walk, step, fields):
            name = step["String"]["sval"] if step_kind == "String" else "*"
            deny(
                "expression.attribute",
                f"(...).{shown(name)} may call a function of that name; write the function call or the column",
            )
        first = False
    if row is None or kind_of(message["indirection"][0]) == "A_Indices":
        visit(walk, argument, scope)


def _is_field(walk: Walk, step: Node, fields: frozenset[str]) -> bool:
    """Whether this is a field of a value whose fields are known, and so calls no function."""
    if "String" not in step:
        return bool(fields)
    name = step["String"]["sval"]
    return name in fields or (name in walk.book.fields and name not in walk.book.user_functions)


def _row_named(field: Node, scope: Scope) -> Source | None:
    """The source whose whole row a bare name means, where no column has that name."""
    if "String" not in field:
        return None
    name = field["String"]["sval"]
    around: Scope | None = scope
    row: Source | None = None
    while around is not None:
        for source in around.sources:
            if source.columns is None or name in source.columns or name in source.denied:
                return None
            if row is None and source.name == name and source.row_name:
                row = source
        around = around.parent
    return row


def _value_function(_walk: Walk, message: Node, _scope: Scope) -> None:
    if message["op"] in _SESSION_VALUES:
        deny("value.session", "facts about the session (CURRENT_USER and its like) may not be read; leave them out")


def _sort_by(walk: Walk, message: Node, scope: Scope) -> None:
    check_keys("SortBy", message, frozenset({"node", "sortby_dir", "sortby_nulls", "useOp"}))
    if "useOp" in message:
        _operator(walk, strings(message["useOp"]))
    visit(walk, message["node"], scope)


def _res_target(walk: Walk, message: Node, scope: Scope) -> None:
    check_keys("ResTarget", message, frozenset({"name", "val"}))
    visit(walk, message["val"], scope)


_SPECIAL: dict[str, Callable[[Walk, Any, Scope], object]] = {
    "ColumnRef": visit_column,
    "A_Expr": _a_expr,
    "FuncCall": _func_call,
    "TypeCast": _type_cast,
    "SubLink": _sub_link,
    "SelectStmt": lambda walk, message, scope: walk.read_query(walk, {"SelectStmt": message}, scope, scope.ctes),
    "A_Indirection": _indirection,
    "SQLValueFunction": _value_function,
    "SortBy": _sort_by,
    "ResTarget": _res_target,
    "String": lambda _walk, _message, _scope: None,
}
