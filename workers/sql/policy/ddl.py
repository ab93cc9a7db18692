"""A catalog from a file of CREATE TABLE and CREATE VIEW statements, for `policy check --schema`.

PostgreSQL's text is read by PostgreSQL's grammar; DuckDB's and SQLite's is executed in an empty in-memory database of
that
engine, opened without access to files, and the tables are then listed. Other statements in a PostgreSQL file are
skipped
when they only describe (comments, grants, indexes, types), as in a schema-only dump.
"""

from __future__ import annotations

import sqlite3
from typing import Any

import duckdb

from workers.errors import ConfigurationError
from workers.sql.policy.catalog import Catalog, CatalogColumn, CatalogTable, CatalogType
from workers.sql.policy.document import Dialect, Policy
from workers.sql.policy.postgres.grammar import parse
from workers.sql.policy.postgres.query import read_query
from workers.sql.policy.postgres.walk import Walk, kind_of, strings
from workers.sql.policy.postgres.writes import read_write
from workers.sql.policy.rules import Denied, shown
from workers.sql.policy.tables import Rulebook

_Row = dict[str, Any]
_EVERYTHING = Policy(tables="all")


def catalog_from_ddl(text: str, dialect: Dialect) -> Catalog:
    """The catalog that these statements create. Raises ConfigurationError when they cannot be read."""
    try:
        return {"postgres": _postgres, "duckdb": _duckdb, "sqlite": _sqlite}[dialect](text)
    except Denied as denied:
        raise ConfigurationError(f"schema: {denied.reason}") from None
    except (duckdb.Error, sqlite3.Error) as error:
        raise ConfigurationError(f"schema: {shown(error, 200)}") from None


# --- PostgreSQL
# ----------------------------------------------------------------------------------------------------------


def _postgres(text: str) -> Catalog:
    tables: dict[tuple[str, str], CatalogTable] = {}
    functions: list[str] = []
    composites: list[CatalogType] = []
    schemas: list[str] = ["public"]
    for statement in parse(text):
        kind = kind_of(statement)
        message = statement[kind]
        if kind == "CreateStmt":
            table = _create_table(message, tables)
            tables[table.schema, table.name] = table
        elif kind in ("ViewStmt", "CreateTableAsStmt"):
            view = _create_view(kind, message, tables)
            tables[view.schema, view.name] = view
        elif kind == "CreateFunctionStmt":
            names = strings(message["funcname"])
            functions.append(".".join(names if len(names) > 1 else ["public", *names]))
        elif kind == "CompositeTypeStmt":
            composites.append(_create_type(message))
        elif kind == "CreateSchemaStmt":
            schemas.append(message["schemaname"])
        elif kind == "AlterTableStmt":
            _alter_table(message, tables)
        elif kind in ("DropStmt", "RenameStmt", "AlterObjectSchemaStmt"):
            raise ConfigurationError(
                f"schema: {kind} changes what an earlier statement made; give the final definitions"
            )
    return Catalog(
        tables=tuple(tables.values()),
        functions=tuple(functions),
        composites=tuple(composites),
        search_path=("public",),
    )


def _create_type(message: _Row) -> CatalogType:
    name = message["typevar"]
    written = f"{name['schemaname']}.{name['relname']}" if "schemaname" in name else name["relname"]
    definitions = [item["ColumnDef"] for item in message.get("coldeflist", ())]
    fields = tuple(CatalogColumn(one["colname"], _type_text(one["typeName"])) for one in definitions)
    return CatalogType(written.removeprefix("public."), fields)


def _create_table(message: _Row, known: dict[tuple[str, str], CatalogTable]) -> CatalogTable:
    relation = message["relation"]
    columns: list[CatalogColumn] = []
    key: list[str] = []
    for parent in message.get("inhRelations", ()):
        columns += _lookup(known, parent["RangeVar"]).columns
    for item in message.get("tableElts", ()):
        definition = item.get("ColumnDef")
        if definition is not None:
            columns.append(CatalogColumn(definition["colname"], _type_text(definition["typeName"])))
            if any(c["Constraint"]["contype"] == "CONSTR_PRIMARY" for c in definition.get("constraints", ())):
                key = [definition["colname"]]
        elif "TableLikeClause" in item:
            columns += _lookup(known, item["TableLikeClause"]["relation"]).columns
        elif item.get("Constraint", {}).get("contype") == "CONSTR_PRIMARY":
            key = strings(item["Constraint"].get("keys", []))
    return CatalogTable(
        schema=relation.get("schemaname", "public"),
        name=relation["relname"],
        columns=tuple(columns),
        primary_key=tuple(key),
    )


def _lookup(known: dict[tuple[str, str], CatalogTable], relation: _Row) -> CatalogTable:
    table = known.get((relation.get("schemaname", "public"), relation["relname"]))
    if table is None:
        raise ConfigurationError(f"schema: {relation['relname']!r} is used before it is created")
    return table


