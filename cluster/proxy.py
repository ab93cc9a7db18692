"""A broker for one caller on this machine, without RabbitMQ or Ray: what `sandpool database proxy` and `connect` run.

Assembles a pool, the policy's judge and a broker from the settings, serves one door for one tenant, and takes
everything down again. The tenant must have the right to the database; a database it has no right to is answered like
one that does not exist.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from cluster.app import Parts
from cluster.errors import SettingsInvalid
from workers.sql.broker.broker import SOCKET_NAME, Broker
from workers.sql.broker.door import Limits
from workers.sql.broker.trail import Trail
from workers.sql.judge import Judge
from workers.sql.pool import Pool
from workers.volumes.keys import audit_key
from workers.volumes.store import open_volume

LONGEST_PATH = 107
"""Bytes of a Unix socket's address."""


def tenant_of(parts: Parts, database: str, asked: str | None) -> str:
    """The tenant that is served. Raises SettingsInvalid when there is none with the right to this database."""
    able = sorted(name for name, rules in parts.rules.tenants.items() if database in rules.databases)
    if database not in parts.pools or (asked is not None and asked not in able):
        raise SettingsInvalid(f"no database {database!r} for this tenant; it needs the right to it ([tenants.NAME])")
    if asked is not None:
        return asked
    if len(able) != 1:
        raise SettingsInvalid(f"say which tenant with --tenant: {', '.join(able) or 'none'} may use {database}")
    return able[0]


def limits_of(parts: Parts, database: str, tenant: str, most_sessions: int) -> Limits:
    """Bounds of this tenant's sessions."""
    limits = parts.rules.databases[database]
    timeout_s = min(limits.statement_timeout_s, parts.rules.tenants[tenant].max_timeout_s)
    return Limits(statement_s=timeout_s, max_bytes=limits.max_bytes, most_sessions=most_sessions)


@asynccontextmanager
async def open_proxy(
    parts: Parts, database: str, tenant: str, folder: Path, *, most_sessions: int
) -> AsyncIterator[Broker]:
    """A broker whose door is `folder`/.s.PGSQL.5432. Raises WorkerError, OSError.

    Its audit trail is written into the tenant's first volume, under a name like a job's.
    """
    if len(os.fsencode(folder / SOCKET_NAME)) > LONGEST_PATH:
        raise SettingsInvalid(f"{folder}: too long for a socket, which clients reach by at most {LONGEST_PATH} bytes")
    volume_name = parts.rules.tenants[tenant].volumes[0]
    volume = await asyncio.to_thread(open_volume, parts.volumes[volume_name])
    owner = f"proxy-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
    trail = Trail(lambda number, lines: volume.acreate(audit_key(tenant, owner, database, number), lines))
    limits = limits_of(parts, database, tenant, most_sessions)
    spec = msgspec.structs.replace(
        parts.pools[database], wire_budget=parts.pools[database].budget, session_statement_s=limits.statement_s
    )
    pool = Pool(spec, {})
    async with Judge() as judge:
        try:
            await pool.start()
            broker = Broker(spec, parts.policies[database], judge, pool.lender, pool.catalog, limits)
            await broker.start()
            try:
                await broker.serve(folder / SOCKET_NAME, tenant, trail)
                yield broker
            finally:
                await broker.close()
        finally:
            await pool.close()
