"""The rules a statement can break: their ids, and the exception that carries one out of a deep walk.

Every front end raises `Denied`; `verdict.judge` turns it into a deny verdict. docs/policy.md lists the same ids and a
test holds the two together. Nothing here decides anything.
"""

from __future__ import annotations

from typing import NoReturn

RULES: dict[str, str] = {
    "text.encoding": "the text or the tenant's name is not valid UTF-8, or holds a NUL or a lone surrogate",
    "text.too-long": "the text is longer than 64 KiB",
    "text.too-deep": "brackets nest deeper than 64 levels",
    "text.unicode-escape": "U&'..' and U&\"..\" escapes, which readers of SQL disagree about",
    "text.hint": "optimizer hints and executable comments: /*+ /*! /*M!",
    "statement.empty": "no statement at all",
    "statement.syntax": "the text does not parse",
    "statement.multiple": "more than one statement",
    "statement.kind": "not a query, or not a kind of statement that any policy can allow",
    "statement.locking": "FOR UPDATE, FOR SHARE and their like",
    "statement.into": "SELECT INTO",
    "statement.too-complex": "needs more time, memory or nesting than checking may take",
    "node.unlisted": "a part of SQL that the policy does not know, and so does not allow",
    "table.unlisted": "a table that the policy does not list, or that does not exist",
    "table.system": "system catalogs, information_schema and other metadata",
    "table.qualified": "a table of another database",
    "column.denied": "a column that the policy denies, in any position",
    "column.unknown": "a column that no table in reach has",
    "column.star": "* over a table of which some columns are denied or unknown",
    "column.whole-row": "a whole row of a table of which some columns are denied or unknown",
    "column.selector": "COLUMNS(...), #1 and other ways to name columns without writing their names",
    "column.alias-list": "a list of column aliases longer than the table has columns",
    "expression.attribute": (
        "(expression).name, or name of a function's result in FROM, where it is no known field: it may call a function"
    ),
    "function.unlisted": "a function that is neither a harmless built-in nor named by the policy",
    "function.schema": "a function of a schema that the policy does not name",
    "operator.unlisted": "an operator that is neither built in nor named by the policy",
    "type.unlisted": "a cast to a type that is neither a harmless built-in, a column's, nor named by the policy",
    "value.session": "CURRENT_USER, CURRENT_SCHEMA and other facts about the session",
    "write.not-allowed": "the policy allows no such write on this table",
    "write.undeclared": "a write by a job that does not say `writes=true`",
    "write.where": "UPDATE or DELETE without a WHERE that looks at the table",
    "write.filtered": "a write whose rows cannot be held to the table's row filter",
    "write.masked": "a write statement that reads a masked column of its own target",
    "write.unsupported": "writes through this dialect, or a form of write that cannot be checked",
    "session.feature": "what a session cannot offer: LISTEN, PREPARE as SQL, cursors WITH HOLD, EXPLAIN and their like",
    "session.identity": "a change of the session's role or user",
    "session.read-only": "a write or a read-write transaction in a session that may only read",
    "session.setting": "a run-time setting that sessions may not read or change",
    "session.value": "a value that a setting cannot have in a session",
    "schema.needed": "a restriction that can be applied only when the table's columns are known",
    "policy.dialect": "the policy is for another dialect",
    "policy.tenant": "the policy filters by tenant and no tenant was given",
    "policy.filter": "the policy's own filter or mask does not fit the table",
    "print.fidelity": "a statement that cannot be printed again without changing it",
    "opinion.refused": "the engine's own reading of the printed text holds something that the check did not see",
    "check.failed": "the check itself failed, or its process died: refused to be safe",
    "check.overloaded": "too many statements wait for a check: try again",
    "input.invalid": "a line for `policy check` that is no JSON object with the texts `id` and `sql`",
}


class Denied(Exception):
    """Carries the first broken rule out of a walk."""

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(reason)
        self.rule = rule
        self.reason = reason


def deny(rule: str, reason: str) -> NoReturn:
    """Raises Denied. `reason` is one sentence that also says how to rephrase."""
    raise Denied(rule, reason)


def shown(name: object, limit: int = 80) -> str:
    """A caller's name or fragment as reasons show it: short and on one line."""
    text = " ".join(str(name).split())
    return text if len(text) <= limit else text[: limit - 3] + "..."
