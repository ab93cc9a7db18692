"""Checks a session's query and puts the filtered catalogs that it reads before it, as WITH queries.

Called by decide.py and copying.py. The WITH queries are the policy's own and were not read from the client: the audit
of the printed text finds them unchanged, takes them off and looks at the rest.
"""

from __future__ import annotations

from collections.abc import Callable

from workers.sql.policy.postgres.check import check_query
from workers.sql.policy.postgres.walk import Node, Walk
from workers.sql.policy.rules import deny
from workers.sql.policy.session.book import SessionRulebook
from workers.sql.policy.session.verdict import Forward, ForwardKind

CATALOG_ROWS = 1_000_000
"""Most rows of a read of catalogs alone, where the policy allows fewer of data: a cut listing would be a wrong one."""


def check_session_query(
    statement: Node,
    walk: Walk,
    max_rows: int | None,
    kind: ForwardKind | None = None,
    *,
    wrap: Callable[[Node], Node] = lambda tree: tree,
    unwrap: Callable[[Node], Node] = lambda tree: tree,
) -> Forward:
    """The query as text for the server. `kind`, `wrap` and `unwrap`: of the statement around it. Raises Denied."""

    def limit() -> int | None:
        is_catalog = walk.introspects and not walk.allowed_tables
        return max_rows if max_rows is None or not is_catalog else max(max_rows, CATALOG_ROWS)

    printed = check_query(
        statement,
        walk,
        limit,
        wrap=lambda tree: wrap(_with_stand_ins(walk, tree)),
        unwrap=lambda tree: _without_stand_ins(walk, unwrap(tree)),
    )
    is_catalog = walk.introspects and not walk.allowed_tables
    return Forward(printed, kind or walk.write_kind or "select", limit(), is_catalog)  # type: ignore[arg-type]


def _own_queries(walk: Walk) -> list[Node]:
    return walk.book.with_queries(walk.stand_ins) if isinstance(walk.book, SessionRulebook) else []


def _with_stand_ins(walk: Walk, tree: Node) -> Node:
    if not walk.stand_ins:
        return tree
    if walk.write_kind:
        deny("table.system", "writes cannot read system catalogs; read them first, by themselves")
    select = tree["SelectStmt"]
    clause = select.get("withClause", {})
    return {"SelectStmt": {**select, "withClause": {**clause, "ctes": _own_queries(walk) + clause.get("ctes", [])}}}


def _without_stand_ins(walk: Walk, tree: Node) -> Node:
    if not walk.stand_ins:
        return tree
    own = _own_queries(walk)
    select = tree["SelectStmt"]
    ctes = select["withClause"]["ctes"]
    if ctes[: len(own)] != own:
        deny("opinion.refused", "the printed text does not hold the catalogs as the policy shows them")
    rest = {key: value for key, value in select.items() if key != "withClause"}
    if len(ctes) > len(own):
        rest["withClause"] = {**select["withClause"], "ctes": ctes[len(own) :]}
    return {"SelectStmt": rest}
