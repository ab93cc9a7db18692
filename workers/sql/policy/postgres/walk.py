"""What one walk over a statement knows and gathers, and the small readers of libpg_query's tree that all parts
share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from workers.sql.policy.names import Scope, Source
from workers.sql.policy.rules import deny
from workers.sql.policy.tables import Rulebook, TableRule

Node = dict[str, Any]
Columns = tuple[str, ...] | None
Ctes = Mapping[str, Columns]


@dataclass(slots=True)
class Walk:
    """One check of one statement."""

    book: Rulebook
    tenant: str
    writes: bool
    read_query: Callable[[Walk, Node, Scope | None, Ctes], Columns]
    """Reads a query below an expression; expressions and queries hold each other, their modules must not."""
    read_write: Callable[[Walk, Node, Scope | None, Ctes], Columns]
    """Reads a write below WITH."""
    guards: Mapping[str, Callable[[Walk, Node, Any, Scope], bool]] = field(default_factory=dict)
    """Kind of node -> what looks at such nodes first and may replace them; only sessions have any."""
    databases: frozenset[str] = frozenset()
    """Names of the database itself, which a session may write before the schema."""
    contexts: Mapping[int, str] = field(default_factory=dict)
    """id of a node -> what its value flows into, for guards."""
    write_kind: str = ""
    """Kind of the first write met, the statement's own before those in its WITH."""
    allowed_tables: set[tuple[str, str]] = field(default_factory=set)
    """(schema, name) of every table that the printed text may name."""
    restricted: list[tuple[Node, TableRule]] = field(default_factory=list)
    """FROM items (the wrapping dict) whose table must be replaced, in the order found."""
    qualified: list[tuple[Node, TableRule]] = field(default_factory=list)
    """RangeVar messages that only get their schema."""
    stripped: list[Node] = field(default_factory=list)
    """ColumnRefs of the form schema.table.column over a replaced table: the schema goes."""
    groups: list[tuple[Node, list[Source]]] = field(default_factory=list)
    """SelectStmts with GROUP BY, and their replaced tables."""
    replaced: list[tuple[Node, TableRule]] = field(default_factory=list)
    """RangeVar messages of system relations, for which a WITH query stands in."""
    introspects: bool = False
    """Whether it asks about the database itself, by system relations or the functions for them."""
    stand_ins: set[str] = field(default_factory=set)
    """Names of the WITH queries that the rewritten statement needs."""
    functions: list[Node] = field(default_factory=list)
    """FuncCalls of built-ins that a user's function of the same name could shadow."""


def kind_of(node: Node) -> str:
    """The one key of a wrapped node."""
    for kind in node:
        return kind
    return ""


def strings(nodes: list[Node]) -> list[str]:
    """The texts of a list of String nodes."""
    return [node["String"].get("sval", "") for node in nodes]


def check_keys(kind: str, message: Node, known: frozenset[str]) -> None:
    """Refuses a message with a part that this check does not know."""
    if not message.keys() <= known:
        extra = ", ".join(sorted(message.keys() - known))
        deny("node.unlisted", f"{kind} with {extra} is not a part of SQL that the policy allows; rephrase without it")


def alias_names(alias: Node | None) -> tuple[str, ...]:
    """Column aliases of an Alias message."""
    return tuple(strings(alias["colnames"])) if alias and "colnames" in alias else ()


def level(parent: Scope | None, sources: list[Source], like: Scope | None = None, **more: Any) -> Scope:
    """A scope below `parent` that sees the WITH queries of `like`."""
    known = like if like is not None else parent
    return Scope(parent, sources, known.ctes if known is not None else {}, **more)
