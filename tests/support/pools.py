"""A pool on the test server, statements for it, and its results read back from the volume. Used by the pool tests."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.local.postgres import PostgresServer
from workers.attempt import Attempt, Statement
from workers.sql.harden import Hardening, harden
from workers.sql.pool import Pool, PoolSpec
from workers.volumes.spec import VolumeSpec
from workers.volumes.store import open_volume

ROLE = "agent"
_numbers = itertools.count(1)


def make_role(
    postgres: PostgresServer,
    database: str,
    tables: dict[str, tuple[str, ...]],
    writes: dict[str, tuple[str, ...]] | None = None,
    role: str = ROLE,
) -> str:
    """A role made by what `sandpool database harden` prints; its DSN."""
    wanted = Hardening(role=role, database=database, tables=tables, writes=writes or {}, connection_limit=50)
    postgres.execute(harden(wanted), database)
    password = secrets.token_hex(8)
    postgres.execute(f"ALTER ROLE {role} PASSWORD '{password}'")
    return postgres.dsn(database, role, password)


def statement(sql: str, *params: Any, **fields: Any) -> Statement:
    """A statement with generous limits; every field can be set."""
    number = next(_numbers)
    chosen: dict[str, Any] = {
        "tenant": "acme",
        "job_id": f"job-{number}",
        "attempt_id": f"1-{secrets.token_hex(4)}",
        "digest": f"digest-{number}",
        "timeout_s": 20.0,
        "max_rows": 10_000_000,
        "max_bytes": 4 * 1024**3,
        "volume": "results",
    }
    return Statement(sql=sql, params=params, **{**chosen, **fields})


@asynccontextmanager
async def open_pool(dsn: str, volume: VolumeSpec, **fields: Any) -> AsyncIterator[Pool]:
    """A started pool, closed at the end."""
    pool = Pool(PoolSpec(database="test", dsn=dsn, **fields), {volume.name: open_volume(volume)})
    await pool.start()
    try:
        yield pool
    finally:
        await pool.close()


def read_parts(volume: VolumeSpec, attempt: Attempt) -> pa.Table:
    """The attempt's Parquet parts as one table."""
    store = open_volume(volume)
    tables = [pq.ParquetFile(pa.BufferReader(store.get(part.key) or b"")).read() for part in attempt.manifest.parts]
    return pa.concat_tables(tables)


def read_inline(attempt: Attempt) -> pa.Table:
    """The attempt's inline copy."""
    return pa.ipc.open_stream(attempt.inline).read_all()
