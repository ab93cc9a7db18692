"""One sandbox in somebody's hands: what whoever runs a job in it may use, and nothing of how it is made or ended.

Made by `host.lease`, which destroys the sandbox when the lease is over. Everything in it belongs to one tenant.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from workers.sandbox.cgroup import CgroupUsage
from workers.sandbox.errors import UnknownSandbox
from workers.sandbox.limits import Limits
from workers.sandbox.sandboxes import Ended, Sandboxes
from workers.sandbox.session import Session
from workers.sandbox.starter import Live

NEWS_S = 0.5
"""The news that a sandbox has ended may come after the end of its session."""


class Lease:
    def __init__(self, live: Live, sandboxes: Sandboxes, tenant: str) -> None:
        self._live = live
        self._sandboxes = sandboxes
        self._ending: asyncio.Task[Ended] | None = None
        self.tenant = tenant

    @property
    def id(self) -> str:
        return self._live.id

    @property
    def image(self) -> str:
        """`name@digest`, in full."""
        return f"{self._live.sandbox.image.name}@{self._live.sandbox.image.digest}"

    @property
    def limits(self) -> Limits:
        return self._live.limits

    @property
    def session(self) -> Session:
        return self._live.session

    @property
    def inbox(self) -> Path:
        """A folder of the host that the sandbox sees at /in, read-only; what is put there appears at once.

        Make files readable for others (0644): inside runs another user.
        """
        return self._live.inbox

    @property
    def sockets(self) -> Path:
        """A folder of the host that the sandbox sees at /run/sandpool: sockets in it can be connected to."""
        return self._live.sockets

    async def usage(self) -> CgroupUsage:
        """What it has used so far, by the kernel's account."""
        return await self._sandboxes.usage(self.id)

    async def ended(self, wait_s: float = NEWS_S) -> Ended | None:
        """How it ended by itself; None while it lives. `out_of_memory` says whether its memory limit ended it."""
        try:
            code: int | None = await self._sandboxes.wait(self.id, wait_s)
        except TimeoutError:
            return None
        except UnknownSandbox:
            code = None
        return Ended(id=self.id, code=code, usage=await self.usage())

    def close_with(self, ending: asyncio.Task[Ended]) -> None:
        """For the host: the lease is over, and the sandbox is being destroyed."""
        self._ending = ending

    async def gone(self) -> Ended:
        """After the lease: when nothing of its sandbox is left, and what it has used."""
        if self._ending is None:
            raise UnknownSandbox("this lease is not over")
        return await asyncio.shield(self._ending)

    async def kill(self) -> None:
        """End everything inside now; what was asked of the session ends with RunnerLost."""
        await asyncio.to_thread(self._sandboxes.cgroups.kill, self.id)
