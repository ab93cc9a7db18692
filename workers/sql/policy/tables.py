"""The policy meets the catalog: which tables there are for a statement, and what each of them allows.

`Rulebook` is built once per (policy, catalog, dialect) and used by every front end. It decides which table an
unqualified
name means, as the server would, and refuses everything that is not listed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from workers.sql.policy.catalog import Catalog, CatalogTable
from workers.sql.policy.document import EVERY_TABLE, Dialect, Policy, TablePolicy
from workers.sql.policy.functions import functions
from workers.sql.policy.rules import Denied, deny, shown

DEFAULT_SCHEMA: dict[str, str] = {"postgres": "public", "duckdb": "main", "sqlite": "main"}
SYSTEM_SCHEMAS = frozenset({"pg_catalog", "information_schema", "pg_toast", "pg_temp", "temp", "system", "sqlite_temp"})
_SYSTEM_PREFIXES = ("pg_", "sqlite_", "duckdb_", "pragma_")
_LEXEME = {"lexeme", "positions", "weights", "ordinality"}
"""Columns of unnest(tsvector) and WITH ORDINALITY."""
LEDGER = "sandpool_jobs"
"""The pools' own table of finished writes: no statement may touch it."""


@dataclass(slots=True, eq=False)
class TableRule:
    """One table as statements may use it."""

    schema: str
    name: str
    columns: tuple[str, ...] | None
    """Every column in order; None: the schema is not known and the policy lists none."""
    denied: frozenset[str]
    masks: dict[str, str]
    filter: str | None
    fence: bool | str
    primary_key: tuple[str, ...]
    kinds: frozenset[str]
    hides: bool
    """Whether some columns may not be used, so that `*` and whole rows would give them away."""
    types: dict[str, str] = field(default_factory=dict)
    spelling: dict[str, str] = field(default_factory=dict)
    """Column as it is compared -> as the database stores it: a result shows the latter."""
    stand_in: str = ""
    """WITH query that the rewritten statement reads in this relation's place; only for system relations of sessions."""
    templates: dict[Any, Any] = field(default_factory=dict)
    """Restricted forms, built by the front end of the dialect."""

    @property
    def is_restricted(self) -> bool:
        """Whether reads must go through a subquery in the table's place."""
        return bool(self.stand_in or self.masks or self.filter or (self.hides and self.columns is not None))


