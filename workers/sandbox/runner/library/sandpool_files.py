"""Databases that are files, inside a sandbox: opened read-only by their engine, DuckDB or SQLite, and asked.

Used by `sandpool` for code that has such a file, and by our own code that runs a statement on an engine
(`workers.sandbox.jobs.inside.engines`), which locks the engine as well. DuckDB and pyarrow are imported where they are
needed: not every image has them.
"""

from __future__ import annotations

import importlib
import os
import sqlite3
import sys
from collections.abc import Iterator
from typing import Any

MAX_BATCH_ROWS = 65_536


def query(engine: str, path: str, sql: str, params: list[Any], *, is_folder: bool) -> Any:
    """All rows as a pyarrow.Table, or a list of dicts where pyarrow is not installed. Raises the `errors` of the
    engine, ImportError where the image does not have it."""
    if engine == "sqlite":
        lite = open_sqlite(path)
        try:
            return _rows_of_sqlite(execute_sqlite(lite, sql, params))
        finally:
            lite.close()
    database = open_duckdb(path, is_folder=is_folder)
    try:
        found = database.execute(sql, params)
        if _arrow() is not None:
            return found.to_arrow_table() if hasattr(found, "to_arrow_table") else found.fetch_arrow_table()
        names = _unique([column[0] for column in found.description])
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    finally:
        database.close()


def errors(engine: str) -> type[Exception]:
    """What its engine raises for a statement that cannot be run."""
    return sqlite3.Error if engine == "sqlite" else importlib.import_module("duckdb").Error


def open_duckdb(path: str, *, is_folder: bool = False, limits: dict[str, Any] | None = None) -> Any:
    """The database file, or views over the Parquet files of a folder."""
    try:
        duckdb = importlib.import_module("duckdb")
    except ImportError as error:
        raise ImportError("this image has no DuckDB: use the image `data`, or one of your own that has it") from error
    if not is_folder:
        return duckdb.connect(path, read_only=True, config=limits or {})
    database = duckdb.connect(":memory:", config=limits or {})
    for name, files in parquet_tables(path).items():
        escaped = name.replace('"', '""')
        database.execute(f'CREATE VIEW "{escaped}" AS SELECT * FROM read_parquet({files!r})')  # noqa: S608
    return database


def parquet_tables(folder: str) -> dict[str, list[str]]:
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


def open_sqlite(path: str) -> sqlite3.Connection:
    database = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True, isolation_level=None)
    database.execute("PRAGMA trusted_schema=OFF")
    database.execute("PRAGMA cell_size_check=ON")
    return database


def execute_sqlite(database: sqlite3.Connection, sql: str, params: list[Any]) -> sqlite3.Cursor:
    """`params` are the values of $1, $2 and so on, or of as many `?`."""
    numbered = {str(number): value for number, value in enumerate(params, start=1)}
    return database.execute(sql, numbered if "$" in sql else params)


def table_of_rows(cursor: sqlite3.Cursor, most: int | None = None) -> Any:
    """SQLite's values have types of their own, its columns only wishes: a column gets the type that holds all of its
    values, and text where none does."""
    pa = _arrow()
    names = _unique([column[0] for column in cursor.description or ()])
    chunks: list[list[Any]] = [[] for _ in names]
    for rows in _pages(cursor, most):
        for column, values in zip(chunks, zip(*rows, strict=True), strict=True):
            column.extend(values)
    return pa.table([_array(pa, values) for values in chunks], names=names)


def _rows_of_sqlite(cursor: sqlite3.Cursor) -> Any:
    if _arrow() is not None:
        return table_of_rows(cursor)
    names = _unique([column[0] for column in cursor.description or ()])
    return [dict(zip(names, row, strict=True)) for row in cursor]


def _arrow() -> Any:
    try:
        return importlib.import_module("pyarrow")
    except ImportError:
        return None


def _pages(cursor: sqlite3.Cursor, most: int | None) -> Iterator[list[tuple[Any, ...]]]:
    left = sys.maxsize if most is None else most
    while left > 0 and (rows := cursor.fetchmany(min(MAX_BATCH_ROWS, left))):
        left -= len(rows)
        yield rows


def _array(pa: Any, values: list[Any]) -> Any:
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
