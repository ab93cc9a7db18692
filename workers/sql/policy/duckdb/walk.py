"""What one walk over a DuckDB query knows and gathers, and the small readers of its tree that all parts share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from workers.sql.policy.names import Scope
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
    read_query: Callable[[Walk, Node, Scope | None, Ctes], Columns]
    """Reads a query below an expression; expressions and queries hold each other, their modules must not."""
    allowed_tables: set[tuple[str, str]] = field(default_factory=set)
    restricted: list[tuple[Node, TableRule]] = field(default_factory=list)
    qualified: list[tuple[Node, TableRule]] = field(default_factory=list)
    trimmed: list[tuple[Node, frozenset[str]]] = field(default_factory=list)
    """Stars and the denied columns that their EXCLUDE names: with the column gone, the name must go."""
    stripped: list[Node] = field(default_factory=list)
    """Column references schema.table.column over a replaced table."""
    named: list[tuple[Node, Node]] = field(default_factory=list)
    """Items of select lists without an alias, and what they were before they were rewritten: that is their name."""


def check_keys(kind: str, message: Node, known: frozenset[str]) -> None:
    """Refuses a node with a part that this check does not know."""
    if not message.keys() <= known:
        extra = ", ".join(sorted(message.keys() - known))
        deny("node.unlisted", f"{kind} with {extra} is not a part of SQL that the policy allows; rephrase without it")


def keys(text: str) -> frozenset[str]:
    """A set of member names."""
    return frozenset(text.split())
