"""The whole check of one statement in the postgres dialect: parse, walk, rewrite, print, read the print again, audit
it.

Called by verdict.py through `check`. Pure: no I/O, no state but the rulebook's templates.
"""

from __future__ import annotations

from workers.sql.policy.postgres.audit import audit
from workers.sql.policy.postgres.grammar import parse, print_tree
from workers.sql.policy.postgres.query import read_query
from workers.sql.policy.postgres.restrict import apply_restrictions, cap_rows
from workers.sql.policy.postgres.walk import Walk, kind_of
from workers.sql.policy.postgres.writes import WRITES, read_write
from workers.sql.policy.rules import deny
from workers.sql.policy.tables import Rulebook


def check(text: str, book: Rulebook, tenant: str, *, writes: bool, max_rows: int | None) -> tuple[str, str]:
    """The text to run and the kind of statement. Raises Denied."""
    statements = parse(text)
    if not statements:
        deny("statement.empty", "there is no statement; send one")
    if len(statements) > 1:
        deny("statement.multiple", f"there are {len(statements)} statements; send them one by one")
    statement = statements[0]
    kind = kind_of(statement)
    walk = Walk(book, tenant, writes, read_query, read_write)
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
    if max_rows is not None:
        statement = cap_rows(statement, max_rows)
    printed = print_tree(statement)
    again = parse(printed)
    if again != [statement]:
        deny("print.fidelity", "the statement cannot be printed again without changing it; rephrase it in plainer SQL")
    audit(again[0], walk)
    return printed, walk.write_kind or "select"
