"""The broker: serves a database's PostgreSQL protocol on Unix sockets, one for each identity, over few connections.

Owned by a pool's process: `serve` opens a door for one identity, `withdraw` shuts it and ends its sessions. It shares
the pool's lender, so that jobs and sessions together keep the database's budget. It holds the role's credential and
never shows it: what passes a door is statements that the policy allowed, and their results.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

from workers.doors import short_path
from workers.sql.broker.backend import Backend
from workers.sql.broker.costs import FORCED
from workers.sql.broker.door import Door, Limits, Services
from workers.sql.broker.rulings import CatalogShelf, Rulings
from workers.sql.broker.session import Session
from workers.sql.broker.trail import Trail
from workers.sql.judge import Judge
from workers.sql.lender import Lender
from workers.sql.line import Sort
from workers.sql.policy.catalog import Catalog
from workers.sql.policy.document import Policy
from workers.sql.spec import PoolSpec

SOCKET_NAME = ".s.PGSQL.5432"
TICK_S = 0.25
BACKLOG = 512
CLOSE_GRACE_S = 1.0
"""For last words to reach their clients."""


class Broker:
    """All doors to one database. One event loop."""

    def __init__(
        self,
        spec: PoolSpec,
        policy: Policy,
        judge: Judge,
        lender: Lender,
        read_catalog: Callable[[Policy], Awaitable[Catalog]],
        limits: Limits,
    ) -> None:
        self._policy = policy
        self._judge = judge
        self._lender = lender
        self._shelf = CatalogShelf(partial(read_catalog, policy))
        self._doors: dict[str, tuple[Door, asyncio.Server]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ticker: asyncio.Task[None] | None = None
        self._services = Services(
            database=spec.database,
            lender=lender,
            limits=limits,
            pinned={name.lower(): value for name, value in spec.wire_settings.items()},
            writes=spec.writes,
            recover=self._recover,
            max_cost=policy.max_cost,
            forced=FORCED if policy.max_cost is not None else {},
        )

    async def start(self) -> None:
        """Connect once and read the catalog. Raises DatabaseUnavailable, DatabaseRefusesRole."""
        loan = await self._lender.acquire("", self._services.limits.wait_s, Sort.Wire)
        assert isinstance(loan, Backend)
        self._services.parameters = loan.parameters
        self._lender.release(loan, Sort.Wire)
        await self._shelf.fresh(0.0)
        self._ticker = asyncio.get_running_loop().create_task(self._tick())

    async def serve(self, path: Path, tenant: str, trail: Trail, *, most_sessions: int = 0, mode: int = 0o600) -> None:
        """Open a door at `path` (.../.s.PGSQL.5432) for this tenant. Raises OSError."""
        services = self._services
        rulings = Rulings(
            self._judge, self._policy, self._shelf, tenant, writes=services.writes, database=services.database
        )
        door = Door(tenant, rulings, trail, most_sessions or services.limits.most_sessions)
        await asyncio.to_thread(path.unlink, missing_ok=True)
        loop = asyncio.get_running_loop()
        with short_path(path) as name:
            server = await loop.create_unix_server(lambda: Session(services, door), name, backlog=BACKLOG)
        await asyncio.to_thread(path.chmod, mode)
        self._doors[str(path)] = (door, server)

    async def withdraw(self, path: Path) -> None:
        """Shut this door: its sessions end at once, what they left open is rolled back."""
        door, server = self._doors.pop(str(path), (None, None))
        if door is None or server is None:
            return
        server.close()
        door.is_closing = True
        for session in [*door.sessions.values(), *door.arriving]:
            session.shut()
        await door.trail.flush(is_last=True)
        await asyncio.to_thread(path.unlink, missing_ok=True)

    async def drain(self, timeout_s: float) -> bool:
        """Let nobody in any more, end idle sessions, and wait for the others to end; True when all have in time."""
        until_s = monotonic() + timeout_s
        for door, server in self._doors.values():
            server.close()
            door.is_closing = True
        while True:
            sessions = [s for door, _ in self._doors.values() for s in (*door.sessions.values(), *door.arriving)]
            for session in sessions:
                if session.is_idle:
                    session.shut()
            if not sessions or monotonic() >= until_s:
                return not sessions
            await asyncio.sleep(TICK_S / 5)

    async def close(self) -> None:
        """Shut every door and give everything up."""
        for path in list(self._doors):
            await self.withdraw(Path(path))
        if self._ticker is not None:
            self._ticker.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_GRACE_S)

    def session_count(self) -> int:
        """Sessions that were let in."""
        return sum(len(door.sessions) for door, _ in self._doors.values())

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            now_s = monotonic()
            for door, _ in list(self._doors.values()):
                for session in [*door.sessions.values(), *door.arriving]:
                    session.tick(now_s)
                door.rulings.refresh()
                if door.trail.is_due:
                    self._own(door.trail.flush())

    def _recover(self, backend: Backend, is_copying: bool, is_unsynced: bool) -> None:
        """Its client is gone: end what it left, then lend the connection on."""
        backend.detach()
        if not is_copying and not is_unsynced and not backend.needs_recovery:
            self._lender.release(backend, Sort.Wire)
            return

        async def work() -> None:
            if await backend.recover(is_copying=is_copying, is_unsynced=is_unsynced):
                self._lender.release(backend, Sort.Wire)
            else:
                self._lender.discard(backend, Sort.Wire)

        self._own(work())

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
