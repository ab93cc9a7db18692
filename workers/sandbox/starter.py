"""Brings up sandboxes with their runner connected, sets their limits when they are handed out, and ends them.

Called by `host` and what belongs to it. Each sandbox sees three folders, all read-only: the runner's code, `in` (files
that the host puts there) and `sockets` (the runner's socket, and those of databases). The last two lie in the
sandbox's own folder, so they go with it. It never decides who gets a sandbox.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from workers.gpu.passage import GpuPassage
from workers.sandbox.bundle import Bind, Command, check_limits
from workers.sandbox.errors import RunnerAbsent, SandboxError, SpecInvalid
from workers.sandbox.image import Image
from workers.sandbox.kinds import Kind, kind_of
from workers.sandbox.limits import Limits
from workers.sandbox.listener import Listener
from workers.sandbox.replies import SessionLimits
from workers.sandbox.sandboxes import Ended, Sandbox, Sandboxes, new_sandbox_id, to_its_end
from workers.sandbox.session import Session
from workers.sandbox.snapshot import Snapshot

RUNNER = Path(__file__).resolve().parent / "runner"
START = Command(argv=("/usr/bin/python3", "-I", "/opt/sandpool"), env={"SANDPOOL_OUT": "/home/sandpool/out"})
CONNECT_S = 30.0
"""For the runner to connect once its sandbox is there; a busy machine is slow."""
Fill = Callable[[Path], None]
"""Puts files into the folder that a sandbox sees at /in. Blocking."""


@dataclass(kw_only=True)
class Live:
    """A sandbox and the session with its runner. `limits`: as they are enforced now."""

    sandbox: Sandbox
    session: Session
    limits: Limits

    @property
    def id(self) -> str:
        return self.sandbox.id

    @property
    def kind(self) -> Kind:
        return kind_of(self.sandbox.image, self.limits)

    @property
    def inbox(self) -> Path:
        return self.sandbox.folder / "in"

    @property
    def sockets(self) -> Path:
        return self.sandbox.folder / "sockets"


class Starter:
    def __init__(self, sandboxes: Sandboxes) -> None:
        self._sandboxes = sandboxes
        self._cleaning: set[asyncio.Task[Ended]] = set()

    async def cold(self, image: Image, limits: Limits, gpus: GpuPassage | None = None) -> Live:
        """A new sandbox, its runner started. Raises SandboxError; then nothing is left of it."""
        return await self._start(image, limits, None, gpus=gpus)

    async def restored(
        self,
        snapshot: Snapshot,
        image: Image,
        limits: Limits,
        *,
        sandbox_id: str | None = None,
        fill: Fill | None = None,
    ) -> Live:
        """A copy of a saved sandbox, reseeded. `fill`: with what it has open. Raises SandboxError; then nothing is left
        of it."""
        return await self._start(image, limits, snapshot, sandbox_id=sandbox_id, fill=fill)

    async def reconnect(self, live: Live) -> None:
        """A new session with a runner that was released."""
        live.session = await self._meet(live.sandbox.id, Listener(live.sockets))
        live.session.set_limits(session_limits(live.limits))

    async def hand_out(self, live: Live, limits: Limits) -> None:
        """Enforce these limits from now on. Raises SpecInvalid where the sandbox cannot be within them."""
        check_limits(live.sandbox.image, limits)
        live.session.set_limits(session_limits(limits))
        if limits != live.limits:
            await asyncio.to_thread(self._set_limits, live, limits)
            live.limits = limits

    def end(self, live: Live) -> asyncio.Task[Ended]:
        """Destroy it, whoever is cancelled meanwhile. Await the task, or leave it to `close`."""
        task = asyncio.create_task(self._clean(live), name=f"end {live.id}")
        self._cleaning.add(task)
        task.add_done_callback(self._cleaning.discard)
        return task

    async def close(self) -> None:
        """Until every sandbox that was to end has ended."""
        while self._cleaning:
            await asyncio.wait(self._cleaning)

    async def _clean(self, live: Live) -> Ended:
        await live.session.close()
        return await self._sandboxes.destroy(live.id)

    async def _start(
        self,
        image: Image,
        limits: Limits,
        snapshot: Snapshot | None,
        *,
        gpus: GpuPassage | None = None,
        sandbox_id: str | None = None,
        fill: Fill | None = None,
    ) -> Live:
        sandbox_id = sandbox_id or new_sandbox_id()
        folder = self._sandboxes.folder_of(sandbox_id)
        listener = Listener(folder / "sockets")
        mounts = [
            Bind(source=RUNNER, target="/opt/sandpool"),
            Bind(source=folder / "in", target="/in"),
            Bind(source=folder / "sockets", target="/run/sandpool"),
        ]
        try:
            await asyncio.to_thread(_make_folders, folder, fill)
            await listener.open()
            if snapshot is None:
                sandbox = await self._sandboxes.create(
                    image, limits, START, mounts=mounts, sandbox_id=sandbox_id, gpus=gpus
                )
            else:
                sandbox = await self._sandboxes.restore(
                    snapshot, image, limits=limits, mounts=mounts, sandbox_id=sandbox_id
                )
            session = await self._meet(sandbox_id, listener)
        except BaseException:
            listener.close()
            await to_its_end(self._undo(sandbox_id, folder))
            raise
        session.set_limits(session_limits(limits))
        return Live(sandbox=sandbox, session=session, limits=limits)

    async def _meet(self, sandbox_id: str, listener: Listener) -> Session:
        """The session with its runner. RunnerAbsent at once when the sandbox has ended instead."""
        meeting = asyncio.ensure_future(listener.accept(CONNECT_S))
        ending = asyncio.ensure_future(self._sandboxes.wait(sandbox_id, 2 * CONNECT_S))
        try:
            await asyncio.wait((meeting, ending), return_when=asyncio.FIRST_COMPLETED)
            if meeting.done():
                return meeting.result()
            hint = "the image needs Python 3.9 or newer as /usr/bin/python3, and memory for it"
            raise RunnerAbsent("the runner inside the sandbox did not start", hint=hint)
        finally:
            ending.cancel()
            meeting.cancel()
            await asyncio.wait((meeting, ending))

    async def _undo(self, sandbox_id: str, folder: Path) -> None:
        with contextlib.suppress(SandboxError):  # the first error is the one to tell
            await self._sandboxes.destroy(sandbox_id)
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def _set_limits(self, live: Live, limits: Limits) -> None:
        try:
            self._sandboxes.cgroups.set_limits(live.id, limits)
        except OSError as error:
            raise SpecInvalid(
                "limits.memory_bytes", f"image {live.sandbox.image.name} uses more than that when it starts"
            ) from error


def session_limits(limits: Limits) -> SessionLimits:
    """What a session holds a sandbox to. A call may name less time, never more."""
    return replace(SessionLimits(), output_bytes=limits.output_bytes, wall_s=limits.wall_s)


def runner_digest() -> str:
    """16 hex digits for the code of the runner: it is part of every snapshot. Blocking."""
    digest = hashlib.sha256()
    for file in sorted(RUNNER.glob("*.py")):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _make_folders(folder: Path, fill: Fill | None) -> None:
    folder.mkdir(mode=0o700)
    for name in ("in", "sockets"):
        (folder / name).mkdir(mode=0o755)
        (folder / name).chmod(0o755)  # whatever the umask is: those inside have another user
    if fill is not None:
        fill(folder / "in")
