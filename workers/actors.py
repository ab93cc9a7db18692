"""The thin shell around a pool that Ray makes an actor of: one per (node, database). No decision is made here.

`cluster.dispatch` names it, places it and gives it restarts; Ray itself is not imported here. Statements and attempts
cross as msgpack, ten times cheaper than pickles. After a restart the actor connects and checks its role again at the
first call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec

from workers.attempt import Statement, decode_statement
from workers.lifeline import SILENCE_S, Lifeline
from workers.mailboxes import Mailboxes
from workers.sql.broker.reception import Reception
from workers.sql.pool import Pool, PoolSpec, PoolStatus
from workers.volumes.spec import VolumeSpec
from workers.volumes.store import Volume, open_volume

CLOSE_DEADLINE_S = 10.0


class PoolActor:
    """Holds one Pool, and a mailbox for each scheduler. Every method raises workers.errors only."""

    def __init__(self, spec: PoolSpec, volumes: Mapping[str, VolumeSpec], *, own_process: bool = False) -> None:
        """`own_process`: nothing else lives in this process, which may end itself when nobody reaches it any more."""
        self._spec = spec
        self._volumes = dict(volumes)
        self._opened: dict[str, Volume] = {}
        # Opened by `start`, not here: an actor whose constructor fails is dead for good, a volume may come back.
        self._pool: Pool | None = None
        self._reception: Reception | None = None
        self._mailboxes: Mailboxes[Statement] | None = None
        self._starting = asyncio.Lock()
        self._lifeline = Lifeline(longest_s=SILENCE_S, open_to=self._has_company) if own_process else None

    async def start(self) -> None:
        """Connect and check the role; done already where it succeeded before. Raises the pool's typed errors."""
        async with self._starting:
            if self._pool is None:
                # In a thread: it looks at folders, which may lie on a file server.
                self._opened = await asyncio.to_thread(lambda: {n: open_volume(v) for n, v in self._volumes.items()})
                self._pool = Pool(self._spec, self._opened)
            if self._mailboxes is None:
                await self._pool.start()
                self._reception = Reception(self._pool, self._spec, self._opened)
                await self._reception.start()
                self._mailboxes = Mailboxes(decode_statement, self._pool.run)

    async def listen(self, *, scheduler: str = "") -> str:
        """See Streams.listen: for a scheduler on this node."""
        return await (await self._open()).streams_of(scheduler).listen()

    async def submit(self, statements: list[bytes], *, scheduler: str = "") -> None:
        """Start these statements and return at once."""
        (await self._open()).of(scheduler).submit(statements)

    async def collect(
        self, timeout_s: float, epoch: str = "", received: int = 0, linger_s: float = 0.0, *, scheduler: str = ""
    ) -> tuple[str, int, list[bytes]]:
        """See Mailbox.collect."""
        return await (await self._open()).of(scheduler).collect(timeout_s, epoch, received, linger_s)

    async def cancel(self, job_id: str, tenant: str | None = None) -> bool:
        """See Pool.cancel."""
        return self._pool is not None and await self._pool.cancel(job_id, tenant)

    async def set_budget(self, budget: int) -> None:
        """See Pool.set_budget. Kept for a pool that is not open yet."""
        self._spec = msgspec.structs.replace(self._spec, budget=budget)
        if self._pool is not None:
            self._pool.set_budget(budget)

    async def catalog(self) -> bytes:
        """The database's Catalog as msgpack."""
        self._heard()
        await self._open()
        assert self._pool is not None
        return msgspec.msgpack.encode(await self._pool.catalog())

    async def status(self) -> bytes:
        """The PoolStatus as msgpack."""
        self._heard()
        new = PoolStatus(self._spec.database, "new", 0, 0, 0, 0, self._spec.budget)
        return msgspec.msgpack.encode(self._pool.status() if self._pool else new)

    async def drain(self, timeout_s: float) -> bool:
        """Take no more; True when everything has ended in time. Uncollected attempts stay to be collected."""
        if self._reception is not None:
            await self._reception.lock()
        return self._pool is None or await self._pool.drain(timeout_s)

    async def close(self) -> None:
        """Cancel what runs and disconnect."""
        if self._mailboxes is not None:
            await self._mailboxes.stop(CLOSE_DEADLINE_S)
        if self._reception is not None:
            await self._reception.close()
        if self._pool is not None:
            await self._pool.close()

    async def _open(self) -> Mailboxes[Statement]:
        self._heard()
        if self._mailboxes is None:
            await self.start()
        assert self._mailboxes is not None
        return self._mailboxes

    def _heard(self) -> None:
        if self._lifeline is not None:
            self._lifeline.heard()

    def _has_company(self) -> bool:
        """A scheduler is connected; or nothing is held of which somebody would have to let go."""
        return self._mailboxes is None or self._mailboxes.connected
