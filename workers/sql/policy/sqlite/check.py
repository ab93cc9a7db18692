"""The whole check of one statement in the sqlite dialect. No parser of our own, no printer: SQLite judges SQLite.

1. SQLite compiles the text in an empty copy of the catalog; its authorizer names every table, column and function that
   the text would really read, however it is written. That is judged against the policy.
2. The text becomes a subquery: `WITH "t" AS (SELECT permitted columns FROM main."t" WHERE filter) SELECT * FROM
(text) LIMIT n`.
   A name inside it now means the permitted rows; the caller's own WITH still hides it, as it hides a table.
3. The framed text is compiled in a database that has the restricted tables under other names only: whatever would get
   around the frame (`main.t`) has no table to read and is refused.

Needs the schema of every table that may be read. Called by verdict.py.
"""

from __future__ import annotations

from collections import OrderedDict

from workers.sql.policy.document import TENANT
from workers.sql.policy.functions import functions
from workers.sql.policy.rules import Denied, deny, shown
from workers.sql.policy.sqlite.engine import Engine, quoted
from workers.sql.policy.sqlite.tokens import mentions, with_tenant, without_comments, words
from workers.sql.policy.tables import Rulebook, TableRule

_BUILT_IN = functions("sqlite")
_OTHER_KINDS = frozenset({
    "alter", "analyze", "attach", "begin", "commit", "create", "detach", "drop", "end", "explain", "pragma", "reindex",
    "release", "rollback", "savepoint", "vacuum",
})  # fmt: skip
_TABLE_FUNCTIONS = frozenset({"json_each", "json_tree"})
_ENGINES = 32


class _Engines:
    """For one rulebook: the catalog as it is, and the catalog with its restricted tables under hidden names."""

    def __init__(self, book: Rulebook) -> None:
        self.book = book
        self.rules = {rule.name.lower(): rule for rule in book.every_table()}
        for rule in self.rules.values():
            if rule.columns is None:
                deny(
                    "schema.needed",
                    f"this dialect is judged against the schema: give it, or list the columns of {shown(rule.name)!r}",
                )
        tables = [
            (rule, [(rule.spelling[column], rule.types.get(column, "")) for column in rule.columns or ()])
            for rule in self.rules.values()
        ]
        self.whole = Engine(((rule.name, columns) for rule, columns in tables), book.functions)
        names = [(hidden_name(rule) if rule.is_restricted else rule.name, columns) for rule, columns in tables]
        self.split = Engine(names, book.functions)


_known: OrderedDict[int, _Engines] = OrderedDict()


def check(text: str, book: Rulebook, tenant: str, *, writes: bool, max_rows: int | None) -> tuple[str, str]:  # noqa: ARG001
    """The text to run and the kind of statement. Raises Denied."""
    engines = _engines_of(book)
    spoken = words(text)
    first = spoken[0] if spoken else ""
    if first in ("insert", "update", "delete", "replace"):
        deny("write.unsupported", "writes are not supported in this dialect; only queries are")
    if first in _OTHER_KINDS:
        deny("statement.kind", "only queries are allowed: SELECT, WITH ... SELECT and VALUES")
    plain = without_comments(text)
    if not plain:
        deny("statement.empty", "there is no statement; send one")
    reads, calls = engines.whole.compile(text)
    if first not in ("select", "with", "values"):
        deny("statement.kind", "only queries are allowed: SELECT, WITH ... SELECT and VALUES")
    _judge_reads(reads, engines)
    _judge_calls(calls, book)
    # By mention and not by reads: the authorizer passes over a table that is only joined USING. One too many is
    # harmless.
    named = mentions(plain)
    restricted = sorted(name for name, rule in engines.rules.items() if rule.is_restricted and name in named)
    if "natural" in spoken and any(engines.rules[name].denied for name in restricted):
        deny("column.denied", "NATURAL JOIN would join on columns that may not be used; name the columns with USING")
    heads = [_permitted(engines.rules[name], book, tenant) for name in restricted]
    printed = _frame(plain, [head for head, _ in heads], max_rows)
    try:
        engines.split.compile(_frame(plain, [tail for _, tail in heads], max_rows))
    except Denied as denied:
        if denied.rule in ("statement.too-complex", "column.denied", "column.unknown"):
            raise
        deny(
            "opinion.refused",
            f"{shown(', '.join(restricted) or 'the text')} cannot be held to the policy here; name tables without "
            "a schema",
        )
    return printed, "select"


def _engines_of(book: Rulebook) -> _Engines:
    known = _known.get(id(book))
    if known is None or known.book is not book:
        known = _known[id(book)] = _Engines(book)
        if len(_known) > _ENGINES:
            _known.popitem(last=False)
    return known


