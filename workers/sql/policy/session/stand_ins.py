"""Checks a session's query and puts the filtered catalogs that it reads before it, as WITH queries.

Called by decide.py and copying.py. The WITH queries are the policy's own, were checked when they were made (book.py)
and are ten times as long as what clients send: so the statement is printed, read again and audited with one short WITH
query in their place. In the end their text takes its place: one item of a list, whole, where only one can be meant.
"""

from __future__ import annotations

from collections.abc import Callable

from workers.sql.policy.postgres.check import check_query
from workers.sql.policy.postgres.grammar import parse, print_tree
from workers.sql.policy.postgres.walk import Node, Walk
from workers.sql.policy.rules import deny
from workers.sql.policy.session.book import SessionRulebook
from workers.sql.policy.session.verdict import Forward, ForwardKind
from workers.sql.policy.session.visible import PREFIX

_PLACE = f"{PREFIX}place AS (SELECT)"
_PLACE_NODE: Node = parse(f"WITH {_PLACE} SELECT")[0]["SelectStmt"]["withClause"]["ctes"][0]
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

    wrapped: list[Node] = []

    def put(tree: Node) -> Node:
        wrapped.append(_with_stand_ins(walk, tree))
        return wrap(wrapped[0])

    printed = check_query(
        statement,
        walk,
        limit,
        wrap=put,
        unwrap=lambda tree: _without_stand_ins(walk, unwrap(tree)),
    )
    is_catalog = walk.introspects and not walk.allowed_tables
    return Forward(
        _whole(walk, printed),
        kind or walk.write_kind or "select",  # type: ignore[arg-type]
        limit(),
        is_catalog,
        _most_parameter(wrapped[0]),
        _whole(walk, print_tree(wrapped[0])) if kind == "copy-out" else "",
    )


def _whole(walk: Walk, printed: str) -> str:
    """The text with the WITH queries themselves."""
    if not walk.stand_ins or not isinstance(walk.book, SessionRulebook):
        return printed
    if printed.count(_PLACE) != 1:
        deny("print.fidelity", "the statement holds words of Sandpool's own; use other names")
    return printed.replace(_PLACE, walk.book.with_text(walk.stand_ins))


def _most_parameter(tree: Node) -> int:
    """The highest number of a parameter in this tree."""
    most, pending = 0, [tree]
    while pending:
        node = pending.pop()
        for kind, value in node.items():
            if kind == "ParamRef":
                most = max(most, value.get("number", 0))
            elif isinstance(value, dict):
                pending.append(value)
            elif isinstance(value, list):
                pending += [item for item in value if isinstance(item, dict)]
    return most


def _with_stand_ins(walk: Walk, tree: Node) -> Node:
    if not walk.stand_ins:
        return tree
    if walk.write_kind:
        deny("table.system", "writes cannot read system catalogs; read them first, by themselves")
    select = tree["SelectStmt"]
    clause = select.get("withClause", {})
    return {"SelectStmt": {**select, "withClause": {**clause, "ctes": [_PLACE_NODE, *clause.get("ctes", [])]}}}


def _without_stand_ins(walk: Walk, tree: Node) -> Node:
    if not walk.stand_ins:
        return tree
    select = tree["SelectStmt"]
    ctes = select["withClause"]["ctes"]
    if ctes[0] != _PLACE_NODE:
        deny("opinion.refused", "the printed text does not hold the catalogs as the policy shows them")
    rest = {key: value for key, value in select.items() if key != "withClause"}
    if len(ctes) > 1:
        rest["withClause"] = {**select["withClause"], "ctes": ctes[1:]}
    return {"SelectStmt": rest}
