"""Gives a sandbox its databases: a socket each, and the variables by which drivers find them. No secret is among them.

Called by `run` around the code. The doors are opened by the pools of this node (`workers.doors`) in the sandbox's own
folder of sockets, and shut before the sandbox is destroyed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from workers.doors import DoorRequest, open_door
from workers.sandbox.jobs.errors import DatabaseUnreachable
from workers.sandbox.lease import Lease
from workers.sandbox.task import SandboxTask

INSIDE = "/run/sandpool/pg"
FIRST_PORT = 5432
"""On the sandbox's own loopback, for clients that only know TCP: the first database, and one more for each other."""
USER = "sandpool"


def variables(databases: tuple[str, ...]) -> dict[str, str]:
    """What drivers read. Of several databases the first is the one that needs no naming."""
    first = databases[0]
    return {
        "PGHOST": f"{INSIDE}/{first}",
        "PGPORT": str(FIRST_PORT),
        "PGUSER": USER,
        "PGDATABASE": first,
        "PGSSLMODE": "disable",
        "DATABASE_URL": f"postgresql://{USER}@127.0.0.1:{FIRST_PORT}/{first}?sslmode=disable",
        "SANDPOOL_DATABASES": ",".join(databases),
    }


@contextlib.asynccontextmanager
async def databases_of(lease: Lease, task: SandboxTask, doors: Path | None) -> AsyncIterator[dict[str, str]]:
    """The variables, while every database that the task names can be reached. Raises WorkerError."""
    if not task.databases:
        yield {}
        return
    if doors is None:
        raise DatabaseUnreachable("this host has no way to a database", hint="run the pools on the same node")
    async with contextlib.AsyncExitStack() as opened:
        for database in task.databases:
            folder = lease.sockets / "pg" / database
            await asyncio.to_thread(folder.mkdir, mode=0o755, parents=True, exist_ok=True)
            request = DoorRequest(
                folder=str(folder),
                tenant=task.tenant,
                job_id=task.job_id,
                attempt_id=task.attempt_id,
                volume=task.volume,
            )
            await opened.enter_async_context(open_door(doors, database, request))
        yield variables(task.databases)
