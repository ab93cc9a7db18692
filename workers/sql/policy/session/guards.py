"""Guards for sessions: calls and casts that could name hidden objects are replaced by queries that only see visible
ones.

Called by the walk (postgres/expression.py) for the kinds of node in `GUARDS`, before its own check. A guard returns
whether it has dealt with the node; what it does not know goes on to the jobs' rules.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

from workers.sql.policy.functions import functions
from workers.sql.policy.names import Scope, Source, find_source
from workers.sql.policy.postgres.expression import type_as_text, type_cast_to_text, visit, visit_all, visit_column
from workers.sql.policy.postgres.grammar import parse
from workers.sql.policy.postgres.outputs import output_name
from workers.sql.policy.postgres.walk import Node, Walk, check_keys, kind_of, strings
from workers.sql.policy.rules import Denied, deny, shown
from workers.sql.policy.session.book import SessionRulebook
from workers.sql.policy.session.introspection import (
    CASTS,
    EXPRESSIONS,
    GUARDED,
    NULLS,
    PLAIN,
    SIZES,
    Guard,
    printing_type,
)
from workers.sql.policy.session.relations import NO_ROW, RELATIONS
from workers.sql.policy.session.settings import IGNORED, READABLE

_BUILT_IN = functions("postgres")
_CALL_KEYS = frozenset({"funcname", "args", "funcformat"})
_USER_VALUES = frozenset({"SVFOP_CURRENT_ROLE", "SVFOP_CURRENT_USER", "SVFOP_USER", "SVFOP_SESSION_USER"})
_HELPER = re.compile(r"_sandpool_\w+")


def _call(walk: Walk, node: Node, message: Node, scope: Scope) -> bool:
    names = strings(message["funcname"])
    name = names[-1]
    if type_as_text(walk, node, message, scope):
        return True
    if names[:-1] not in ([], ["pg_catalog"], ["information_schema"]):
        return False
    written = name if names[:-1] != ["information_schema"] else ".".join(names)
    arguments = message.get("args", [])
    if written in _BUILT_IN or written in walk.book.functions:
        return False
    if written == "pg_get_expr":
        return _expression(walk, node, message, scope)
    guard = GUARDED.get((written, len(arguments)))
    if written in PLAIN and guard is None:
        return _plain(walk, message, scope)
    if written in ("current_setting", "set_config") and _text(arguments[0] if arguments else {}):
        return _setting(walk, node, message, scope, written)
    if guard is None and written.startswith("has_") and (written, len(arguments) - 1) in GUARDED:
        guard, arguments = GUARDED[written, len(arguments) - 1], _without_user(arguments, scope)
    if guard is None and written in SIZES and len(arguments) == 1 and _origin(arguments[0], scope) is not None:
        guard = SIZES[written]
    if guard is None and written in NULLS:
        guard = Guard(f"SELECT {NULLS[written]}")
    if guard is None:
        return False
    check_keys("FuncCall", message, _CALL_KEYS)
    visit_all(walk, message.get("args", []), scope)
    if guard.safe and _origin(arguments[0], scope) in guard.safe:
        message["args"] = arguments
        _qualify(walk, message)
    else:
        _replace(walk, node, guard, arguments, name)
    if written.startswith("to_reg"):
        _settle(walk, node, name)
    return True


def _plain(walk: Walk, message: Node, scope: Scope) -> bool:
    check_keys("FuncCall", message, _CALL_KEYS)
    visit_all(walk, message.get("args", []), scope)
    _qualify(walk, message)
    return True


def _qualify(walk: Walk, message: Node) -> None:
    """No function of a user may take the place of this built-in one."""
    walk.introspects = True
    if len(message["funcname"]) == 1:
        walk.functions.append(message)


def _without_user(arguments: list[Node], scope: Scope) -> list[Node]:
    """The arguments of has_..._privilege(user, ...) where the user is the session's own."""
    user = arguments[0]
    own = user.get("SQLValueFunction", {}).get("op") in _USER_VALUES
    if not own and _origin(user, scope) not in (("pg_roles", "rolname"), ("pg_roles", "oid"), ("pg_user", "usename")):
        deny("session.identity", "privileges of other roles may not be asked for; leave the role out")
    return arguments[1:]


