"""`import sandpool` inside a sandbox: `sandpool.query("flights", "select ...")` without a driver.

The answer is a pyarrow.Table (`.to_pandas()`), or a list of dicts where pyarrow is not installed. Speaks PostgreSQL's
protocol over the socket that the sandbox was given; holds no secret, for none is needed. A database that is a file is
opened by its engine. Standard library only, but for those engines.
"""

from __future__ import annotations

import datetime
import decimal
import json
import os
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any

import sandpool_files

FOLDER = "/run/sandpool/pg"
TIMEOUT_S = 3600.0
_BOOL, _BYTEA, _INT8, _INT2, _INT4, _JSON, _FLOAT4, _FLOAT8 = 16, 17, 20, 21, 23, 114, 700, 701
_DATE, _TIME, _TIMESTAMP, _TIMESTAMPTZ, _NUMERIC, _JSONB = 1082, 1083, 1114, 1184, 1700, 3802


class QueryError(Exception):
    """The database, or the policy in front of it, refused the statement."""

    def __init__(self, sqlstate: str, message: str, detail: str = "") -> None:
        super().__init__(message + (f" [{sqlstate}]" if sqlstate else "") + (f" ({detail})" if detail else ""))
        self.sqlstate = sqlstate


def databases() -> list[str]:
    """Names that `query` takes."""
    return [name for name in os.environ.get("SANDPOOL_DATABASES", "").split(",") if name] + list(_files())


def path(database: str) -> str:
    """Where the file (or the folder of Parquet files) of a database lies, read-only: for the engine's own ways."""
    if database not in _files():
        raise LookupError(f"database {database!r} is no file in this sandbox; files are: {', '.join(_files())}")
    return str(_files()[database]["path"])


def query(database: str, sql: str, params: Sequence[Any] = ()) -> Any:
    """Run one statement; `params` are the values of $1, $2, and so on. Raises QueryError, OSError."""
    if database in _files():
        return _query_file(_files()[database], sql, params)
    with _connect(database) as connection:
        stream = connection.makefile("rb")
        _send(connection, sql, params)
        columns, rows = _receive(stream)
    values: list[list[Any]] = [[row[at] for row in rows] for at in range(len(columns))]
    return _table([name for name, _ in columns], [oid for _, oid in columns], values)


def _files() -> dict[str, Any]:
    """Name -> engine, path, is_folder."""
    found: dict[str, Any] = json.loads(os.environ.get("SANDPOOL_DATABASE_FILES", "{}"))
    return found


def _query_file(file: dict[str, Any], sql: str, params: Sequence[Any]) -> Any:
    try:
        rows = sandpool_files.query(file["engine"], file["path"], sql, list(params), is_folder=file["is_folder"])
    except sandpool_files.errors(file["engine"]) as error:
        raise QueryError("", str(error)) from error
    return rows


def _connect(database: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(TIMEOUT_S)
    try:
        connection.connect(f"{FOLDER}/{database}/.s.PGSQL.5432")
    except FileNotFoundError:
        connection.close()
        raise LookupError(f"no database {database!r} in this sandbox; there are: {', '.join(databases())}") from None
    body = struct.pack(">I", 3 << 16) + f"user\0sandpool\0database\0{database}\0\0".encode()
    connection.sendall(struct.pack(">I", len(body) + 4) + body)
    return connection


def _send(connection: socket.socket, sql: str, params: Sequence[Any]) -> None:
    values = b"".join(_parameter(value) for value in params)
    bind = b"\0\0\0\0" + struct.pack(">H", len(params)) + values + b"\0\0"
    turn = [(b"P", b"\0" + sql.encode() + b"\0\0\0"), (b"B", bind), (b"D", b"P\0"), (b"E", b"\0\0\0\0\0"), (b"S", b"")]
    connection.sendall(b"".join(kind + struct.pack(">I", len(body) + 4) + body for kind, body in turn))


def _parameter(value: Any) -> bytes:
    if value is None:
        return b"\xff\xff\xff\xff"
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, dict | list):
        text = json.dumps(value)
    elif isinstance(value, bytes):
        text = "\\x" + value.hex()
    else:
        text = str(value)
    raw = text.encode()
    return struct.pack(">I", len(raw)) + raw


