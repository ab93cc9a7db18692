"""All sandboxes of one folder on one machine: created, restored, snapshotted, destroyed; nothing of them ever left
behind.

Called by the host, which decides when and for whom. Each sandbox has a folder of its own (config.json, its process
files) below `<folder>/run`, runsc's state lies in `<folder>/state`, snapshots in `<folder>/snapshots`. A lock makes
sure that one folder has one owner; what an earlier owner left is removed on `open`. It never talks to what runs
inside.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workers.gpu.passage import LIBRARIES_AT, RUNSC_FLAGS, GpuPassage
from workers.sandbox.bundle import Bind, Command, build_process, build_spec, check_sandbox_id
from workers.sandbox.cgroup import Cgroups, CgroupUsage
from workers.sandbox.errors import (
    ReaperLost,
    RunscFailed,
    RunscHung,
    SandboxError,
    SandboxingUnavailable,
    SnapshotUnusable,
    SpecInvalid,
    UnknownSandbox,
)
from workers.sandbox.image import Image
from workers.sandbox.invocation import Finished, Launch, RunscSpec
from workers.sandbox.limits import Limits
from workers.sandbox.runsc import Runsc
from workers.sandbox.snapshot import Snapshot, SnapshotKey, SnapshotShelf, cpu_kind

Stdio = tuple[int | None, int | None, int | None]
"""Descriptors for the first process of a sandbox; None: /dev/null. See `invocation.Launch`."""
NO_STDIO: Stdio = (None, None, None)
CPUINFO = Path("/proc/cpuinfo")
GONE_TIMEOUT_S = 2.0
IDLE = Command(argv=("/bin/sh", "-c", "while :; do sleep 3600; done"))
"""A first process for sandboxes that only serve `execute`."""


def new_sandbox_id() -> str:
    """80 random bits: nobody guesses another tenant's sandbox."""
    return f"sb-{secrets.token_hex(10)}"


@dataclass(frozen=True, kw_only=True)
class Sandbox:
    """One sandbox that exists."""

    id: str
    image: Image
    limits: Limits
    mounts: tuple[Bind, ...]
    folder: Path
    gpus: GpuPassage | None = None


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What is known of a sandbox that is gone. `code` is None where it was ended by `destroy`."""

    id: str
    code: int | None
    usage: CgroupUsage

    @property
    def out_of_memory(self) -> bool:
        return self.usage.oom_kills > 0

    @property
    def lost(self) -> bool:
        """Ended from outside, not by what ran in it: nothing inside can kill the sandbox's own process."""
        return not self.out_of_memory and self.code in (None, -signal.SIGKILL)


