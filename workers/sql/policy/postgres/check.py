"""The whole check of one statement in the postgres dialect: parse, walk, rewrite, print, read the print again, audit
it.

Called by verdict.py through `check`. Pure: no I/O, no state but the rulebook's templates.
"""

from __future__ import annotations

from collections.abc import Callable

from workers.sql.policy.postgres.audit import audit
from workers.sql.policy.postgres.expression import type_as_text, type_cast_to_text
from workers.sql.policy.postgres.grammar import parse, print_tree
from workers.sql.policy.postgres.query import read_query
from workers.sql.policy.postgres.restrict import apply_restrictions, cap_rows
from workers.sql.policy.postgres.walk import Node, Walk, kind_of
from workers.sql.policy.postgres.writes import WRITES, read_write
from workers.sql.policy.rules import deny
from workers.sql.policy.tables import Rulebook

_GUARDS = {"FuncCall": type_as_text, "TypeCast": type_cast_to_text}


def check(text: str, book: Rulebook, tenant: str, *, writes: bool, max_rows: int | None) -> tuple[str, str]:
    """The text to run and the kind of statement. Raises Denied."""
    statements = parse(text)
    if not statements:
        deny("statement.empty", "there is no statement; send one")
    if len(statements) > 1:
        deny("statement.multiple", f"there are {len(statements)} statements; send them one by one")
    walk = Walk(book, tenant, writes, read_query, read_write, _GUARDS)
    printed = check_query(statements[0], walk, lambda: max_rows)
    return printed, walk.write_kind or "select"


def check_query(
    statement: Node,
    walk: Walk,
    max_rows: Callable[[], int | None],
    *,
    wrap: Callable[[Node], Node] = lambda tree: tree,
    unwrap: Callable[[Node], Node] = lambda tree: tree,
) -> str:
    """The text to run for one parsed query or write. `max_rows` is asked after the walk; `wrap` puts the checked tree
    into the statement around it and `unwrap` takes it out again. Raises Denied."""
    kind = kind_of(statement)
    if kind == "SelectStmt":
        read_query(walk, statement, None, {})
    elif kind in WRITES:
        read_write(walk, statement, None, {})
    else:
        name = kind.removesuffix("Stmt")
        deny(
            "statement.kind",
            f"{name} statements are not allowed; only queries are, and writes where the policy lists them",
        )
    apply_restrictions(walk, statement)
    cap = max_rows()
    if cap is not None:
        statement = cap_rows(statement, cap)
    whole = wrap(statement)
    printed = print_tree(whole)
    again = parse(printed)
    if again != [whole]:
        deny("print.fidelity", "the statement cannot be printed again without changing it; rephrase it in plainer SQL")
    audit(unwrap(again[0]), walk)
    return printed
