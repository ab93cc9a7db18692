"""Inside: one statement on DuckDB or SQLite, on files below /in, which are read-only; or what those files hold.

Sent by `programs` together with `tables`, whose `write` it calls. The text has passed the policy. The engine gets no
file, network, extension or setting beyond what is opened here: its own locks are a second wall inside the sandbox.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from typing import Any

import duckdb
import pyarrow as pa

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
    lite = _open_sqlite(ask)
    lite.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in READS else sqlite3.SQLITE_DENY)
    numbered = {str(number): value for number, value in enumerate(ask["params"], start=1)}
    cursor = lite.execute(ask["sql"], numbered if "$" in ask["sql"] else ask["params"])
    table = _table_of_rows(cursor, ask["max_rows"] + 1)
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
            _open_sqlite(ask)
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


def _open_duckdb(ask: dict[str, Any]) -> duckdb.DuckDBPyConnection:
    """The database file, or views over Parquet files, with everything else locked."""
    limits = {"memory_limit": ask["memory_limit"], "threads": ask["threads"]}
    if ask["is_folder"]:
        database = duckdb.connect(":memory:", config=limits)
        for name, files in _parquet_tables(ask["path"]).items():
            view = f"CREATE VIEW {_quoted(name)} AS SELECT * FROM read_parquet({files!r})"  # noqa: S608
            database.execute(view)
        database.execute(f"SET allowed_directories=['{ask['path']}/']")
    else:
        database = duckdb.connect(ask["path"], read_only=True, config=limits)
    for lock in LOCKS:
        database.execute(lock)
    return database


def _parquet_tables(folder: str) -> dict[str, list[str]]:
    """A file `NAME.parquet` is a table, and so is a folder of such files."""
    found: dict[str, list[str]] = {}
    for name in sorted(os.listdir(folder)):
        path = f"{folder}/{name}"
        if os.path.isdir(path):
            files = sorted(f"{path}/{each}" for each in os.listdir(path) if each.endswith(".parquet"))
            found |= {name: files} if files else {}
        elif name.endswith(".parquet"):
            found[name.removesuffix(".parquet")] = [path]
    return found


def _quoted(name: str) -> str:
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


def _open_sqlite(ask: dict[str, Any]) -> sqlite3.Connection:
    database = sqlite3.connect(f"file:{ask['path']}?mode=ro&immutable=1", uri=True, isolation_level=None)
    database.execute("PRAGMA trusted_schema=OFF")
    database.execute("PRAGMA cell_size_check=ON")
    return database


def _table_of_rows(cursor: sqlite3.Cursor, most: int) -> pa.Table:
    """SQLite's values have types of their own, its columns only wishes: a column gets the type that holds all of its
    values, and text where none does."""
    names = _unique([column[0] for column in cursor.description])
    chunks: list[list[Any]] = [[] for _ in names]
    for rows in _pages(cursor, most):
        for column, values in zip(chunks, zip(*rows, strict=True), strict=True):
            column.extend(values)
    return pa.table([_array(values) for values in chunks], names=names)


def _pages(cursor: sqlite3.Cursor, most: int) -> Iterator[list[tuple[Any, ...]]]:
    left = most
    while left > 0 and (rows := cursor.fetchmany(min(MAX_BATCH_ROWS, left))):
        left -= len(rows)
        yield rows


def _array(values: list[Any]) -> Any:
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int}:
        return pa.array(values, pa.int64())
    if kinds <= {int, float}:
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    if kinds == {bytes}:
        return pa.array(values, pa.binary())
    return pa.array([_text(value) for value in values], pa.string())


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return "\\x" + value.hex() if isinstance(value, bytes) else str(value)


def _unique(names: list[str]) -> list[str]:
    """Column names as the statement gave them; a repeated one gets a number."""
    seen: dict[str, int] = {}
    result = []
    for name in names:
        count = seen.get(name, 0)
        seen[name] = count + 1
        result.append(f"{name}_{count}" if count else name)
    return result