def hidden_name(rule: TableRule) -> str:
    """The name under which a restricted table stands in the second database."""
    return f"sandpool_permitted_{rule.name.lower()}"


def _judge_reads(reads: set[tuple[str, str]], engines: _Engines) -> None:
    for table, column in sorted(reads):
        rule = engines.rules.get(table)
        if rule is None:
            if table.startswith(("sqlite_", "pragma_")) or (
                table in engines.whole.modules and table not in _TABLE_FUNCTIONS
            ):
                deny(
                    "table.system",
                    f"{shown(table)!r} is metadata, which queries may not read; ask Sandpool for the schema",
                )
            # No other table exists there: a name without a column is a WITH query or a subquery.
            if column and table not in _TABLE_FUNCTIONS:
                deny("table.unlisted", f"no table {shown(table)!r} may be used")
            continue
        if column in rule.denied:
            permitted = ", ".join(c for c in rule.columns or () if c not in rule.denied)
            deny(
                "column.denied",
                f"column {shown(column)!r} of {shown(table)!r} may not be used, nor * over it; name: "
                f"{shown(permitted, 200)}",
            )


def _judge_calls(calls: set[str], book: Rulebook) -> None:
    for name in sorted(calls):
        if name not in _BUILT_IN and name not in book.functions:
            deny(
                "function.unlisted",
                f"the function {shown(name)}() is not on the list of harmless functions; leave it out",
            )


# The statements built below hold only quoted names, the operator's own expressions and text that SQLite has compiled
# alone as one complete statement: hence the noqa marks.


def _frame(text: str, heads: list[str], max_rows: int | None) -> str:
    if not heads and max_rows is None:
        return text
    # The line break ends nothing today, as comments are gone; it costs nothing to keep it that way.
    framed = f"SELECT * FROM ({text}\n)"  # noqa: S608
    if heads:
        framed = f"WITH {', '.join(heads)} {framed}"
    return framed if max_rows is None else f"{framed} LIMIT {max_rows}"


def _permitted(rule: TableRule, book: Rulebook, tenant: str) -> tuple[str, str]:
    """The WITH entry of a restricted table: as it will run, and over the table's hidden name."""
    key = ("sqlite", tenant if book.policy.uses_tenant else "")
    if key not in rule.templates:
        if len(rule.templates) > 1024:
            rule.templates.clear()
        rule.templates[key] = tuple(_entry(book, rule, tenant, name) for name in (rule.name, hidden_name(rule)))
    entries: tuple[str, str] = rule.templates[key]
    return entries


def _entry(book: Rulebook, rule: TableRule, tenant: str, table: str) -> str:
    alias = quoted(rule.name)
    columns: list[str] = []
    for column in rule.columns or ():
        stored = quoted(rule.spelling[column])
        if column in rule.masks:
            columns.append(f"{_own_expression(book, rule, rule.masks[column], tenant)} AS {stored}")
        elif column not in rule.denied:
            columns.append(f"{alias}.{stored} AS {stored}")
    select = f"SELECT {', '.join(columns)} FROM main.{quoted(table)} AS {alias}"  # noqa: S608
    if rule.filter is not None:
        select += f" WHERE {_own_expression(book, rule, rule.filter, tenant)}"
        if rule.fence:
            # A limit keeps SQLite from running the query's own conditions before the filter.
            select += " LIMIT -1 OFFSET 0"
    return f"{alias} AS ({select})"


def _own_expression(book: Rulebook, rule: TableRule, text: str, tenant: str) -> str:
    """A filter or mask of the policy in brackets, with the tenant as a string literal, compiled once on its own."""
    if TENANT in text and not tenant:
        deny("policy.tenant", "the policy filters by tenant and no tenant was given")
    filled, count = with_tenant(without_comments(text), tenant)
    if count != text.count(TENANT):
        deny("policy.filter", f"{TENANT} in the policy's expression for {shown(rule.name)!r} must not stand in quotes")
    engine = Engine([(rule.name, [(rule.spelling[column], "") for column in rule.columns or ()])], book.functions)
    try:
        engine.compile(f"SELECT ({filled}) FROM {quoted(rule.name)}")  # noqa: S608
        engine.compile(f"SELECT 1 FROM {quoted(rule.name)} WHERE ({filled}\n)")  # noqa: S608
    except Denied as denied:
        deny("policy.filter", f"the policy's own expression for {shown(rule.name)!r} does not fit: {denied.reason}")
    return f"({filled})"