def _create_view(kind: str, message: _Row, known: dict[tuple[str, str], CatalogTable]) -> CatalogTable:
    relation = message["view"] if kind == "ViewStmt" else message["into"]["rel"]
    aliases = strings(message.get("aliases", []) if kind == "ViewStmt" else message["into"].get("colNames", []))
    names = aliases or _view_columns(relation["relname"], message["query"], known)
    columns = tuple(CatalogColumn(name) for name in names)
    return CatalogTable(
        schema=relation.get("schemaname", "public"), name=relation["relname"], columns=columns, kind="view"
    )


def _view_columns(name: str, query: _Row, known: dict[tuple[str, str], CatalogTable]) -> list[str]:
    # The walk that judges queries also knows their columns; under a policy that allows every table it refuses little.
    book = Rulebook(_EVERYTHING, Catalog(tables=tuple(known.values())), "postgres")
    try:
        columns = read_query(Walk(book, "", False, read_query, read_write), query, None, {})
    except Denied:
        columns = None
    if columns is None:
        raise ConfigurationError(
            f"schema: the columns of the view {name!r} cannot be told; list them: CREATE VIEW {name} (a, b, ...)"
        )
    return list(columns)


def _alter_table(message: _Row, known: dict[tuple[str, str], CatalogTable]) -> None:
    """ALTER TABLE ... ADD PRIMARY KEY or ADD COLUMN, as dumps write them; other actions change nothing here."""
    relation = message["relation"]
    place = (relation.get("schemaname", "public"), relation["relname"])
    table = known.get(place)
    for item in message.get("cmds", ()):
        command = item["AlterTableCmd"]
        subtype = command.get("subtype")
        if subtype in ("AT_DropColumn", "AT_AlterColumnType", "AT_AddColumn"):
            raise ConfigurationError("schema: ALTER TABLE changes columns; give the final CREATE TABLE")
        constraint = command.get("def", {}).get("Constraint", {})
        if table is not None and constraint.get("contype") == "CONSTR_PRIMARY":
            key = tuple(strings(constraint.get("keys", [])))
            known[place] = CatalogTable(
                schema=table.schema, name=table.name, columns=table.columns, kind=table.kind, primary_key=key
            )


def _type_text(name: _Row) -> str:
    parts = strings(name["names"])
    written = ".".join(part for part in parts if part != "pg_catalog").removeprefix("public.")
    return written + "[]" * len(name.get("arrayBounds", ()))


# --- DuckDB and SQLite
# -----------------------------------------------------------------------------------------------------


def _duckdb(text: str) -> Catalog:
    with duckdb.connect(
        ":memory:", config={"enable_external_access": "false", "autoinstall_known_extensions": "false"}
    ) as engine:
        engine.execute("SET memory_limit = '256MB'; SET threads = 1; SET lock_configuration = true")
        engine.execute(text)
        rows = engine.execute(
            "SELECT c.schema_name, c.table_name, c.column_name, c.data_type, v.view_name IS NOT NULL AS is_view"
            " FROM duckdb_columns() c LEFT JOIN duckdb_views() v ON v.schema_name = c.schema_name AND "
            "v.view_name = c.table_name"
            " WHERE NOT c.internal ORDER BY c.schema_name, c.table_name, c.column_index"
        ).fetchall()
        functions = engine.execute(
            "SELECT DISTINCT schema_name || '.' || function_name FROM duckdb_functions() WHERE NOT internal"
        ).fetchall()
    return Catalog(tables=_grouped(rows), functions=tuple(name for (name,) in functions), search_path=("main",))


def _sqlite(text: str) -> Catalog:
    engine = sqlite3.connect(":memory:")
    try:
        engine.set_authorizer(
            lambda action, *_: sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_ATTACH else sqlite3.SQLITE_OK
        )
        engine.executescript(text)
        rows = engine.execute(
            "SELECT 'main', m.name, p.name, p.type, m.type = 'view' FROM sqlite_master m JOIN "
            "pragma_table_xinfo(m.name) p"
            " WHERE m.type IN ('table', 'view') AND m.name NOT LIKE 'sqlite%' AND p.hidden <> 1 ORDER BY m.name, p.cid"
        ).fetchall()
    finally:
        engine.close()
    return Catalog(tables=_grouped(rows), search_path=("main",))


def _grouped(rows: list[tuple[str, str, str, str, bool]]) -> tuple[CatalogTable, ...]:
    columns: dict[tuple[str, str, bool], list[CatalogColumn]] = {}
    for schema, table, column, kind, is_view in rows:
        columns.setdefault((schema, table, bool(is_view)), []).append(CatalogColumn(column, kind))
    return tuple(
        CatalogTable(schema=schema, name=name, columns=tuple(members), kind="view" if is_view else "table")
        for (schema, name, is_view), members in columns.items()
    )
