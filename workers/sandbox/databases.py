"""Gives a sandbox its databases: a socket each, and the variables by which drivers find them. No secret is among them.
Databases that are files lie below /in (`jobs.staging`, `kept_files`); here they are only named.

Used for jobs (`jobs.run`, around the code) and for kept sandboxes (`kept_doors`, while one runs). The doors are
opened by the pools of this node (`workers.doors`) in the sandbox's own folder of sockets, and are shut before the
sandbox is saved or destroyed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

from workers.doors import DoorRequest, open_door
from workers.sandbox.errors import DatabaseUnreachable
from workers.sandbox.task import DatabaseFile

INSIDE = "/run/sandpool/pg"
LOOPBACK = "127.0.0.1"
FIRST_PORT = 5432
"""On the sandbox's own loopback, for clients that only know TCP: the first database, and one more for each other."""
USER = "sandpool"


def variables(
    databases: tuple[str, ...], files: tuple[DatabaseFile, ...] = (), *, is_kept: bool = False
) -> dict[str, str]:
    """What drivers and the module `sandpool` read. Of several databases the first is the one that needs no naming.

    In a sandbox that is kept they go by its loopback: a connection to the host's socket would keep it from being saved.
    """
    if not databases and not files:
        return {}
    found = {"SANDPOOL_DATABASES": ",".join(databases)}
    if files:
        described = {
            file.name: {
                "engine": file.engine,
                "path": f"/in/{file.source.path}",
                "is_folder": file.source.key.endswith("/"),
            }
            for file in files
        }
        found["SANDPOOL_DATABASE_FILES"] = json.dumps(described)
    return found | (_drivers(databases, is_kept) if databases else {})


def _drivers(databases: tuple[str, ...], is_kept: bool) -> dict[str, str]:
    first = databases[0]
    return {
        "PGHOST": LOOPBACK if is_kept else f"{INSIDE}/{first}",
        "PGPORT": str(FIRST_PORT),
        "PGUSER": USER,
        "PGDATABASE": first,
        "PGSSLMODE": "disable",
        "DATABASE_URL": f"postgresql://{USER}@{LOOPBACK}:{FIRST_PORT}/{first}?sslmode=disable",
    }


@contextlib.asynccontextmanager
async def doors_to(
    databases: tuple[str, ...],
    sockets: Path,
    doors: Path | None,
    *,
    tenant: str,
    job_id: str,
    attempt_id: str,
    volume: str,
) -> AsyncIterator[None]:
    """While every one of these databases can be reached through `sockets`. Raises WorkerError."""
    if doors is None:
        raise DatabaseUnreachable("this host has no way to a database", hint="run the pools on the same node")
    async with contextlib.AsyncExitStack() as opened:
        for database in databases:
            folder = sockets / "pg" / database
            await asyncio.to_thread(folder.mkdir, mode=0o755, parents=True, exist_ok=True)
            request = DoorRequest(
                folder=str(folder), tenant=tenant, job_id=job_id, attempt_id=attempt_id, volume=volume
            )
            await opened.enter_async_context(open_door(doors, database, request))
        yield
