"""Inside: one statement on DuckDB or SQLite, on files below /in, which are read-only; or what those files hold.

Sent by `programs` together with `tables`, whose `write` it calls; opens files by the library that lies in every
sandbox (`workers/sandbox/runner/library`). The text has passed the policy. The engine gets no
file, network, extension or setting beyond what is opened here: its own locks are a second wall inside the sandbox.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any

import sandpool_files

from .tables import FOLDER, MAX_BATCH_ROWS, write

LOCKS = (
    "SET autoinstall_known_extensions=false",
    "SET autoload_known_extensions=false",
    "SET allow_community_extensions=false",
    "SET python_enable_replacements=false",
    "SET enable_external_access=false",
    "SET lock_configuration=true",
)
READS = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE)


def run_query(ask: dict[str, Any]) -> None:
    """Run it and leave the rows as the result."""
    if ask["engine"] == "duckdb":
        database = _open_duckdb(ask)
        rows = database.sql(ask["sql"], params=ask["params"])
        if rows is None:
            raise ValueError("the statement has no rows")
        reader: Any = rows.to_arrow_reader(MAX_BATCH_ROWS)
        write(reader.schema, reader, ask["max_rows"], ask["max_bytes"])
        return
    lite = sandpool_files.open_sqlite(ask["path"])
    lite.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in READS else sqlite3.SQLITE_DENY)
    cursor = sandpool_files.execute_sqlite(lite, ask["sql"], ask["params"])
    table = sandpool_files.table_of_rows(cursor, ask["max_rows"] + 1)
    write(table.schema, table.to_batches(), ask["max_rows"], ask["max_bytes"])


def read_catalog(ask: dict[str, Any]) -> None:
    """Leave what the files hold: `[{"schema", "name", "kind", "columns": [[name, type], ...]}, ...]` as JSON."""
    if ask["engine"] == "duckdb":
        rows = _open_duckdb(ask).execute(
            "select c.table_schema, c.table_name, t.table_type, c.column_name, c.data_type"
            " from information_schema.columns c join information_schema.tables t"
            " using (table_catalog, table_schema, table_name)"
            " where c.table_catalog = current_database() order by 1, 2, c.ordinal_position"
        )
        found = [tuple(row) for row in rows.fetchall()]
    else:
        found = (
            sandpool_files.open_sqlite(ask["path"])
            .execute(
                "select 'main', m.name, m.type, c.name, c.type from sqlite_master m, pragma_table_info(m.name) c"
                " where m.type in ('table', 'view') and m.name not like 'sqlite~_%' escape '~' order by m.name, c.cid"
            )
            .fetchall()
        )
    tables: dict[tuple[str, str], dict[str, Any]] = {}
    for schema, name, kind, column, column_type in found:
        is_view = "view" in kind.lower() and not ask["is_folder"]
        entry = {"schema": schema, "name": name, "kind": "view" if is_view else "table", "columns": []}
        tables.setdefault((schema, name), entry)["columns"].append([column, column_type])
    with open(f"{FOLDER}/catalog.json", "w", encoding="utf-8") as file:
        json.dump(list(tables.values()), file)


def _open_duckdb(ask: dict[str, Any]) -> Any:
    """The database file, or views over Parquet files, with everything else locked."""
    limits = {"memory_limit": ask["memory_limit"], "threads": ask["threads"]}
    database = sandpool_files.open_duckdb(ask["path"], is_folder=ask["is_folder"], limits=limits)
    if ask["is_folder"]:
        database.execute(f"SET allowed_directories=['{ask['path']}/']")
    for lock in LOCKS:
        database.execute(lock)
    return database
