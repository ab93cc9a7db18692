"""How a host asks a pool of the same node for a door to its database: the messages, and the asking side.

Pool and host are processes of their own. Each pool listens on a control socket in a folder that both know and nobody
else may enter; a door lives as long as the connection over which it was asked for, so it is gone with its sandbox, its
host or its pool, whichever ends first. The answering side is `workers.sql.broker.reception`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec

from workers.errors import DatabaseUnavailable, PoolClosed, WorkerError

ASK_TIMEOUT_S = 30.0
SHUT_TIMEOUT_S = 5.0
AGAIN_S = 0.5
"""Between two tries, while the pool is away."""
MOST_BYTES = 16_384


class DoorRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Open a door in this folder for this identity."""

    folder: str
    tenant: str
    job_id: str
    attempt_id: str
    volume: str
    """Where the audit trail is written."""


class DoorAnswer(msgspec.Struct, frozen=True):
    """`code` empty: it is open until the connection ends."""

    code: str = ""
    message: str = ""


class DoorRefused(WorkerError):
    """The pool opened no door."""

    code = "database.unreachable"
    retry = True


def control_path(doors: Path, database: str) -> Path:
    """Where the pool of this database listens."""
    return doors / f"{database}.sock"


@contextlib.contextmanager
def short_path(path: Path) -> Iterator[str]:
    """The same place by a name that fits into a socket's address (107 bytes), and through no symbolic link."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


@contextlib.asynccontextmanager
async def open_door(doors: Path, database: str, request: DoorRequest) -> AsyncIterator[None]:
    """A door while the context lasts. Raises DoorRefused, PoolClosed."""
    hold = await _ask(doors, database, request)
    keeper = asyncio.create_task(_keep(doors, database, request, hold), name=f"door {database}")
    try:
        yield
    finally:
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)


_Hold = tuple[asyncio.StreamReader, asyncio.StreamWriter]
"""The connection that keeps a door open."""


async def _ask(doors: Path, database: str, request: DoorRequest) -> _Hold:
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(ASK_TIMEOUT_S):
            with short_path(control_path(doors, database)) as name:
                reader, writer = await asyncio.open_unix_connection(name, limit=MOST_BYTES)
            writer.write(msgspec.json.encode(request) + b"\n")
            answer = msgspec.json.decode(await reader.readline(), type=DoorAnswer)
        if answer.code:
            kind = DatabaseUnavailable if answer.code == DatabaseUnavailable.code else DoorRefused
            raise kind(answer.message)
    except BaseException as error:
        if writer is not None:
            writer.transport.abort()
        if isinstance(error, OSError | TimeoutError | ValueError):
            raise PoolClosed(f"the pool of database {database} does not answer on this node") from error
        raise
    return reader, writer


async def _keep(doors: Path, database: str, request: DoorRequest, hold: _Hold) -> None:
    """Ask again whenever the pool was restarted: clients inside then find a door of the same name."""
    while True:
        reader, writer = hold
        try:
            with contextlib.suppress(OSError):
                await reader.read()
        except asyncio.CancelledError:
            # It hangs up when the door is shut: then every client was told, and holds no connection.
            with contextlib.suppress(OSError, TimeoutError):
                writer.write_eof()
                async with asyncio.timeout(SHUT_TIMEOUT_S):
                    await reader.read()
            raise
        finally:
            writer.transport.abort()
        while True:
            await asyncio.sleep(AGAIN_S)
            with contextlib.suppress(WorkerError):
                hold = await _ask(doors, database, request)
                break
