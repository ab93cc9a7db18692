"""One ADBC connection to the database: statements as COPY BINARY, handed out as Arrow batches.

Opened by `bulk` through the lender; the same transaction rules as in `session` hold. Everything blocks: it belongs in a
thread.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Protocol
from urllib.parse import quote

import adbc_driver_postgresql
import pyarrow as pa
from adbc_driver_postgresql import dbapi

from workers.sql.faults import translate
from workers.sql.spec import PoolSpec, name_job

BATCH_BYTES = 4 * 1024 * 1024
_BATCH_HINT = adbc_driver_postgresql.StatementOptions.BATCH_SIZE_HINT_BYTES.value
_DEAD_PEER = {"keepalives_idle": "15", "keepalives_interval": "5", "keepalives_count": "3", "tcp_user_timeout": "30000"}
"""libpq waits for ever for a host that vanished without a word; the kernel then ends the connection within 30 s."""
_SNAPSHOT = re.compile(r"[0-9A-Fa-f-]{1,64}")
_USE_COPY = adbc_driver_postgresql.StatementOptions.USE_COPY.value


class Batches(Protocol):
    """A result as ADBC hands it out."""

    @property
    def schema(self) -> pa.Schema: ...
    def __iter__(self) -> Iterator[pa.RecordBatch]: ...


class BulkSession:
    """One ADBC connection. Blocking inside; whoever holds it from the lender is its only user."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._cursor: Any = None
        self.tenant: str | None = None
        self.broken = False

    @classmethod
    async def open(cls, spec: PoolSpec) -> BulkSession:
        """Connect with a deadline (libpq's own). Raises DatabaseUnavailable or DatabaseRefusesRole."""
        try:
            return cls(await asyncio.to_thread(dbapi.connect, libpq_uri(spec), autocommit=True))
        except Exception as error:  # noqa: BLE001 - translated, whatever it is
            raise translate(error) from None

    @property
    def is_open(self) -> bool:
        return not self.broken

    async def reset_for(self, tenant: str) -> None:
        """Forget everything the last tenant may have left."""
        if self.tenant is not None and self.tenant != tenant:
            await asyncio.to_thread(self.control, "DISCARD ALL")
        self.tenant = tenant

    def control(self, constant: str) -> None:
        """Run a string of our own: constants and integers only."""
        with self._connection.cursor(adbc_stmt_kwargs={_USE_COPY: "false"}) as cursor:
            cursor.execute(constant)

    def begin(self, timeout_s: float, *, job_id: str = "", repeatable: bool = False, snapshot: str = "") -> None:
        """Open the read-only transaction with the statement's time limit and the job's name set on the server.

        `repeatable`: all its reads see one moment; that of another transaction where its `snapshot` is named.
        """
        self.control(f"BEGIN ISOLATION LEVEL {'REPEATABLE READ' if repeatable else 'READ COMMITTED'} READ ONLY")
        if snapshot:
            self.control(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
        self.control(f"SET LOCAL statement_timeout = {max(1, int(timeout_s * 1000))}")
        if name := name_job(job_id):
            self.control(name)

    def export_snapshot(self) -> str:
        """The name by which other connections adopt this transaction's snapshot while it is open."""
        with self._connection.cursor(adbc_stmt_kwargs={_USE_COPY: "false"}) as cursor:
            cursor.execute("SELECT pg_catalog.pg_export_snapshot()")
            name = str(cursor.fetchone()[0])
        if not _SNAPSHOT.fullmatch(name):
            raise ValueError("the server named its snapshot oddly")
        return name

    def read(self, sql: str) -> Batches:
        """Start the statement; `end_read` or `end` must follow."""
        self._cursor = self._connection.cursor(adbc_stmt_kwargs={_BATCH_HINT: str(BATCH_BYTES)})
        self._cursor.execute(sql)
        # Private to ADBC's dbapi: its public reader raises OSError without a SQLSTATE where this one tells all.
        reader: Batches = self._cursor._results.reader
        return reader

    def end_read(self) -> None:
        """Let go of the statement's result; the transaction goes on."""
        if self._cursor is not None:
            self._cursor.close()
            self._cursor = None

    def end(self) -> None:
        """Roll back; the connection is idle afterwards or marked broken. Never raises."""
        try:
            self.end_read()
            self.control("ROLLBACK")
        except Exception:  # noqa: BLE001 - whatever it is, the connection is not to be trusted
            self.broken = True

    def cancel(self) -> None:
        """Cancel what runs on the server; from any thread."""
        if (cursor := self._cursor) is not None:
            with suppress(Exception):
                cursor.adbc_cancel()

    async def close(self) -> None:
        """Disconnect. Never raises."""
        self.broken = True
        with suppress(Exception):
            await asyncio.to_thread(self._connection.close)


def libpq_uri(spec: PoolSpec) -> str:
    """The DSN with the pinned settings as libpq startup options."""
    options = " ".join(
        f"-c {name}={_escaped(value)}" for name, value in spec.server_settings.items() if "." not in name
    )
    joint = "&" if "?" in spec.dsn else "?"
    extra = {"options": options, "connect_timeout": str(max(2, int(spec.connect_timeout_s))), **_DEAD_PEER}
    return spec.dsn + joint + "&".join(f"{name}={quote(value, safe='')}" for name, value in extra.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")