class Sandboxes:
    def __init__(self, folder: Path, *, name: str = "local", spec: RunscSpec | None = None) -> None:
        """`folder`: absolute and short (sockets lie below it). `name` keeps the cgroups of several hosts apart."""
        self.folder = folder
        self.runsc = Runsc(spec or RunscSpec(folder=folder / "state"))
        self.cgroups = Cgroups(name)
        self.snapshots = SnapshotShelf(folder / "snapshots")
        self._run = folder / "run"
        self._lock = -1
        self._alive: dict[str, Sandbox] = {}
        self._cpu = ""

    async def open(self) -> list[str]:
        """Start; the ids of sandboxes that an earlier owner left and that are destroyed now."""
        self._lock = await asyncio.to_thread(self._take_folder)
        try:
            await asyncio.to_thread(self.cgroups.check)
            await self.runsc.start()
            await asyncio.to_thread(self.snapshots.sweep)
            return await self.reconcile()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """End every sandbox and let go of the folder. Snapshots stay."""
        # What cannot be destroyed now ends with the reaper, and is swept up by the next owner.
        await asyncio.gather(*(self.destroy(sandbox_id) for sandbox_id in list(self._alive)), return_exceptions=True)
        await self.runsc.close()
        await asyncio.to_thread(self.cgroups.close)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def ids(self) -> set[str]:
        return set(self._alive)

    def folder_of(self, sandbox_id: str) -> Path:
        """Its own folder, removed with it. Folders that only it has mounted belong below."""
        check_sandbox_id(sandbox_id)
        return self._run / sandbox_id

    async def create(
        self,
        image: Image,
        limits: Limits,
        command: Command = IDLE,
        *,
        mounts: Iterable[Bind] = (),
        stdio: Stdio = NO_STDIO,
        sandbox_id: str | None = None,
        gpus: GpuPassage | None = None,
    ) -> Sandbox:
        """A new sandbox, its command running.

        Raises SpecInvalid, RunscFailed, RunscHung; then nothing of it is left.
        """
        if gpus is not None:
            mounts = [*mounts, Bind(source=gpus.libraries, target=LIBRARIES_AT)]
        sandbox = replace(self._describe(image, limits, mounts, sandbox_id), gpus=gpus)
        spec = build_spec(image, limits, command, sandbox.mounts, self.cgroups.place(sandbox.id), gpus)
        async with self._undone_on_error(sandbox):
            await asyncio.to_thread(_write_bundle, sandbox.folder, spec)
            await self.runsc.run(sandbox.id, _launch(sandbox, stdio))
        return sandbox

    async def restore(
        self,
        snapshot: Snapshot,
        image: Image,
        *,
        limits: Limits | None = None,
        mounts: Iterable[Bind] = (),
        stdio: Stdio = NO_STDIO,
        sandbox_id: str | None = None,
    ) -> Sandbox:
        """A new sandbox that goes on where the snapshot was taken; as many from one snapshot as wanted.

        `limits` None: those of the snapshot. Other limits hold for memory, CPU and host processes only: sizes of file
        systems and resource limits inside are part of what was saved. Raises SnapshotUnusable, RunscFailed, RunscHung.
        """
        differences = snapshot.meta.key.differs_in(await self.key(image))
        if differences:
            raise SnapshotUnusable(
                f"the snapshot was made for another {' and '.join(differences)}", hint="make a new one"
            )
        limits = limits or Limits.from_dict(dict(snapshot.meta.limits))
        sandbox = self._describe(image, limits, mounts, sandbox_id)
        missing = set(snapshot.meta.mounts) - {bind.target for bind in sandbox.mounts}
        if missing:
            raise SpecInvalid("mounts", f"the snapshot had something mounted at {', '.join(sorted(missing))}")
        spec = build_spec(image, limits, IDLE, sandbox.mounts, self.cgroups.place(sandbox.id))
        async with self._undone_on_error(sandbox):
            await asyncio.to_thread(_write_bundle, sandbox.folder, spec)
            await self.runsc.restore(sandbox.id, _launch(sandbox, stdio), snapshot.folder)
        return sandbox

    async def fork(self, snapshot: Snapshot, image: Image, mounts: Sequence[Iterable[Bind]]) -> list[Sandbox]:
        """One new sandbox per entry of `mounts`, all from one snapshot; all of them or, on an error, none."""
        tasks = [asyncio.ensure_future(self.restore(snapshot, image, mounts=own)) for own in mounts]
        try:
            return list(await asyncio.gather(*tasks))
        except BaseException:
            for task in tasks:
                if not task.cancelling():  # a second cancellation would break off what the first one cleans up
                    task.cancel()
            made = await asyncio.gather(*tasks, return_exceptions=True)
            doomed = (self.destroy(sandbox.id) for sandbox in made if isinstance(sandbox, Sandbox))
            await asyncio.gather(*doomed, return_exceptions=True)
            raise

    async def snapshot(
        self, sandbox_id: str, name: str, *, leave_running: bool = True, note: dict[str, Any] | None = None
    ) -> Snapshot:
        """Save the sandbox under `name`. Without `leave_running` it is destroyed once it is saved (that is a pause).

        Raises SnapshotSpaceExhausted and CheckpointRefused; the sandbox goes on then.
        """
        sandbox = self._find(sandbox_id)
        if sandbox.gpus is not None:
            raise SpecInvalid("gpus", "a sandbox with a GPU cannot be saved: what is on the GPU would be lost")
        key = await self.key(sandbox.image)
        # Few hops to other threads: on a busy machine each costs a turn of the scheduler while the sandbox is held.
        draft = await asyncio.to_thread(self._draft, sandbox_id)
        # What runs on between checkpoint and end would be done again after the restore. Without a writable mount nobody
        # can see that, and holding the sandbox costs 25 ms.
        hold = not leave_running and any(bind.writable for bind in sandbox.mounts)
        try:
            if hold:
                await self.runsc.pause(sandbox_id)
            # Left running even when it is to end: a checkpoint that fails half-way would take the sandbox with it.
            await self.runsc.checkpoint(sandbox_id, draft, leave_running=True)
            mounts = tuple(bind.target for bind in sandbox.mounts)
            limits = sandbox.limits.as_dict()
            kept = await asyncio.to_thread(
                self.snapshots.keep, draft, name, key=key, limits=limits, mounts=mounts, note=note
            )
        except BaseException:
            if hold:
                with contextlib.suppress(SandboxError):
                    await self.runsc.resume(sandbox_id)
            await asyncio.to_thread(self.snapshots.discard, draft)
            raise
        if not leave_running:
            await self.destroy(sandbox_id)
        return kept

    async def execute(
        self, sandbox_id: str, command: Command, *, stdin: bytes = b"", timeout_s: float | None = None
    ) -> Finished:
        """Run one more command inside until it ends; its output together at most the limits' `output_bytes`."""
        sandbox = self._find(sandbox_id)
        process = sandbox.folder / f"process-{secrets.token_hex(6)}.json"
        content = json.dumps(build_process(sandbox.image, sandbox.limits, command, sandbox.gpus)).encode()
        await asyncio.to_thread(process.write_bytes, content)
        limits = sandbox.limits
        try:
            wall_s = min(timeout_s or limits.wall_s, limits.wall_s)
            return await self.runsc.execute(
                sandbox_id, process, stdin=stdin, timeout_s=wall_s, output_bytes=limits.output_bytes
            )
        finally:
            await asyncio.to_thread(_remove, process, process.with_suffix(".pid"))

    async def wait(self, sandbox_id: str, timeout_s: float) -> int:
        """Exit code of the sandbox's first process once it has ended by itself. TimeoutError when it is late."""
        self._find(sandbox_id)
        return await self.runsc.wait(sandbox_id, timeout_s)

    async def usage(self, sandbox_id: str) -> CgroupUsage:
        """What it has used so far."""
        return await asyncio.to_thread(self.cgroups.usage, sandbox_id)

    async def destroy(self, sandbox_id: str) -> Ended:
        """End it, whatever it does. Returns when no process, cgroup, mount or file of it is left."""
        check_sandbox_id(sandbox_id)
        self._alive.pop(sandbox_id, None)
        code = self.runsc.exit_code(sandbox_id)
        usage = await asyncio.to_thread(self._kill, sandbox_id)
        with contextlib.suppress(TimeoutError, UnknownSandbox):
            await self.runsc.wait(sandbox_id, GONE_TIMEOUT_S)
        empty = await asyncio.to_thread(self.cgroups.wait_empty, sandbox_id)  # the gofer ends a moment after the sentry
        try:
            # One that came up and of which no process is left: its files are all that `runsc delete`, a process of
            # 40 ms, would still find. One that never came up may still be coming up: only runsc knows.
            if not (empty and self.runsc.exit_code(sandbox_id) is not None):
                await self.runsc.delete(sandbox_id)
        except (UnknownSandbox, ReaperLost):
            pass  # runsc never made it or cannot be asked: what is left of it goes below
        except (RunscFailed, RunscHung):
            # A process that cannot be killed softly: kill the whole group, then runsc has nothing left to wait for.
            await asyncio.to_thread(self.cgroups.clear, sandbox_id)
            with contextlib.suppress(RunscFailed, RunscHung, UnknownSandbox):
                await self.runsc.delete(sandbox_id)
        await asyncio.to_thread(self._clear, sandbox_id)
        return Ended(id=sandbox_id, code=code, usage=usage)

    async def recover(self) -> list[str]:
        """Start again after ReaperLost. Every sandbox of before is gone; the ids of those that had to be swept up."""
        self._alive.clear()
        await self.runsc.start()
        return await self.reconcile()

    async def reconcile(self) -> list[str]:
        """Destroy every sandbox that is on disk, in runsc's state or in a cgroup, but not ours; their ids."""
        found = {state.sandbox_id for state in await self.runsc.list_states()}
        found |= await asyncio.to_thread(self._on_disk)
        orphans = sorted(found - self.ids())
        for sandbox_id in orphans:
            await self.destroy(sandbox_id)
        return orphans

    async def key(self, image: Image) -> SnapshotKey:
        """Where snapshots of this image taken on this machine can be restored."""
        if not self._cpu:
            self._cpu = cpu_kind(await asyncio.to_thread(CPUINFO.read_text))
        return SnapshotKey(image=image.digest, runsc=self.runsc.version, platform=self.runsc.platform, cpu=self._cpu)

    def _draft(self, sandbox_id: str) -> Path:
        """Where a checkpoint of it goes that has room for all its memory."""
        return self.snapshots.draft(self.cgroups.usage(sandbox_id).memory_bytes)

    def _describe(self, image: Image, limits: Limits, mounts: Iterable[Bind], sandbox_id: str | None) -> Sandbox:
        sandbox_id = sandbox_id or new_sandbox_id()
        check_sandbox_id(sandbox_id)
        if sandbox_id in self._alive:
            raise SpecInvalid("id", f"there is a sandbox {sandbox_id} already")
        return Sandbox(
            id=sandbox_id, image=image, limits=limits, mounts=tuple(mounts), folder=self.folder_of(sandbox_id)
        )

    def _find(self, sandbox_id: str) -> Sandbox:
        if sandbox_id not in self._alive:
            raise UnknownSandbox(f"no sandbox {sandbox_id} on this host")
        return self._alive[sandbox_id]

    @contextlib.asynccontextmanager
    async def _undone_on_error(self, sandbox: Sandbox) -> AsyncIterator[None]:
        """Ours from before it exists, so that `reconcile` leaves it alone.

        Destroyed when the body fails or is cancelled.
        """
        self._alive[sandbox.id] = sandbox
        try:
            yield
        except BaseException as error:
            with contextlib.suppress(SandboxError):  # the first error is the one to tell
                await to_its_end(self.destroy(sandbox.id))
            if isinstance(error, OSError):  # no room for its folder, for example
                raise RunscFailed("prepare", 0, str(error)) from error
            raise

    def _on_disk(self) -> set[str]:
        return self.cgroups.leftovers() | {entry.name for entry in self._run.iterdir()}

    def _kill(self, sandbox_id: str) -> CgroupUsage:
        """Here and not by runsc, which looks only every 100 ms whether the sandbox is gone."""
        usage = self.cgroups.usage(sandbox_id)
        self.cgroups.kill(sandbox_id)
        return usage

    def _clear(self, sandbox_id: str) -> None:
        self.cgroups.clear(sandbox_id)
        self.runsc.purge(sandbox_id)
        shutil.rmtree(self._run / sandbox_id, ignore_errors=True)

    def _take_folder(self) -> int:
        self._run.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise SandboxingUnavailable(
                "another process owns the sandboxes of this folder", hint="stop it, or use a folder of your own"
            ) from error
        return lock


async def to_its_end(cleaning: Coroutine[Any, Any, object]) -> None:
    """Whoever is cancelled while cleaning up still cleans up, and is cancelled then. Each step needs a deadline."""
    task = asyncio.ensure_future(cleaning)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        task.exception()  # seen; the cancellation is what counts
        raise cancelled
    task.result()


def _launch(sandbox: Sandbox, stdio: Stdio) -> Launch:
    read_only = tuple(bind.source for bind in sandbox.mounts if not bind.writable)
    stdin, stdout, stderr = stdio
    flags = RUNSC_FLAGS if sandbox.gpus else ()
    return Launch(bundle=sandbox.folder, read_only=read_only, flags=flags, stdin=stdin, stdout=stdout, stderr=stderr)


def _write_bundle(folder: Path, spec: dict[str, Any]) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)  # its owner may have put there what it mounts
    (folder / "config.json").write_text(json.dumps(spec))


def _remove(*files: Path) -> None:
    for file in files:
        file.unlink(missing_ok=True)
