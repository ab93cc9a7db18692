"""Opens doors for the sandboxes of this node: the answering side of `workers.doors`, in the pool's process.

Owned by whoever owns the pool (`workers.actors`, `cluster.embedded`). The broker and its parser process start with the
first request: a pool that only serves jobs pays for neither. Whoever can connect to the control socket is trusted: it
lies in a folder of our own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from workers.doors import MOST_BYTES, DoorAnswer, DoorRequest, control_path, short_path
from workers.errors import ConfigurationError, WorkerError
from workers.sql.broker.broker import SOCKET_NAME, Broker
from workers.sql.broker.door import Limits
from workers.sql.broker.trail import Trail
from workers.sql.judge import Judge
from workers.sql.lender import Lender
from workers.sql.policy.catalog import Catalog
from workers.sql.policy.document import Policy
from workers.sql.spec import PoolSpec
from workers.volumes.keys import audit_key
from workers.volumes.store import Volume

ASK_S = 10.0
"""For a request to arrive whole."""
SOCKET_MODE = 0o666
"""The code inside is another user; only root can enter the folder above."""


class Source(Protocol):
    """What is needed of the pool."""

    @property
    def lender(self) -> Lender: ...
    async def catalog(self, policy: Policy | None = None) -> Catalog: ...


class Reception:
    """One pool's control socket, and the broker behind it."""

    def __init__(self, pool: Source, spec: PoolSpec, volumes: Mapping[str, Volume]) -> None:
        self._pool = pool
        self._spec = spec
        self._volumes = volumes
        self._judge: Judge | None = None
        self._broker: Broker | None = None
        self._starting = asyncio.Lock()
        self._server: asyncio.Server | None = None
        self._visits: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen, where this node has a host; a socket that a process before this one left is replaced."""
        if self._spec.session is None or not self._spec.session.doors:
            return
        path = control_path(Path(self._spec.session.doors), self._spec.database)
        await asyncio.to_thread(_make_way, path)
        with short_path(path) as name:
            self._server = await asyncio.start_unix_server(self._serve, name, limit=MOST_BYTES)

    async def lock(self) -> None:
        """Open no more doors, and leave no control socket behind; those that are open stay so."""
        if self._server is not None:
            self._server.close()
            self._server = None
            assert self._spec.session is not None
            path = control_path(Path(self._spec.session.doors), self._spec.database)
            await asyncio.to_thread(path.unlink, missing_ok=True)

    async def close(self) -> None:
        """Shut every door."""
        await self.lock()
        for visit in self._visits:
            visit.cancel()
        await asyncio.gather(*self._visits, return_exceptions=True)
        if self._broker is not None:
            await self._broker.close()
        if self._judge is not None:
            await self._judge.close()

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visit = asyncio.get_running_loop().create_task(self._visit(reader, writer))
        self._visits.add(visit)
        visit.add_done_callback(self._visits.discard)

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request; the door is open until the asker hangs up."""
        try:
            async with asyncio.timeout(ASK_S):
                request = msgspec.json.decode(await reader.readline(), type=DoorRequest)
            path = Path(request.folder) / SOCKET_NAME
            try:
                broker = await self._open()
                await broker.serve(path, request.tenant, self._trail(request), mode=SOCKET_MODE)
            except WorkerError as error:
                writer.write(msgspec.json.encode(DoorAnswer(error.code, error.message)) + b"\n")
                await writer.drain()
                return
            try:
                writer.write(msgspec.json.encode(DoorAnswer()) + b"\n")
                await reader.read()
            finally:
                await broker.withdraw(path)
        except (OSError, ValueError, TimeoutError):
            pass  # the asker is gone, or was none: it hears nothing
        finally:
            writer.transport.abort()

    async def _open(self) -> Broker:
        """Raises WorkerError."""
        async with self._starting:
            if self._broker is None:
                session = self._spec.session
                assert session is not None
                if self._judge is None:
                    judge = Judge()
                    await judge.start()
                    self._judge = judge
                policy = Policy.model_validate_json(session.policy)
                limits = Limits(statement_s=self._spec.session_statement_s, max_bytes=session.max_bytes)
                broker = Broker(self._spec, policy, self._judge, self._pool.lender, self._pool.catalog, limits)
                await broker.start()
                self._broker = broker
            return self._broker

    def _trail(self, request: DoorRequest) -> Trail:
        volume = self._volumes.get(request.volume)
        if volume is None:
            raise ConfigurationError(f"no volume {request.volume!r} is registered with this pool")
        name = f"{self._spec.database}-{request.attempt_id}"[:64]
        return Trail(
            lambda number, lines: volume.acreate(audit_key(request.tenant, request.job_id, name, number), lines)
        )


def _make_way(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