def _setting(walk: Walk, node: Node, message: Node, scope: Scope, function: str) -> bool:
    """A setting named by a constant."""
    arguments = message["args"]
    name = _text(arguments[0]).lower()
    if function == "current_setting":
        if name not in READABLE:
            deny("session.setting", f"the setting {shown(name)!r} may not be read in this session")
        return _plain(walk, message, scope)
    if name not in IGNORED or len(arguments) != 3:
        deny("session.setting", "set_config is not available here; use SET for the settings that a session may change")
    check_keys("FuncCall", message, _CALL_KEYS)
    visit_all(walk, arguments, scope)
    _replace(walk, node, Guard("SELECT ($2)::pg_catalog.text"), arguments, function)
    return True


def _text(node: Node) -> str:
    """The text of a string constant, also cast to text; empty for anything else."""
    if "TypeCast" in node:
        node = node["TypeCast"]["arg"]
    text: str = node.get("A_Const", {}).get("sval", {}).get("sval", "")
    return text


def _expression(walk: Walk, node: Node, message: Node, scope: Scope) -> bool:
    check_keys("FuncCall", message, _CALL_KEYS)
    arguments = message.get("args", [])
    visit_all(walk, arguments, scope)
    found = [_place(argument, scope) for argument in arguments[:2]]
    first, second = (*found, None, None)[:2]
    if first is not None and RELATIONS["pg_catalog", first[1]].filter == NO_ROW:
        _replace(walk, node, Guard("SELECT NULL::pg_catalog.text"), arguments, "pg_get_expr")
        return True
    if first is None or second is None or first[0] != second[0] or (*first[1:3], second[2]) not in EXPRESSIONS:
        deny("function.unlisted", "pg_get_expr may print an expression only for the table that its own row names")
    _qualify(walk, message)
    return True


def _cast(walk: Walk, node: Node, message: Node, scope: Scope) -> bool:
    if type_cast_to_text(walk, node, message, scope):
        return True
    names = strings(message.get("typeName", {}).get("names", []))
    if names[:-1] not in ([], ["pg_catalog"]) or names[-1] not in CASTS or "arrayBounds" in message["typeName"]:
        return False
    check_keys("TypeCast", message, frozenset({"arg", "typeName"}))
    check_keys("TypeName", message["typeName"], frozenset({"names", "typemod"}))
    guard = CASTS[names[-1]]
    argument = message["arg"]
    name = output_name({"val": node})
    if names[-1] != "regclass" or not _is_shown(walk, argument):
        visit(walk, argument, scope)
        if not (guard.safe and _origin(argument, scope) in guard.safe):
            _replace(walk, node, guard, [argument], name)
    _settle(walk, node, name)
    return True


def _settle(walk: Walk, node: Node, name: str) -> None:
    """Turns a value of a type that prints names into a plain one, by what it flows into (contexts.py)."""
    context = walk.contexts.get(id(node), "text")
    if context == "raw":
        return
    inner = dict(node)
    node.clear()
    node["TypeCast"] = {"arg": inner, "typeName": _type_name(context)}
    if output_name({"val": node}) != name:
        value = {"ResTarget": {"name": name, "val": dict(node)}}
        select = {"targetList": [value], "limitOption": "LIMIT_OPTION_DEFAULT", "op": "SETOP_NONE"}
        node.clear()
        node["SubLink"] = {"subLinkType": "EXPR_SUBLINK", "subselect": {"SelectStmt": select}}


def _type_name(name: str) -> Node:
    return {"names": [{"String": {"sval": "pg_catalog"}}, {"String": {"sval": name}}], "typemod": -1}


def _is_shown(walk: Walk, argument: Node) -> bool:
    """Whether this is the name, as a constant, of a table or system relation that the session may see."""
    text = argument.get("A_Const", {}).get("sval", {}).get("sval", "")
    if not text or not isinstance(walk.book, SessionRulebook):
        return False
    try:
        statements = parse(f"TABLE {text}")
    except Denied:
        return False
    if len(statements) != 1 or "SelectStmt" not in statements[0]:
        return False
    items = statements[0]["SelectStmt"].get("fromClause", [])
    if len(items) != 1 or kind_of(items[0]) != "RangeVar":
        return False
    table = items[0]["RangeVar"]
    plain = table.keys() <= {"schemaname", "relname", "inh", "relpersistence"} and table.get("inh", False)
    return plain and walk.book.shows(table.get("schemaname", ""), table["relname"])


