"""Who a name means: sources (tables, subqueries, functions in FROM) and the scopes in which they can be seen.

Used by the front ends while they walk a statement. The functions here decide whether a column may be used; they know
nothing of any dialect's syntax tree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from workers.sql.policy.functions import functions
from workers.sql.policy.rules import Denied, deny, shown
from workers.sql.policy.tables import TableRule


@dataclass(slots=True, eq=False)
class Source:
    """One item of FROM as the rest of its query sees it."""

    name: str
    """Alias or, without one, the table's name."""
    columns: tuple[str, ...] | None
    """Names in order; None: not known, any name may be a column."""
    rule: TableRule | None = None
    """Set when the source is a table itself."""
    denied: frozenset[str] = frozenset()
    masked: frozenset[str] = frozenset()
    """Masked columns that cannot be masked here (the target of a write)."""
    schema: str = ""
    """Schema by which the source may be qualified; empty once it has an alias."""
    used: set[str] = field(default_factory=set)
    """Columns that the statement mentions."""
    row_name: bool = True
    """Whether the bare name can mean the whole row."""
    members: frozenset[str] | None = None
    """Where the source may be a bare value: the names that `source.name` may use, since any other would be a call."""

    def has(self, column: str) -> bool:
        return self.columns is not None and column in self.columns

    @property
    def is_whole(self) -> bool:
        """Whether every column may be used, so that `*` and whole rows give away nothing."""
        return not self.denied and not self.masked and not (self.rule is not None and self.rule.hides)


@dataclass(slots=True)
class Scope:
    """Sources visible at one level, and the level around it."""

    parent: Scope | None
    sources: list[Source]
    ctes: Mapping[str, tuple[str, ...] | None] = field(default_factory=dict)
    """WITH queries in reach -> their columns."""
    outputs: tuple[str, ...] = ()
    """Aliases of the select list that this level may use by name."""


def find_column(scope: Scope | None, column: str) -> Source | None:
    """The source that an unqualified name reads, or None for an output alias or a whole row.

    Raises Denied when the name may mean a denied column or means nothing.
    """
    level = scope
    opaque: Source | None = None
    row: Source | None = None
    while level is not None:
        found: Source | None = None
        for source in level.sources:
            if column in source.denied:
                deny_column(source, column)
            if found is None and source.has(column):
                found = source
            elif source.columns is None and opaque is None:
                opaque = source
            if row is None and source.name == column and source.row_name:
                row = source
        if found is not None and opaque is None:
            use(found, column)
            return found
        if found is None and column in level.outputs:
            return None
        level = level.parent
    if row is not None and not row.is_whole:
        use_row(row)
    if opaque is not None:
        use(opaque, column)
        return opaque
    if row is not None:
        use_row(row)
        return row
    raise Denied(
        "column.unknown",
        f"no table here has a column {shown(column)!r}; use the columns that the schema lists, and quote names "
        "with capitals",
    )


def find_source(scope: Scope | None, name: str, schema: str = "") -> Source | None:
    """The innermost source of that name, or None."""
    level = scope
    while level is not None:
        for source in level.sources:
            if source.name == name and (not schema or source.schema == schema):
                return source
        level = level.parent
    return None


def use_qualified(source: Source, column: str) -> None:
    """Checks `source.column`. Raises Denied."""
    if column in source.denied:
        deny_column(source, column)
    if source.columns is None and source.rule is not None and source.rule.hides and column in functions("postgres"):
        # Without the schema nobody can tell a column from PostgreSQL's other way to write function(table).
        deny(
            "schema.needed",
            f"{shown(source.name)}.{shown(column)} may be a function over the whole row; give the schema",
        )
    if source.columns is not None and column not in source.columns:
        deny(
            "column.unknown",
            f"{shown(source.name)!r} has no column {shown(column)!r}; use the columns that the schema lists",
        )
    if source.members is not None and column not in source.members:
        # PostgreSQL reads value.name as name(value): of a function's scalar result, that would be any function.
        deny(
            "expression.attribute",
            f"{shown(source.name)}.{shown(column)} may call a function of that name; name the columns in the alias: "
            f"{shown(source.name)}({shown(column)}, ...)",
        )
    use(source, column)


def use(source: Source, column: str) -> None:
    """Notes the use of a column that may be used; a mask that cannot be applied here forbids it."""
    if column in source.masked:
        deny(
            "write.masked",
            f"column {shown(column)!r} is masked and a write cannot read it from its own target; leave it out",
        )
    source.used.add(column)


def use_row(source: Source) -> None:
    """Checks the use of a whole row. Raises Denied."""
    if not source.is_whole:
        deny(
            "column.whole-row",
            f"{shown(source.name)!r} as a whole row would show columns that may not be used; name the columns",
        )


def use_star(source: Source) -> None:
    """Checks `source.*`. Raises Denied."""
    if not source.is_whole:
        hint = ""
        if source.columns is not None:
            hint = ": " + shown(", ".join(c for c in source.columns if c not in source.denied), 200)
        deny(
            "column.star",
            f"* would show columns of {shown(source.name)!r} that may not be used; name the columns{hint}",
        )
    if source.columns is not None:
        source.used.update(source.columns)


def deny_column(source: Source, column: str) -> None:
    """Raises Denied for a denied column."""
    deny(
        "column.denied",
        f"column {shown(column)!r} of {shown(source.name)!r} may not be used in any position; leave it out",
    )


def renamed(columns: tuple[str, ...] | None, aliases: tuple[str, ...]) -> tuple[str, ...] | None:
    """Names after a list of column aliases: it renames the first ones and keeps the rest."""
    if not aliases:
        return columns
    if columns is None:
        return None
    if len(aliases) > len(columns):
        deny(
            "column.alias-list", f"{len(aliases)} column aliases for {len(columns)} columns; give at most one for each"
        )
    return aliases + columns[len(aliases) :]
