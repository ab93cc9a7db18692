"""The policy meets the server's catalogs: what a session's statement may read of them, and the WITH queries that stand
in their place.

A `SessionRulebook` is the jobs' rulebook and knows system relations besides. It is made once for a policy and catalog;
decide.py asks it for every statement.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from functools import cached_property

from workers.sql.policy.catalog import Catalog, Seen
from workers.sql.policy.document import Policy
from workers.sql.policy.postgres.grammar import parse, print_tree
from workers.sql.policy.rules import Denied, deny
from workers.sql.policy.session.introspection import CASTS, EXTRA_FUNCTIONS, FIELDS, PLAIN
from workers.sql.policy.session.relations import RELATIONS
from workers.sql.policy.session.visible import copy_name, helper_texts, is_inline, needed, seen_sql
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
        self._seen = catalog.seen if catalog and catalog.seen_by == policy.version else ()
        self.fields = FIELDS
        self.outputs = PLAIN
        self.extra_functions = EXTRA_FUNCTIONS
        self.printing_types = frozenset(CASTS)
        self._items: dict[str, str] = {}
        self._with: dict[frozenset[str], str] = {}

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

    @property
    def seen_sql(self) -> str:
        """The query whose answer is `Catalog.seen` for this policy."""
        return seen_sql(self._texts_with(()))

    @cached_property
    def _texts(self) -> dict[str, str]:
        return self._texts_with(self._seen)

    def _texts_with(self, seen: Seen) -> dict[str, str]:
        tables = self.usable_tables()
        spaces = {"pg_catalog", "information_schema", *self.search_path, *(rule.schema for rule in tables)}
        return helper_texts(tables, sorted(spaces), sorted(self.functions), self.system, seen)

    def knows(self, name: str) -> bool:
        """Whether this is the name of a WITH query made here."""
        return name in self._texts

    def with_text(self, names: set[str]) -> str:
        """The WITH queries of these names and what they use, as the text of a list of them."""
        key = frozenset(names)
        text = self._with.get(key)
        if text is None:
            text = ", ".join(self._item(name) for name in needed(names, self._texts))
            if len(self._with) >= _MOST_WITH:
                self._with.clear()
            self._with[key] = text
        return text

    def _item(self, name: str) -> str:
        """One of them, as the printer writes it. Raises Denied where it would not be read again as what it is."""
        item = self._items.get(name)
        if item is None:
            fence = "NOT MATERIALIZED" if is_inline(name, self._seen) else "MATERIALIZED"
            statements = parse(f"WITH {name} AS {fence} ({self._texts[name]}) SELECT")
            printed = print_tree(statements[0])
            if len(statements) != 1 or parse(printed) != statements or not _ITEM.fullmatch(printed):
                deny("print.fidelity", f"the policy's own query {name} cannot be printed")
            item = self._items[name] = printed[len("WITH ") : -len(" SELECT")]
        return item


_MOST_WITH = 1000
_ITEM = re.compile(r"WITH \w+ AS (?:NOT )?MATERIALIZED \(.*\) SELECT", re.DOTALL)
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
