"""What a database holds, as far as the policy must know: tables, views, columns with types, user-defined functions.

Built by a pool from the server's catalogs or by `ddl.catalog_from_ddl`; read by every front end. It is never derived
from
a query. Names are exact: as the server stores them.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Literal

import msgspec

Seen = tuple[tuple[str, tuple[str, ...]], ...]
"""What sessions may see of the server's catalogs, by OID: name of a set, its columns as texts of PostgreSQL arrays."""


class CatalogColumn(msgspec.Struct, frozen=True):
    """One column. `type` is the database's own name for its type, empty when unknown."""

    name: str
    type: str = ""


class CatalogType(msgspec.Struct, frozen=True):
    """One composite type with its fields in order; `name` as columns of it are said to have it."""

    name: str
    fields: tuple[CatalogColumn, ...]


class CatalogTable(msgspec.Struct, frozen=True, kw_only=True):
    """One table or view with its columns in order."""

    schema: str
    name: str
    columns: tuple[CatalogColumn, ...]
    kind: Literal["table", "view"] = "table"
    primary_key: tuple[str, ...] = ()
    """Lets GROUP BY its key select other columns, as the server does, also where a filter replaces the table."""


class Catalog(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Every table and view that queries may name. `search_path` is where unqualified names are looked up, in order."""

    tables: tuple[CatalogTable, ...]
    functions: tuple[str, ...] = ()
    """User-defined functions as `schema.name`: a built-in of the same name is then called as `pg_catalog.name`."""
    composites: tuple[CatalogType, ...] = ()
    """Composite types: `(column).field` of one is a field, where anything else could call a function."""
    search_path: tuple[str, ...] = ("public",)
    database: str = ""
    """The server's own name of the database."""
    system: tuple[CatalogTable, ...] = ()
    """System relations of this server that sessions of the broker may read, filtered; queries of jobs never do."""
    seen: Seen = ()
    """As the server computed it for the policy of version `seen_by`; empty: each statement has it computed anew."""
    seen_by: str = ""

    @cached_property
    def version(self) -> str:
        """SHA-256 (hex) of the content: equal catalogs have equal versions."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()

    @cached_property
    def by_name(self) -> dict[tuple[str, str], CatalogTable]:
        """(schema, name) -> table."""
        return {(table.schema, table.name): table for table in self.tables}

    @cached_property
    def user_function_names(self) -> frozenset[str]:
        """Bare names of the user-defined functions."""
        return frozenset(name.rpartition(".")[2] for name in self.functions)
