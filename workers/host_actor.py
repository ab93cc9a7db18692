"""The thin shell around a host and its desk that Ray makes an actor of: one per node. No decision is made here.

`cluster.dispatch_hosts` names it, places it and gives it restarts; Ray itself is not imported here. Tasks and attempts
cross as JSON and msgpack. After a restart the host sweeps up what the process before it left, at the first call.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec

from workers.images.store import ImageStore
from workers.lifeline import Lifeline
from workers.mailboxes import Mailboxes
from workers.sandbox.errors import SandboxingUnavailable
from workers.sandbox.host import Host
from workers.sandbox.hosting import HostSpec, HostStatus
from workers.sandbox.jobs.desk import Desk
from workers.sandbox.readiness import sized, why_not
from workers.sandbox.requests import Requests
from workers.sandbox.tail import Heard
from workers.sandbox.task import SandboxTask, decode_task
from workers.volumes.spec import VolumeSpec
from workers.volumes.store import open_volume

CLOSE_DEADLINE_S = 10.0
DISK_STEP_BYTES = 64 << 20
MOST_HELD = 512
"""Tasks running or ended but not collected; each may hold some hundred kB of text."""


class HostActor:
    """Holds one Host, its Desk, and a mailbox for each scheduler. Every method raises workers.errors only."""

    def __init__(self, spec: HostSpec, volumes: Mapping[str, VolumeSpec], *, own_process: bool = False) -> None:
        """`own_process`: nothing else lives in this process, which may end itself with its node. Silence ends no host:
        sandboxes that people keep go on while a scheduler is away."""
        self._spec = spec
        self._volumes = dict(volumes)
        # Opened by `start`, not here: an actor whose constructor fails is dead for good.
        self._host: Host | None = None
        self._desk: Desk | None = None
        self._requests: Requests | None = None
        self._mailboxes: Mailboxes[SandboxTask] | None = None
        self._starting = asyncio.Lock()
        self._lifeline = Lifeline() if own_process else None

    async def start(self) -> None:
        """Open the host; done already where it succeeded before. Raises SandboxingUnavailable and others."""
        async with self._starting:
            if self._mailboxes is not None:
                return
            if reason := await asyncio.to_thread(why_not):
                raise SandboxingUnavailable(reason)
            volumes = await asyncio.to_thread(lambda: {n: open_volume(v) for n, v in self._volumes.items()})
            host = Host(sized(self._spec), ImageStore(Path(self._spec.images)))
            await host.open()
            self._host, self._desk = host, Desk(host, volumes, Path(self._spec.doors))
            retention_s = {name: spec.retention_s for name, spec in self._volumes.items()}
            self._requests = Requests(host.kept, volumes, retention_s)
            self._mailboxes = Mailboxes(decode_task, self._desk.run, max_held=MOST_HELD)

    async def listen(self, *, scheduler: str = "") -> str:
        """See Streams.listen: for a scheduler on this node."""
        return await (await self._open()).streams_of(scheduler).listen()

    async def submit(self, tasks: list[bytes], *, scheduler: str = "") -> None:
        """Start these tasks and return at once."""
        (await self._open()).of(scheduler).submit(tasks)

    async def collect(
        self, timeout_s: float, epoch: str = "", received: int = 0, linger_s: float = 0.0, *, scheduler: str = ""
    ) -> tuple[str, int, list[bytes]]:
        """See Mailbox.collect."""
        return await (await self._open()).of(scheduler).collect(timeout_s, epoch, received, linger_s)

    async def cancel(self, job_id: str, tenant: str | None = None) -> bool:
        """See Desk.cancel."""
        return self._desk is not None and await self._desk.cancel(job_id, tenant)

    async def hear(self, job_id: str, tenant: str, stdout_from: int, stderr_from: int) -> bytes:
        """See Desk.hear; a Heard as msgpack."""
        heard = await self._desk.hear(job_id, tenant, stdout_from, stderr_from) if self._desk else Heard()
        return msgspec.msgpack.encode(heard)

    async def kept(self, tenant: str, request: bytes) -> bytes:
        """One request about the tenant's kept sandboxes, and its answer: see `workers.sandbox.requests`."""
        await self._open()
        assert self._requests is not None
        return await self._requests.answer(tenant, request)

    async def status(self) -> bytes:
        """The HostStatus as msgpack. Raises as `start`."""
        await self._open()
        assert self._host is not None
        status: HostStatus = self._host.view()
        free_bytes = await asyncio.to_thread(_free_bytes, self._spec.folder)
        return msgspec.msgpack.encode(msgspec.structs.replace(status, disk_free_bytes=free_bytes))

    async def drain(self, timeout_s: float) -> bool:
        """Take no more; True when everything has ended in time. Uncollected attempts stay to be collected."""
        return self._desk is None or await self._desk.drain(timeout_s)

    async def pause_kept(self, timeout_s: float) -> list[str]:
        """Save every kept sandbox for the host that comes after this one; why some could not be."""
        if self._host is None:
            return []
        try:
            async with asyncio.timeout(timeout_s):
                return await self._host.save_kept()
        except TimeoutError:
            return [f"not all could be saved within {timeout_s:g} s"]

    async def close(self) -> None:
        """Cancel what runs and end every sandbox."""
        if self._mailboxes is not None:
            await self._mailboxes.stop(CLOSE_DEADLINE_S)
        if self._host is not None:
            await self._host.close()

    async def _open(self) -> Mailboxes[SandboxTask]:
        if self._mailboxes is None:
            await self.start()
        assert self._mailboxes is not None
        return self._mailboxes


def _free_bytes(folder: str) -> int:
    """In steps, so that a host's status does not differ with every block; -1 where the disk does not say."""
    try:
        return shutil.disk_usage(folder).free // DISK_STEP_BYTES * DISK_STEP_BYTES
    except OSError:
        return -1