class Rulebook:
    """Lookups of one policy over one catalog in one dialect."""

    def __init__(self, policy: Policy, catalog: Catalog | None, dialect: Dialect) -> None:
        if policy.dialect is not None and policy.dialect != dialect:
            deny("policy.dialect", f"the policy is written for {policy.dialect}, not for {dialect}")
        self.policy = policy
        self.catalog = catalog
        self.dialect = dialect
        self.fold = (lambda name: name) if dialect == "postgres" else str.lower
        own = policy.schema_name or (catalog.search_path[0] if catalog else DEFAULT_SCHEMA[dialect])
        self.default_schema: str = self.fold(own)
        self.search_path = tuple(self.fold(s) for s in catalog.search_path) if catalog else (self.default_schema,)
        if self.default_schema not in self.search_path:
            self.search_path = (self.default_schema, *self.search_path)
        self.functions = frozenset(policy.functions or ())
        self.operators = frozenset(policy.operators or ())
        self.types = frozenset(policy.types or ())
        self.fields: frozenset[str] = frozenset()
        """Further fields of composite values that `(value).field` may name."""
        self.extra_functions: frozenset[str] = frozenset()
        """Functions that the rewritten statement may call besides the harmless ones."""
        self.printing_types: frozenset[str] = frozenset()
        """Types that print names of objects, where casts to them are guarded."""
        self.outputs: Mapping[str, tuple[str, ...]] = {}
        """Further functions that statements may call -> their columns in FROM."""
        self.user_functions = catalog.user_function_names if catalog else frozenset()
        self.composites = {t.name: {f.name: f.type for f in t.fields} for t in catalog.composites} if catalog else {}
        """Composite type -> its fields with their types."""
        self._policies = {self._key(k): p for k, p in policy.table_policies.items() if k != EVERY_TABLE}
        self._others = policy.table_policies.get(EVERY_TABLE)
        self._kinds = {self._key(entry.table): frozenset(entry.kinds) for entry in policy.writes or ()}
        self._tables: dict[tuple[str, str], CatalogTable] | None = None
        if catalog is not None:
            self._tables = {(self.fold(t.schema), self.fold(t.name)): t for t in catalog.tables}
        self._rules: dict[tuple[str, str], TableRule] = {}
        self.column_types = self._collect_types()

    def find(self, schema: str, name: str) -> TableRule:
        """The rule of the table that this name means. Raises Denied when it means none that may be used."""
        schema, name = self.fold(schema), self.fold(name)
        for candidate in (schema,) if schema else self.search_path:
            rule = self._rules.get((candidate, name)) or self._make(candidate, name)
            if rule is not None:
                return rule
        written = f"{schema}.{name}" if schema else name
        if schema in SYSTEM_SCHEMAS or name.startswith(_SYSTEM_PREFIXES):
            deny(
                "table.system",
                f"{shown(written)!r} is metadata, which queries may not read; ask Sandpool for the schema",
            )
        known = ", ".join(
            sorted(name if schema == self.default_schema else f"{schema}.{name}" for schema, name in self._listed())
        )
        hint = f"; tables here: {shown(known, 200)}" if known else ""
        raise Denied("table.unlisted", f"no table {shown(written)!r} may be used{hint}")

    def every_table(self) -> list[TableRule]:
        """Rules of all tables that statements may read."""
        made = (self._rules.get(key) or self._make(*key) for key in self._listed())
        return [rule for rule in made if rule is not None]

    def usable_tables(self) -> list[TableRule]:
        """The same without those whose part of the policy does not fit them: nothing may use these, nor see them."""
        found = []
        for key in self._listed():
            try:
                rule = self._rules.get(key) or self._make(*key)
            except Denied:
                continue
            if rule is not None:
                found.append(rule)
        return found

    def _make(self, schema: str, name: str) -> TableRule | None:
        key = (schema, name)
        policy = self._policies.get(key, self._others)
        table = self._tables.get(key) if self._tables is not None else None
        if policy is None or name == LEDGER or schema in SYSTEM_SCHEMAS or name.startswith("sqlite_"):
            return None
        if table is None and (self._tables is not None or key not in self._policies):
            return None
        rule = self._rules[key] = self._build(schema, name, table, policy)
        return rule

    def _build(self, schema: str, name: str, table: CatalogTable | None, policy: TablePolicy) -> TableRule:
        fold = self.fold
        listed = tuple(fold(c) for c in policy.columns or ())
        masks = {fold(c): text for c, text in (policy.mask or {}).items()}
        stored = policy.columns or () if table is None else [column.name for column in table.columns]
        if table is not None:
            columns: tuple[str, ...] | None = (own := tuple(fold(c.name) for c in table.columns))
            denied = frozenset(own) - frozenset(listed) if listed else frozenset(fold(c) for c in policy.deny or ())
            for column in (*masks, *listed, *sorted(denied - set(own))):
                if column not in own and policy is not self._others:
                    deny(
                        "policy.filter",
                        f"the policy names the column {shown(column)!r}, which {shown(name)!r} does not have",
                    )
        else:
            columns = listed or None
            denied = frozenset(fold(c) for c in policy.deny or ())
        return TableRule(
            schema=table.schema if table else schema,
            name=table.name if table else name,
            columns=columns,
            denied=denied,
            masks={c: t for c, t in masks.items() if columns is None or c in columns},
            filter=policy.filter,
            fence=policy.fence,
            primary_key=tuple(fold(c) for c in table.primary_key) if table else (),
            kinds=self._kinds.get((schema, name), frozenset()),
            hides=bool(denied) or (table is None and (policy.columns is not None or policy.mask is not None)),
            types={fold(c.name): c.type for c in table.columns} if table else {},
            spelling={fold(name): name for name in stored},
        )

    @cached_property
    def value_members(self) -> frozenset[str]:
        """Names that `x.name` may use where x is a function's result of unknown type: columns that a row of some table
        has, and functions that any query may call."""
        tables = self._tables.values() if self._tables is not None else ()
        columns = {self.fold(column.name) for table in tables for column in table.columns}
        return (frozenset(columns | _LEXEME) | frozenset(functions(self.dialect))) - self.user_functions

    def _key(self, written: str) -> tuple[str, str]:
        schema, _, name = written.rpartition(".")
        return (self.fold(schema) or self.default_schema, self.fold(name))

    def _listed(self) -> list[tuple[str, str]]:
        if self._others is not None and self._tables is not None:
            return [key for key in self._tables if key[1] != LEDGER]
        return [key for key in self._policies if self._tables is None or key in self._tables]

    def _collect_types(self) -> frozenset[str]:
        tables = self._tables.items() if self._tables is not None else ()
        return frozenset(
            column.type.lower() for key, t in tables if key in self._policies or self._others for column in t.columns
        )


_CACHE: OrderedDict[tuple[str, str, str], Rulebook] = OrderedDict()
_CACHE_SIZE = 64


def rulebook(policy: Policy, catalog: Catalog | None, dialect: Dialect) -> Rulebook:
    """The rulebook of this policy over this catalog, kept for the next statement."""
    key = (policy.version, catalog.version if catalog else "", dialect)
    book = _CACHE.get(key)
    if book is None:
        book = _CACHE[key] = Rulebook(policy, catalog, dialect)
        if len(_CACHE) > _CACHE_SIZE:
            _CACHE.popitem(last=False)
    return book