def _receive(stream: Any) -> tuple[list[tuple[str, int]], list[list[Any]]]:
    """(name, type) of each column, and the rows. The first ReadyForQuery greets, the second ends."""
    columns: list[tuple[str, int]] = []
    readers: list[Callable[[str], Any]] = []
    rows: list[list[Any]] = []
    error: QueryError | None = None
    turns = 0
    while turns < 2:
        header = stream.read(5)
        if len(header) < 5:
            raise error or ConnectionError("the connection to the database was lost")
        kind, body = header[:1], stream.read(struct.unpack(">I", header[1:])[0] - 4)
        if kind == b"Z":
            turns += 1
        elif kind == b"T":
            columns = _columns(body)
            readers = [_READERS.get(oid, str) for _, oid in columns]
        elif kind == b"D":
            rows.append(_row(body, readers))
        elif kind == b"E":
            fields = {part[:1]: part[1:].decode() for part in body.split(b"\0") if part}
            error = QueryError(fields.get(b"C", ""), fields.get(b"M", ""), fields.get(b"D", ""))
    if error is not None:
        raise error
    return columns, rows


def _columns(body: bytes) -> list[tuple[str, int]]:
    found, at = [], 2
    for _ in range(struct.unpack_from(">H", body)[0]):
        end = body.index(b"\0", at)
        found.append((body[at:end].decode(), struct.unpack_from(">I", body, end + 7)[0]))
        at = end + 19
    return found


def _row(body: bytes, readers: list[Callable[[str], Any]]) -> list[Any]:
    values: list[Any] = []
    at = 2
    for reader in readers:
        (size,) = struct.unpack_from(">i", body, at)
        at += 4
        if size < 0:
            values.append(None)
        else:
            values.append(reader(body[at : at + size].decode()))
            at += size
    return values


def _moment(text: str) -> Any:
    try:
        return datetime.datetime.fromisoformat(text)
    except ValueError:
        return text  # infinity, or a year that Python does not know


def _day(text: str) -> Any:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        return text


_READERS: dict[int, Callable[[str], Any]] = {
    _BOOL: lambda text: text == "t",
    _BYTEA: lambda text: bytes.fromhex(text[2:]),
    _INT2: int, _INT4: int, _INT8: int, _FLOAT4: float, _FLOAT8: float, _NUMERIC: decimal.Decimal,
    _DATE: _day, _TIME: datetime.time.fromisoformat, _TIMESTAMP: _moment, _TIMESTAMPTZ: _moment,
    _JSON: json.loads, _JSONB: json.loads,
}  # fmt: skip


def _table(names: list[str], oids: list[int], values: list[list[Any]]) -> Any:
    try:
        import pyarrow as pa  # noqa: PLC0415 - not in every image
    except ImportError:
        return [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]
    kinds: dict[int, Any] = {
        _BOOL: pa.bool_(), _BYTEA: pa.binary(), _INT2: pa.int16(), _INT4: pa.int32(), _INT8: pa.int64(),
        _FLOAT4: pa.float32(), _FLOAT8: pa.float64(), _DATE: pa.date32(), _TIME: pa.time64("us"),
        _TIMESTAMP: pa.timestamp("us"), _TIMESTAMPTZ: pa.timestamp("us", tz="UTC"),
    }  # fmt: skip
    arrays = []
    for oid, column in zip(oids, values, strict=True):
        if oid in (_JSON, _JSONB):
            arrays.append(pa.array([None if value is None else json.dumps(value) for value in column], pa.string()))
            continue
        try:
            arrays.append(pa.array(column, kinds.get(oid, None if oid == _NUMERIC else pa.string())))
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            arrays.append(pa.array([None if value is None else str(value) for value in column], pa.string()))
    return pa.table(arrays, names=names)
