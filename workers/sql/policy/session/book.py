"""The policy meets the server's catalogs: what a session's statement may read of them, and the WITH queries that stand
in their place.

A `SessionRulebook` is the jobs' rulebook and knows system relations besides. It is made once for a policy and catalog;
decide.py asks it for every statement.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import cached_property

from workers.sql.policy.catalog import Catalog
from workers.sql.policy.document import Policy
from workers.sql.policy.postgres.grammar import parse
from workers.sql.policy.postgres.walk import Node
from workers.sql.policy.rules import Denied
from workers.sql.policy.session.introspection import CASTS, EXTRA_FUNCTIONS, FIELDS, PLAIN
from workers.sql.policy.session.relations import RELATIONS
from workers.sql.policy.session.visible import copy_name, helper_texts, needed
from workers.sql.policy.tables import Rulebook, TableRule

_TYPES = frozenset({
    "oid", "oidvector", "int2vector", "xid", "cid", "tid",
    "information_schema.sql_identifier", "information_schema.cardinal_number", "information_schema.character_data",
    "information_schema.yes_or_no",
})  # fmt: skip
"""Types that introspection casts to. Those that print the name of an object (regclass) have guards instead."""


class SessionRulebook(Rulebook):
    """Look-ups of one policy over one catalog for sessions."""

    def __init__(self, policy: Policy, catalog: Catalog | None) -> None:
        super().__init__(policy, catalog, "postgres")
        self.types = self.types | _TYPES | {f"pg_catalog.{name}" for name in _TYPES if "." not in name}
        self.system = {
            (table.schema, table.name): TableRule(
                schema=table.schema,
                name=table.name,
                columns=tuple(column.name for column in table.columns),
                denied=frozenset(),
                masks={},
                filter=None,
                fence=False,
                primary_key=table.primary_key,
                kinds=frozenset(),
                hides=False,
                types={column.name: column.type for column in table.columns},
                stand_in=copy_name(table.schema, table.name),
            )
            for table in (catalog.system if catalog else ())
            if (table.schema, table.name) in RELATIONS
        }
        self.database = catalog.database if catalog else ""
        self.fields = FIELDS
        self.outputs = PLAIN
        self.extra_functions = EXTRA_FUNCTIONS
        self.printing_types = frozenset(CASTS)
        self._trees: dict[str, Node] = {}

    def find(self, schema: str, name: str) -> TableRule:
        """The rule of the table or system relation that this name means. Raises Denied."""
        return self.system.get((schema or "pg_catalog", name)) or super().find(schema, name)

    def shows(self, schema: str, name: str) -> bool:
        """Whether this name means a table or system relation that the session may see."""
        try:
            self.find(schema, name)
        except Denied:
            return False
        return True

    @cached_property
    def _texts(self) -> dict[str, str]:
        tables: list[TableRule] = []
        for key in self._listed():
            try:
                rule = self._rules.get(key) or self._make(*key)
            except Denied:
                continue  # its part of the policy does not fit it: nothing may use the table, nor see it
            if rule is not None:
                tables.append(rule)
        spaces = {"pg_catalog", "information_schema", *self.search_path, *(rule.schema for rule in tables)}
        return helper_texts(tables, sorted(spaces), sorted(self.functions), self.system)

    def knows(self, name: str) -> bool:
        """Whether this is the name of a WITH query made here."""
        return name in self._texts

    def with_queries(self, names: set[str]) -> list[Node]:
        """The WITH queries of these names and what they use, as CommonTableExpr nodes. Not to be changed."""
        return [self._tree(name) for name in needed(names, self._texts)]

    def _tree(self, name: str) -> Node:
        tree = self._trees.get(name)
        if tree is None:
            text = f"WITH {name} AS MATERIALIZED ({self._texts[name]}) SELECT"
            tree = self._trees[name] = parse(text)[0]["SelectStmt"]["withClause"]["ctes"][0]
        return tree


_CACHE: OrderedDict[tuple[str, str], SessionRulebook] = OrderedDict()
_CACHE_SIZE = 64


def session_rulebook(policy: Policy, catalog: Catalog | None) -> SessionRulebook:
    """The rulebook for sessions of this policy over this catalog, kept for the next statement."""
    key = (policy.version, catalog.version if catalog else "")
    book = _CACHE.get(key)
    if book is None:
        book = _CACHE[key] = SessionRulebook(policy, catalog)
        if len(_CACHE) > _CACHE_SIZE:
            _CACHE.popitem(last=False)
    return book
