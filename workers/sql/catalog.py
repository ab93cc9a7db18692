"""Reads from the server what the pool's role may use: tables, views, columns, keys, user-defined functions.

Called by `pool`; the policy judges statements against it. Columns that the role may not use are left out, so that
`SELECT *` means what the role can read and a hidden column is an unknown one.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import msgspec

from workers.sql.policy.catalog import Catalog, CatalogColumn, CatalogTable, CatalogType
from workers.sql.policy.document import Policy
from workers.sql.policy.session.book import SessionRulebook
from workers.sql.policy.session.relations import RELATIONS
from workers.sql.session import Session

CATALOG_DEADLINE_S = 30.0

_SYSTEM_SCHEMAS = "('pg_catalog', 'information_schema', 'pg_toast')"

COLUMNS_SQL = f"""
    SELECT n.nspname AS schema, c.relname AS name, c.relkind::text AS kind, a.attname AS column,
           pg_catalog.format_type(a.atttypid, a.atttypmod) AS type, k.position AS key_position
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN LATERAL (
        SELECT pg_catalog.array_position(p.conkey, a.attnum) AS position
        FROM pg_catalog.pg_constraint p WHERE p.conrelid = c.oid AND p.contype = 'p'
    ) k ON true
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
      AND n.nspname NOT IN {_SYSTEM_SCHEMAS} AND n.nspname NOT LIKE 'pg\\_temp%' AND n.nspname NOT LIKE 'pg\\_toast%'
      AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')
      AND pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT, INSERT, UPDATE')
    ORDER BY n.nspname, c.relname, a.attnum
"""  # noqa: S608 - constants of this package
KEYS_SQL = """
    SELECT n.nspname AS schema, c.relname AS name, pg_catalog.cardinality(p.conkey) AS size
    FROM pg_catalog.pg_constraint p
    JOIN pg_catalog.pg_class c ON c.oid = p.conrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE p.contype = 'p'
"""
FUNCTIONS_SQL = f"""
    SELECT DISTINCT n.nspname AS schema, p.proname AS name
    FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname NOT IN {_SYSTEM_SCHEMAS} AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')
    ORDER BY 1, 2
"""  # noqa: S608 - constants of this package
COMPOSITES_SQL = f"""
    SELECT pg_catalog.format_type(t.oid, NULL) AS name, a.attname AS column,
           pg_catalog.format_type(a.atttypid, a.atttypmod) AS type
    FROM pg_catalog.pg_type t
    JOIN pg_catalog.pg_class c ON c.oid = t.typrelid AND c.relkind = 'c'
    JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE n.nspname NOT IN {_SYSTEM_SCHEMAS}
    ORDER BY t.oid, a.attnum
"""  # noqa: S608 - constants of this package
SYSTEM_SQL = """
    SELECT n.nspname AS schema, c.relname AS name, c.relkind::text AS kind, a.attname AS column,
           pg_catalog.format_type(a.atttypid, a.atttypmod) AS type,
           pg_catalog.array_position(p.conkey, a.attnum) AS key_position, pg_catalog.cardinality(p.conkey) AS size
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
    LEFT JOIN pg_catalog.pg_constraint p ON p.conrelid = c.oid AND p.contype = 'p'
    WHERE n.nspname IN ('pg_catalog', 'information_schema') AND n.nspname || '.' || c.relname = ANY ($1)
    ORDER BY n.nspname, c.relname, a.attnum
"""
"""Columns of the system relations that sessions of the broker may read: they differ between versions of the server."""


async def read_catalog(session: Session) -> Catalog:
    """The catalog as this role sees it. Raises what the driver raises."""
    columns = await session.query(COLUMNS_SQL, timeout_s=CATALOG_DEADLINE_S)
    keys = await session.query(KEYS_SQL, timeout_s=CATALOG_DEADLINE_S)
    functions = await session.query(FUNCTIONS_SQL, timeout_s=CATALOG_DEADLINE_S)
    composites = await session.query(COMPOSITES_SQL, timeout_s=CATALOG_DEADLINE_S)
    system = await session.query(SYSTEM_SQL, [".".join(name) for name in RELATIONS], timeout_s=CATALOG_DEADLINE_S)
    path = await session.query(
        "SELECT pg_catalog.unnest(pg_catalog.current_schemas(false)) AS schema, current_catalog AS database",
        timeout_s=CATALOG_DEADLINE_S,
    )
    return Catalog(
        tables=build_tables(columns, {(row["schema"], row["name"]): row["size"] for row in keys}),
        functions=tuple(f"{row['schema']}.{row['name']}" for row in functions),
        composites=build_composites(composites),
        search_path=tuple(row["schema"] for row in path),
        database=path[0]["database"] if path else "",
        system=build_tables(system, {(row["schema"], row["name"]): row["size"] for row in system}),
    )


async def read_session_catalog(session: Session, policy: Policy) -> Catalog:
    """The same for sessions under this policy, with what that shows of the server's own catalogs."""
    catalog = await read_catalog(session)
    rows = await session.query(SessionRulebook(policy, catalog).seen_sql, timeout_s=CATALOG_DEADLINE_S)
    seen = tuple((row[0], tuple(row[1])) for row in rows)
    return msgspec.structs.replace(catalog, seen=seen, seen_by=policy.version)


def build_composites(rows: list[Any]) -> tuple[CatalogType, ...]:
    """Composite types from rows of COMPOSITES_SQL."""
    grouped: dict[str, list[CatalogColumn]] = defaultdict(list)
    for row in rows:
        grouped[row["name"]].append(CatalogColumn(row["column"], row["type"]))
    return tuple(CatalogType(name, tuple(fields)) for name, fields in grouped.items())


def build_tables(rows: list[Any], key_sizes: dict[tuple[str, str], int]) -> tuple[CatalogTable, ...]:
    """Tables from rows of COLUMNS_SQL. A primary key counts only when every one of its columns is visible."""
    grouped: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for row in rows:
        grouped[row["schema"], row["name"]].append(row)
    tables = []
    for (schema, name), members in grouped.items():
        key = sorted((row["key_position"], row["column"]) for row in members if row["key_position"])
        tables.append(
            CatalogTable(
                schema=schema,
                name=name,
                columns=tuple(CatalogColumn(row["column"], row["type"]) for row in members),
                kind="view" if members[0]["kind"] in ("v", "m") else "table",
                primary_key=tuple(column for _, column in key) if len(key) == key_sizes.get((schema, name)) else (),
            )
        )
    return tuple(tables)
