"""Sandboxes that somebody keeps between calls: created, used, paused, resumed, snapshotted, forked, destroyed.

Called by the host's actor for `sandpool sandbox ...`. What may happen when is decided by `transitions`; each sandbox
makes one transition at a time, and every step of one has its deadline. Paused sandboxes and snapshots lie on disk with
their record (`records`) and survive the host's process; running ones end with it. Everything is asked for by tenant
and id: what belongs to somebody else is answered like what never was.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import msgspec
import structlog

from workers.errors import WorkerError
from workers.sandbox.archive import Archive
from workers.sandbox.births import Births, Born
from workers.sandbox.bundle import check_limits
from workers.sandbox.errors import SandboxError, SessionBusy, SnapshotUnusable, SpecInvalid
from workers.sandbox.image import Image
from workers.sandbox.interaction import Interaction, Terminal
from workers.sandbox.keeping import (
    DEFAULT_LIFETIME_S,
    Kept,
    KeptView,
    SavedView,
    Whose,
    check_span,
    end_of,
    new_record,
    unknown,
)
from workers.sandbox.kept_doors import KeptDoors
from workers.sandbox.kept_files import Brought, KeptFiles
from workers.sandbox.limits import Limits
from workers.sandbox.records import MAX_TENANT_CHARACTERS, PAUSED, SAVED, Record
from workers.sandbox.replies import Execution, OnOutput
from workers.sandbox.sandboxes import Ended, Sandboxes, to_its_end
from workers.sandbox.snapshot import Snapshot
from workers.sandbox.starter import Live
from workers.sandbox.transitions import IN_MEMORY, Event, State
from workers.volumes.store import Volume

log = structlog.get_logger("sandpool.kept")

MOST_FORKS = 64
NO_FILES = Brought()


class KeptSandboxes:
    def __init__(
        self,
        sandboxes: Sandboxes,
        births: Births,
        resolve: Callable[[str], Awaitable[Image]],
        most_on_disk: int,
        doors: KeptDoors,
        files: KeptFiles,
    ) -> None:
        """`resolve`: the image of a reference, which then stays on disk."""
        self._files = files
        self._doors = doors
        self._sandboxes = sandboxes
        self._births = births
        self._resolve = resolve
        self._archive = Archive(sandboxes.snapshots, most_on_disk)
        self._kept: dict[str, Kept] = {}

    async def open(self) -> None:
        """Find what earlier processes of this host have paused and saved."""
        for record, snapshot in await self._archive.open():
            with contextlib.suppress(WorkerError):  # its image may come back; until then it cannot be resumed
                await self._resolve(record.image)
            if record.use == PAUSED:
                kept = self._kept[record.id] = Kept(record, State.Paused)
                kept.disk_bytes = snapshot.size_bytes
        await self._files.open(self._kept)

    async def close(self) -> None:
        """What runs ends; what is on disk stays."""
        for kept in list(self._kept.values()):
            await self._doors.drop(kept.id)
            if kept.live is not None:
                self._let_go(kept)

    @property
    def _paused(self) -> int:
        return sum(kept.state is State.Paused for kept in self._kept.values())

    @property
    def on_disk(self) -> int:
        """Snapshots and paused sandboxes."""
        return self._archive.saved + self._paused

    def list_sandboxes(self, tenant: str) -> list[KeptView]:
        """The tenant's sandboxes, oldest first."""
        own = [kept.view() for kept in self._kept.values() if kept.record.tenant == tenant]
        return sorted(own, key=lambda view: (view.created_at_s, view.id))

    def list_snapshots(self, tenant: str) -> list[SavedView]:
        return self._archive.list_saved(tenant)

    def check_known(self, tenant: str, sandbox_id: str) -> None:
        """Raises UnknownSandbox."""
        self._find(tenant, sandbox_id)

    async def create(
        self,
        tenant: str,
        image: str = "base",
        limits: Limits | None = None,
        *,
        snapshot: str = "",
        lifetime_s: float | None = DEFAULT_LIFETIME_S,
        idle_s: float | None = None,
        databases: tuple[str, ...] = (),
        volume: str = "",
        files: Brought = NO_FILES,
    ) -> KeptView:
        """A new sandbox: of an image, or (`snapshot`: an id) going on where a snapshot was taken.

        `lifetime_s`: destroyed after so long, whatever it does; None: never. `idle_s`: paused when unused for so long.
        `databases`: those that it may reach, to which the asker checked the tenant's right; what it does there is
        recorded in `volume`. `files`: databases that it may have whole, alike.
        """
        if not 0 < len(tenant) <= MAX_TENANT_CHARACTERS:
            raise SpecInvalid("tenant", f"1 to {MAX_TENANT_CHARACTERS} characters")
        expires_at_s = end_of(lifetime_s)
        whose = Whose(tenant, expires_at_s, databases, volume, files.files)
        check_span("idle_s", idle_s)
        async with self._files.brought(files) as name:
            if snapshot:
                born = await self._from_snapshot(tenant, snapshot, name)
            else:
                found = await self._resolve(image)
                limits = limits or Limits().capped_by(found.ceiling)
                check_limits(found, limits)
                born = await self._births.new(found, limits, self._files.fill(name))
            (kept,) = await self._add(whose, [born], name)
        kept.keeps_until(expires_at_s, idle_s)
        return kept.view()

    async def _from_snapshot(self, tenant: str, snapshot: str, files: str) -> Born:
        record, saved = self._archive.find(tenant, snapshot)
        found = await self._resolve(record.image)
        try:
            (born,) = await self._births.copies(
                saved, found, Limits.from_dict(dict(record.limits)), 1, self._files.fill(files)
            )
        except SnapshotUnusable as error:
            hint = "where it had files of databases open, name those databases; else make a new one"
            raise SnapshotUnusable(error.message, hint=hint, detail=error.detail) from error
        return born

    async def run_code(
        self,
        tenant: str,
        sandbox_id: str,
        code: str,
        *,
        context: str = "main",
        timeout_s: float | None = None,
        on_output: OnOutput | None = None,
    ) -> Execution:
        """Run Python in it; a paused one is resumed first. See `Session.run_code`."""
        async with self._using(tenant, sandbox_id) as live:
            return await live.session.run_code(code, context=context, timeout_s=timeout_s, on_output=on_output)

    async def run_command(
        self,
        tenant: str,
        sandbox_id: str,
        argv: Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        timeout_s: float | None = None,
        on_output: OnOutput | None = None,
    ) -> Execution:
        """Run a program in it; a paused one is resumed first. See `Session.run_command`."""
        async with self._using(tenant, sandbox_id) as live:
            return await live.session.run_command(
                argv, cwd=cwd, env=env, stdin=stdin, timeout_s=timeout_s, on_output=on_output
            )

    @asynccontextmanager
    async def open_command(
        self,
        tenant: str,
        sandbox_id: str,
        argv: Sequence[str],
        *,
        pty: Terminal,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        on_output: OnOutput | None = None,
    ) -> AsyncIterator[Interaction]:
        """A program in a terminal, to interact with; a paused sandbox is resumed first. See `Session.open_command`."""
        async with (
            self._using(tenant, sandbox_id) as live,
            live.session.open_command(
                argv, cwd=cwd, env=env, pty=pty, timeout_s=timeout_s, on_output=on_output
            ) as command,
        ):
            yield command

    async def pause(self, tenant: str, sandbox_id: str) -> KeptView:
        """Save it to disk and free its memory. SessionBusy while something runs in it; when it cannot be saved (no
        room on disk, a connection that is held open) it goes on and the error says why."""
        kept = self._find(tenant, sandbox_id)
        async with kept.turn:
            if kept.state is State.Paused:
                return kept.view()
            await self._pause(kept)
        return kept.view()

    async def pause_all(self) -> list[str]:
        """Everybody's, for this host is about to end; why some could not be: they end with it."""
        pauses = (self.pause(kept.record.tenant, kept.id) for kept in self._kept.values())
        ended = await asyncio.gather(*pauses, return_exceptions=True)
        return [f"{error}" for error in ended if isinstance(error, BaseException)]

    async def resume(self, tenant: str, sandbox_id: str) -> KeptView:
        """Have it go on; one that runs already does. HostFull when there is no room now: it stays paused."""
        kept = self._find(tenant, sandbox_id)
        async with kept.turn:
            await self._resume(kept)
        return kept.view()

    async def snapshot(self, tenant: str, sandbox_id: str, label: str = "") -> SavedView:
        """Save it as it is now and let it go on. `create(snapshot=ID)` starts from it as often as wanted."""
        if len(label) > 200:
            raise SpecInvalid("label", "at most 200 characters")
        kept = self._find(tenant, sandbox_id)
        self._archive.check_room(self._paused)
        record = msgspec.structs.replace(
            kept.record,
            use=SAVED,
            id=f"sn-{secrets.token_hex(10)}",
            label=label,
            created_at_s=time.time(),
            expires_at_s=None,
            idle_s=None,
            databases=(),
            volume="",
            files=(),
        )
        async with self._running(kept):
            saved = await self._save(kept, Event.Save, record.name, record)
        return self._archive.add(record, saved)

    async def fork(self, tenant: str, sandbox_id: str, count: int = 1) -> list[KeptView]:
        """So many copies of it as it is now, each going its own way; all of them or, on an error, none."""
        if not 1 <= count <= MOST_FORKS:
            raise SpecInvalid("count", f"1 to {MOST_FORKS}")
        kept = self._find(tenant, sandbox_id)
        image = await self._resolve(kept.record.image)
        own = kept.record
        expires_at_s, idle_s = own.expires_at_s, own.idle_s
        whose = Whose(tenant, expires_at_s, own.databases, own.volume, own.files)
        files = kept.id if own.files else ""
        fill = self._files.fill(files)
        async with kept.turn:
            if kept.state is State.Paused:
                kept.become(Event.Copy)
                source = await self._archive.load(kept.record)
                made = await self._add(whose, await self._births.copies(source, image, kept.limits, count, fill), files)
            else:
                self._check_free(kept)
                source = await self._save(kept, Event.Save, f"fork-{secrets.token_hex(10)}", None)
                try:
                    made = await self._add(
                        whose, await self._births.copies(source, image, kept.limits, count, fill), files
                    )
                finally:
                    await self._archive.delete(source.name)
        for copy in made:
            copy.keeps_until(expires_at_s, idle_s)
        return [copy.view() for copy in made]

    async def set_timeout(
        self, tenant: str, sandbox_id: str, lifetime_s: float | None, idle_s: float | None = None
    ) -> KeptView:
        """From now on: destroyed after `lifetime_s`, paused when unused for `idle_s`; None: never."""
        kept = self._find(tenant, sandbox_id)
        check_span("idle_s", idle_s)
        async with kept.turn:
            kept.keeps_until(end_of(lifetime_s), idle_s)
            kept.touch()
            if kept.state is State.Paused:
                await self._archive.note(kept.record)
        return kept.view()

    async def destroy(self, tenant: str, any_id: str) -> None:
        """End a sandbox, whatever it does, or delete a snapshot. Nothing of it is left."""
        if self._archive.has(any_id):
            await self._archive.remove(tenant, any_id)
            return
        kept = self._find(tenant, any_id)
        if kept.live is not None and kept.calls:
            await asyncio.to_thread(self._sandboxes.cgroups.kill, kept.id)  # what runs in it holds nobody up
        async with kept.turn:
            await self._destroy(kept, Event.Destroy)

    async def push(self, tenant: str, any_id: str, volume: Volume, retention_s: int | None = None) -> SavedView:
        """Send a snapshot, or what is saved of a paused sandbox, into a volume, where it is kept so long (None: until
        somebody removes it). It stays here too. VolumeError.

        Whoever can read the volume can read the tenant's memory as it was.
        """
        if self._archive.has(any_id):
            record, _ = self._archive.find(tenant, any_id)
            return await self._archive.send(record, volume, retention_s)
        kept = self._find(tenant, any_id)
        async with kept.turn:
            kept.become(Event.Copy)
            return await self._archive.send(kept.record, volume, retention_s)

    async def pull(self, tenant: str, any_id: str, volume: Volume) -> SavedView:
        """Take over what `push` sent from a host with the same kind of CPU, runsc and image: as a snapshot here."""
        if self._archive.has(any_id):
            return self._archive.view(tenant, any_id)
        self._archive.check_room(self._paused)
        record, manifest = await self._archive.look_up(tenant, any_id, volume)
        image = await self._resolve(record.image)
        return await self._archive.fetch(record, manifest, await self._sandboxes.key(image), volume)

    async def look_after(self) -> None:
        """Now and then: lifetimes end, idle ones are paused, those that ended by themselves are taken off."""
        now_s = time.monotonic()
        for kept in list(self._kept.values()):
            if kept.turn.locked():
                continue  # next time
            async with kept.turn:
                try:
                    if kept.is_over(now_s):
                        await self._destroy(kept, Event.Destroy)
                    elif kept.live is not None and self._sandboxes.runsc.has_ended(kept.id):
                        await self._destroy(kept, Event.Lost)
                    elif kept.is_idle(now_s):
                        await self._pause(kept)
                except SandboxError as error:
                    kept.touch()  # tried again when it was idle for as long once more
                    log.warning("upkeep of a kept sandbox", sandbox=kept.id, error=str(error))

    async def _add(self, whose: Whose, born: list[Born], files: str = "") -> list[Kept]:
        """With their files and their doors open; none of them where one cannot be opened."""
        new: list[Kept] = []
        for live, promise in born:
            image = live.sandbox.image
            record = new_record(live.id, whose, f"{image.name}@{image.digest}", live.limits)
            kept = self._kept[live.id] = Kept(record, State.Starting)
            kept.live, kept.promise = live, promise
            new.append(kept)
        try:
            for kept in new:
                assert kept.live is not None
                await self._files.give(files, kept.id)
                await self._doors.open(kept.live, kept.record)
                kept.become(Event.Done)
        except BaseException:
            for kept in new:
                await self._destroy(kept, Event.Destroy)
            raise
        return new

    @asynccontextmanager
    async def _using(self, tenant: str, sandbox_id: str) -> AsyncIterator[Live]:
        """It runs, and is not paused meanwhile. One whose session was given up is destroyed afterwards."""
        kept = self._find(tenant, sandbox_id)
        async with kept.turn:
            await self._resume(kept)
            assert kept.live is not None
            live = kept.live
            kept.calls += 1
        try:
            yield live
        finally:
            kept.calls -= 1
            kept.touch()
        if not live.session.usable and kept.live is live:
            async with kept.turn:
                if kept.live is live and kept.state is State.Running:
                    await self._destroy(kept, Event.Lost)

    @asynccontextmanager
    async def _running(self, kept: Kept) -> AsyncIterator[None]:
        """Its turn, running, with nothing running in it."""
        async with kept.turn:
            await self._resume(kept)
            self._check_free(kept)
            yield

    async def _resume(self, kept: Kept) -> None:
        if kept.state is State.Gone:
            raise unknown()
        if kept.state is State.Running:
            assert kept.live is not None
            await self._doors.reach(kept.live, kept.record)
            return
        kept.become(Event.Resume)
        try:
            image = await self._resolve(kept.record.image)
            source = await self._archive.load(kept.record)
            fill = self._files.fill(kept.id if kept.record.files else "")
            kept.live, kept.promise = await self._births.again(source, image, kept.limits, kept.id, fill)
            await self._doors.open(kept.live, kept.record)
        except BaseException:
            if kept.live is not None:
                self._let_go(kept)
            kept.become(Event.Failed)
            raise
        kept.become(Event.Done)
        kept.touch()
        kept.disk_bytes = 0
        await self._archive.delete(kept.record.name)

    async def _pause(self, kept: Kept) -> None:
        self._archive.check_room(self._paused)
        self._check_free(kept)
        saved = await self._save(kept, Event.Pause, kept.record.name, kept.record)
        kept.disk_bytes = saved.size_bytes
        await asyncio.shield(self._let_go(kept))

    async def _save(self, kept: Kept, event: Event, name: str, record: Record | None) -> Snapshot:
        """Its memory on disk. When that fails it goes on; after Event.Save it goes on in any case."""
        live = kept.live
        assert live is not None
        kept.become(event)
        try:
            await self._doors.shut(live)
            await live.session.release()
            saved = await self._sandboxes.snapshot(live.id, name, note=record.note() if record else None)
        except BaseException:
            with contextlib.suppress(SandboxError):  # the first error is the one to tell
                await to_its_end(self._go_on(kept, live, Event.Failed))
            raise
        if event is Event.Save:
            await self._go_on(kept, live, Event.Done)
        else:
            kept.become(Event.Done)
        return saved

    async def _go_on(self, kept: Kept, live: Live, event: Event) -> None:
        """A session with its runner again. One that does not come back is lost."""
        try:
            if not live.session.usable:
                await self._births.reconnect(live)
            await self._doors.reach(live, kept.record)
            kept.become(event)
        except SandboxError:
            await self._destroy(kept, Event.Lost)
            raise
        finally:
            kept.touch()

    def _let_go(self, kept: Kept) -> asyncio.Task[Ended]:
        """Out of memory: what it was promised is free when nothing of it runs any more."""
        live, kept.live = kept.live, None
        assert live is not None
        return self._births.end(live, kept.promise)

    async def _destroy(self, kept: Kept, event: Event) -> None:
        if kept.state not in (State.Ending, State.Gone):
            kept.become(event)
            await to_its_end(self._clear_away(kept))

    async def _clear_away(self, kept: Kept) -> None:
        self._kept.pop(kept.id, None)
        await self._doors.drop(kept.id)
        if kept.live is not None:
            await self._let_go(kept)
        await self._archive.delete(kept.record.name)
        if kept.record.files:
            await self._files.drop(kept.id)
        kept.become(Event.Done)

    def _find(self, tenant: str, sandbox_id: str) -> Kept:
        kept = self._kept.get(sandbox_id)
        if kept is None or kept.record.tenant != tenant:
            raise unknown()
        return kept

    def _check_free(self, kept: Kept) -> None:
        if kept.calls:
            raise SessionBusy("something runs in this sandbox", hint="wait for it, or destroy the sandbox")
        if kept.state not in IN_MEMORY:
            raise unknown()