def _origin(node: Node, scope: Scope) -> tuple[str, str] | None:
    """System relation and column that a column reference reads directly."""
    place = _place(node, scope)
    return place[1:3] if place is not None else None


def _place(node: Node, scope: Scope) -> tuple[int, str, str, str] | None:
    """The same with the identity of the item of FROM and the column's type."""
    fields = node.get("ColumnRef", {}).get("fields", [])
    if not fields or any("String" not in field for field in fields):
        return None
    names = strings(fields)
    source = _sole_source(scope, names[-1]) if len(names) == 1 else find_source(scope, names[-2], "".join(names[:-2]))
    if source is None or source.rule is None or not source.rule.stand_in or source.columns is None:
        return None
    if names[-1] not in source.columns or source.rule.columns is None:
        return None
    column = source.rule.columns[source.columns.index(names[-1])]
    return id(source), source.rule.name, column, source.rule.types.get(column, "")


def _sole_source(scope: Scope | None, column: str) -> Source | None:
    """What an unqualified name reads where only one source can have it: of a column that USING merges, the value may
    come from either side."""
    while scope is not None:
        having = [source for source in scope.sources if source.columns is None or column in source.columns]
        if having:
            return having[0] if len(having) == 1 else None
        scope = scope.parent
    return None


def _replace(walk: Walk, node: Node, guard: Guard, arguments: list[Node], name: str) -> None:
    select = _filled(_template(guard.template), arguments)
    target = select["SelectStmt"]["targetList"][0]["ResTarget"]
    node.clear()
    if guard.is_call:
        node.update(target["val"])
    else:
        target["name"] = name
        node["SubLink"] = {"subLinkType": "EXPR_SUBLINK", "subselect": select}
    walk.introspects = True
    if isinstance(walk.book, SessionRulebook):
        walk.stand_ins |= {word for word in _HELPER.findall(guard.template) if walk.book.knows(word)}


@cache
def _template(text: str) -> Node:
    return parse(text)[0]


def _filled(value: Any, arguments: list[Node]) -> Any:
    """A copy of a template with the arguments in the place of its parameters."""
    if isinstance(value, list):
        return [_filled(item, arguments) for item in value]
    if not isinstance(value, dict):
        return value
    if "ParamRef" in value:
        return arguments[value["ParamRef"]["number"] - 1]
    return {key: _filled(item, arguments) for key, item in value.items()}


def _column(walk: Walk, node: Node, message: Node, scope: Scope) -> bool:
    """Columns of system relations that the copies in their place do not have as they are."""
    fields = message["fields"]
    if any("String" not in field for field in fields):
        return False
    names = strings(fields)
    place = _place(node, scope)
    if place is not None:
        kind = printing_type(place[3])
        if not kind or walk.contexts.get(id(node), "text") == "oid":
            return False
        visit_column(walk, message, scope)
        node.clear()
        node["TypeCast"] = {"arg": {"ColumnRef": message}, "typeName": _type_name(kind)}
        _settle(walk, node, names[-1])
        return True
    value = _HIDDEN_COLUMNS.get(names[-1]) if len(names) > 1 else None
    source = find_source(scope, names[-2]) if value is not None else None
    if value is None or source is None or source.rule is None or not source.rule.stand_in:
        return False
    text = f"SELECT {value.format(f'{source.rule.schema}.{source.rule.name}')} AS {names[-1]}"
    node.clear()
    node["SubLink"] = {"subLinkType": "EXPR_SUBLINK", "subselect": _filled(_template(text), [])}
    return True


_HIDDEN_COLUMNS = {
    "tableoid": "'{}'::pg_catalog.regclass::pg_catalog.oid",
    "xmin": "'2'::pg_catalog.xid",
}
"""Hidden columns that tools ask for; 2 is the transaction of rows that are frozen."""


GUARDS: dict[str, Callable[[Walk, Node, Any, Scope], bool]] = {
    "ColumnRef": _column,
    "FuncCall": _call,
    "TypeCast": _cast,
    "SQLValueFunction": lambda _walk, _node, _message, _scope: True,
}
