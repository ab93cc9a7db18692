"""The thin shell around a pool that Ray makes an actor of: one per (node, database). No decision is made here.

`cluster.dispatch` names it, places it and gives it restarts; Ray itself is not imported here. Statements and attempts
cross as msgpack, ten times cheaper than pickles. After a restart the actor connects and checks its role again at the
first call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec

from workers.mailbox import Mailbox
from workers.sql.pool import Pool, PoolSpec
from workers.volumes.spec import VolumeSpec
from workers.volumes.store import open_volume

CLOSE_DEADLINE_S = 10.0


class PoolActor:
    """Holds one Pool and its Mailbox. Every method raises workers.errors only."""

    def __init__(self, spec: PoolSpec, volumes: Mapping[str, VolumeSpec]) -> None:
        self._pool = Pool(spec, {name: open_volume(volume) for name, volume in volumes.items()})
        self._mailbox: Mailbox | None = None
        self._starting = asyncio.Lock()

    async def start(self) -> None:
        """Connect and check the role; done already where it succeeded before. Raises the pool's typed errors."""
        async with self._starting:
            if self._mailbox is None:
                await self._pool.start()
                self._mailbox = Mailbox(self._pool.run)

    async def submit(self, statements: list[bytes]) -> None:
        """Start these statements and return at once."""
        (await self._open()).submit(statements)

    async def collect(
        self, timeout_s: float, epoch: str = "", received: int = 0, linger_s: float = 0.0
    ) -> tuple[str, int, list[bytes]]:
        """See Mailbox.collect."""
        return await (await self._open()).collect(timeout_s, epoch, received, linger_s)

    async def cancel(self, job_id: str, tenant: str | None = None) -> bool:
        """See Pool.cancel."""
        return await self._pool.cancel(job_id, tenant)

    async def catalog(self) -> bytes:
        """The database's Catalog as msgpack."""
        await self._open()
        return msgspec.msgpack.encode(await self._pool.catalog())

    async def status(self) -> bytes:
        """The PoolStatus as msgpack."""
        return msgspec.msgpack.encode(self._pool.status())

    async def drain(self, timeout_s: float) -> bool:
        """Take no more; True when everything has ended in time. Uncollected attempts stay to be collected."""
        return await self._pool.drain(timeout_s)

    async def close(self) -> None:
        """Cancel what runs and disconnect."""
        if self._mailbox is not None:
            await self._mailbox.stop(CLOSE_DEADLINE_S)
        await self._pool.close()

    async def _open(self) -> Mailbox:
        if self._mailbox is None:
            await self.start()
        assert self._mailbox is not None
        return self._mailbox
