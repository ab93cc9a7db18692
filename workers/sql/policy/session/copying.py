"""COPY of a session: `COPY (query) TO STDOUT`, `COPY table TO STDOUT` as the query that it stands for, and
`COPY table FROM STDIN` where the policy lists INSERT.

Files and programs of the server are never reached. Called by decide.py.
"""

from __future__ import annotations

from workers.sql.policy.names import deny_column
from workers.sql.policy.postgres.grammar import parse, print_tree
from workers.sql.policy.postgres.walk import Node, Walk, check_keys, strings
from workers.sql.policy.postgres.writes import read_target, settable
from workers.sql.policy.rules import deny, shown
from workers.sql.policy.session.stand_ins import check_session_query
from workers.sql.policy.session.verdict import Forward

_OPTIONS = frozenset({
    "format", "freeze", "delimiter", "null", "default", "header", "quote", "escape", "force_quote", "force_not_null",
    "force_null", "encoding",
})  # fmt: skip
_COLUMN_OPTIONS = frozenset({"force_quote", "force_not_null", "force_null"})
_ENCODINGS = frozenset({"utf8", "utf-8", "unicode"})


def read_copy(message: Node, walk: Walk, max_rows: int | None) -> Forward:
    """COPY as text for the server. Raises Denied."""
    check_keys(
        "COPY",
        message,
        frozenset({"relation", "query", "attlist", "is_from", "is_program", "filename", "options", "whereClause"}),
    )
    if "filename" in message or message.get("is_program"):
        deny("statement.kind", "COPY with a file or program of the server is not allowed; use STDIN or STDOUT")
    for option in message.get("options", ()):
        _check_option(option["DefElem"])
    if message.get("is_from"):
        return _copy_in(message, walk)
    query = message.get("query") or _whole_table(message)
    if "SelectStmt" not in query:
        deny("write.unsupported", "COPY takes a query; run the write by itself, with RETURNING")
    options = {"options": message["options"]} if "options" in message else {}
    return check_session_query(
        query,
        walk,
        max_rows,
        "copy-out",
        wrap=lambda tree: {"CopyStmt": {"query": tree, **options}},
        unwrap=lambda tree: tree["CopyStmt"]["query"],
    )


def _check_option(element: Node) -> None:
    name = element["defname"]
    if name not in _OPTIONS:
        deny("node.unlisted", f"COPY with {shown(name)} is not allowed; leave the option out")
    if name == "encoding" and element["arg"]["String"].get("sval", "").lower() not in _ENCODINGS:
        deny("session.value", "sessions speak UTF8; leave the encoding out")


def _whole_table(message: Node) -> Node:
    """The query that `COPY table (columns) TO STDOUT` stands for."""
    columns = strings(message.get("attlist", []))
    fields = [[{"String": {"sval": column}}] for column in columns] or [[{"A_Star": {}}]]
    return {
        "SelectStmt": {
            "targetList": [{"ResTarget": {"val": {"ColumnRef": {"fields": field}}}} for field in fields],
            "fromClause": [{"RangeVar": message["relation"]}],
            "limitOption": "LIMIT_OPTION_DEFAULT",
            "op": "SETOP_NONE",
        }
    }


def _copy_in(message: Node, walk: Walk) -> Forward:
    if "whereClause" in message:
        deny("write.unsupported", "COPY FROM with WHERE is not allowed; send only the rows to insert")
    target = read_target(walk, message["relation"], "insert")
    rule = target.rule
    if rule is not None and rule.filter is not None:
        deny(
            "write.filtered",
            f"rows for {shown(target.name)!r} must be seen to pass its filter; use INSERT ... VALUES",
        )
    columns = strings(message.get("attlist", []))
    for column in columns:
        settable(target, column)
    if not columns and rule is not None and rule.hides:
        deny("column.denied", f"some columns of {shown(target.name)!r} may not be written; list the columns")
    for option in message.get("options", ()):
        element = option["DefElem"]
        if element["defname"] in _COLUMN_OPTIONS:
            for column in strings(element.get("arg", {}).get("List", {}).get("items", [])):
                if column in target.denied:
                    deny_column(target, column)
    relation = {**message["relation"], "schemaname": rule.schema if rule is not None else ""}
    tree = {"CopyStmt": {**message, "relation": relation}}
    printed = print_tree(tree)
    if parse(printed) != [tree]:
        deny("print.fidelity", "this COPY cannot be printed again without changing it; write it more plainly")
    return Forward(printed, "copy-in")
