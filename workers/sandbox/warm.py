"""The warm snapshots of a host: found on disk, made in the background on first use, made again when they are no good.

Called by `host`. A snapshot belongs to one kind of sandbox (`kinds`), one machine (`SnapshotKey`) and one version of
the runner. It never waits for one: who needs a sandbox before there is a snapshot starts one cold.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable

import structlog

from sandpool.outcome import Ending
from workers.sandbox.errors import SandboxError, SnapshotUnusable
from workers.sandbox.image import Image
from workers.sandbox.kinds import PREFIX, Kind, is_stale, snapshot_name, template_limits
from workers.sandbox.sandboxes import Sandboxes
from workers.sandbox.snapshot import Snapshot
from workers.sandbox.starter import Starter, runner_digest

log = structlog.get_logger("sandpool.warm")

IMPORT_TIMEOUT_S = 120.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 300.0
"""After making a snapshot failed."""
CONTEXT = "warm"


class WarmSnapshots:
    def __init__(self, sandboxes: Sandboxes, starter: Starter, cpus: float, ready: Callable[[Kind], None]) -> None:
        """`ready` is told when a kind has got its snapshot."""
        self._sandboxes = sandboxes
        self._starter = starter
        self._cpus = cpus
        self._ready = ready
        self._runner = ""
        self._found: dict[Kind, Snapshot] = {}
        self._making: dict[Kind, asyncio.Task[None]] = {}
        self._failures: dict[Kind, tuple[int, float]] = {}

    async def open(self, most: int) -> None:
        """Remove what was made with another runner, and all but the `most` used last."""
        self._runner = await asyncio.to_thread(runner_digest)
        await asyncio.to_thread(self._sweep, most)

    async def close(self) -> None:
        tasks = list(self._making.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def has(self, kind: Kind) -> bool:
        return kind in self._found

    async def find(self, kind: Kind, image: Image) -> Snapshot | None:
        """The snapshot of this kind, where there is one that can be used."""
        if kind in self._found:
            return self._found[kind]
        name = await self._name(kind, image)
        try:
            key = await self._sandboxes.key(image)
            snapshot = await asyncio.to_thread(self._sandboxes.snapshots.load, name, usable_as=key)
        except SnapshotUnusable as error:
            await self.spoil(kind, image, error)
            return None
        if snapshot is not None:
            await asyncio.to_thread(os.utime, snapshot.folder)  # used now: what is used last stays longest
            self._found[kind] = snapshot
            self._ready(kind)
        return snapshot

    def begin(self, kind: Kind, image: Image) -> None:
        """Have it made, unless that is under way, or failed a short while ago."""
        _, not_before_s = self._failures.get(kind, (0, 0.0))
        if kind in self._found or kind in self._making or time.monotonic() < not_before_s:
            return
        task = asyncio.create_task(self._make(kind, image), name=f"snapshot of {image.ref}")
        self._making[kind] = task
        task.add_done_callback(lambda _task: self._making.pop(kind, None))

    async def spoil(self, kind: Kind, image: Image, error: SandboxError) -> None:
        """It does not restore: remove it. The next one that starts cold has it made again."""
        log.warning("a warm snapshot is unusable", image=image.ref, error=str(error), detail=error.detail)
        self._found.pop(kind, None)
        self._count_failure(kind)
        with contextlib.suppress(SandboxError):
            await asyncio.to_thread(self._sandboxes.snapshots.delete, await self._name(kind, image))

    async def drop(self, kind: Kind) -> None:
        """Nobody uses this kind any more: free its disk."""
        snapshot = self._found.pop(kind, None)
        self._failures.pop(kind, None)
        if snapshot is not None:
            await asyncio.to_thread(self._sandboxes.snapshots.delete, snapshot.name)

    async def _make(self, kind: Kind, image: Image) -> None:
        started_s = time.monotonic()
        try:
            self._found[kind] = snapshot = await self._save_template(kind, image)
        except SandboxError as error:
            self._count_failure(kind)
            log.warning("no warm snapshot", image=image.ref, error=str(error), detail=error.detail)
            return
        self._failures.pop(kind, None)
        took_s = round(time.monotonic() - started_s, 3)
        log.info("warm snapshot", image=image.ref, size_bytes=snapshot.size_bytes, took_s=took_s)
        self._ready(kind)

    async def _save_template(self, kind: Kind, image: Image) -> Snapshot:
        """Boot one, import what the image names, save it. Nobody else ever sees that sandbox."""
        live = await self._starter.cold(image, template_limits(image, kind, self._cpus))
        try:
            if image.warm_imports:
                code = "\n".join(f"import {module}" for module in image.warm_imports)
                imported = await live.session.run_code(code, context=CONTEXT, timeout_s=IMPORT_TIMEOUT_S)
                if imported.ending is not Ending.Succeeded:  # such an image starts slowly, but it starts
                    said = imported.stderr.decode(errors="replace")[-500:] or str(imported.error)
                    log.warning("an import failed before the snapshot", image=image.ref, said=said)
                await live.session.forget(CONTEXT)
            await live.session.release()
            return await self._sandboxes.snapshot(live.id, await self._name(kind, image))
        finally:
            self._starter.end(live)

    def _sweep(self, most: int) -> None:
        kept = 0
        for name in self._sandboxes.snapshots.names(newest_first=True):
            if name.startswith(PREFIX):
                kept += not is_stale(name, self._runner)
                if is_stale(name, self._runner) or kept > most:
                    self._sandboxes.snapshots.delete(name)

    async def _name(self, kind: Kind, image: Image) -> str:
        return snapshot_name(self._runner, (await self._sandboxes.key(image)).digest(), kind)

    def _count_failure(self, kind: Kind) -> None:
        count = self._failures.get(kind, (0, 0.0))[0] + 1
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (count - 1))
        self._failures[kind] = (count, time.monotonic() + pause_s)
