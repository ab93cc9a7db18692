"""What a host has on disk for its tenants: snapshots that they asked for, and the memory of paused sandboxes.

Used by `kept`, which owns the sandboxes. Records are checked when they are read back, also those that come out of a
volume; what cannot be understood is removed, or refused, never guessed.
"""

from __future__ import annotations

import asyncio
import secrets

import msgspec
import structlog

from workers.sandbox.errors import SandboxError, SnapshotSpaceExhausted, SnapshotUnusable
from workers.sandbox.keeping import SavedView, unknown
from workers.sandbox.records import PAUSED, SAVED, Record, is_warm, read_record
from workers.sandbox.snapshot import Snapshot, SnapshotKey, SnapshotShelf
from workers.sandbox.transfer import Manifest, fetch_files, read_manifest, send
from workers.volumes.store import Volume

log = structlog.get_logger("sandpool.archive")


class Archive:
    def __init__(self, shelf: SnapshotShelf, most: int) -> None:
        """`most`: snapshots and paused sandboxes together."""
        self._shelf = shelf
        self._most = most
        self._saved: dict[str, tuple[Record, Snapshot]] = {}

    @property
    def saved(self) -> int:
        return len(self._saved)

    async def open(self) -> list[tuple[Record, Snapshot]]:
        """Everything that earlier processes of this host left here, paused sandboxes and snapshots."""
        found = []
        for name in await asyncio.to_thread(self._shelf.names):
            if is_warm(name):
                continue
            try:
                snapshot = await asyncio.to_thread(self._shelf.load, name)
                assert snapshot is not None
                record = read_record(snapshot)
            except SnapshotUnusable as error:
                log.warning("a saved sandbox is unusable and removed", snapshot=name, detail=error.detail)
                await self.delete(name)
                continue
            found.append((record, snapshot))
            if record.use == SAVED:
                self._saved[record.id] = (record, snapshot)
        return found

    def has(self, snapshot_id: str) -> bool:
        return snapshot_id in self._saved

    def list_saved(self, tenant: str) -> list[SavedView]:
        own = [_view(*entry) for entry in self._saved.values() if entry[0].tenant == tenant]
        return sorted(own, key=lambda view: (view.created_at_s, view.id))

    def find(self, tenant: str, snapshot_id: str) -> tuple[Record, Snapshot]:
        """Raises UnknownSandbox, for another tenant's as well."""
        entry = self._saved.get(snapshot_id)
        if entry is None or entry[0].tenant != tenant:
            raise unknown()
        return entry

    def add(self, record: Record, snapshot: Snapshot) -> SavedView:
        self._saved[record.id] = (record, snapshot)
        return _view(record, snapshot)

    async def remove(self, tenant: str, snapshot_id: str) -> None:
        record, _ = self.find(tenant, snapshot_id)
        del self._saved[snapshot_id]
        await self.delete(record.name)

    async def load(self, record: Record) -> Snapshot:
        """The memory that belongs to this record."""
        found = await asyncio.to_thread(self._shelf.load, record.name)
        if found is None:
            raise SnapshotUnusable("what was saved of this sandbox is gone", hint="remove it")
        return found

    async def note(self, record: Record) -> None:
        """Write down what has changed in it."""
        await asyncio.to_thread(self._shelf.annotate, await self.load(record), record.note())

    async def delete(self, name: str) -> None:
        try:
            await asyncio.to_thread(self._shelf.delete, name)
        except SandboxError as error:
            log.warning("a snapshot cannot be removed", snapshot=name, detail=error.detail)

    def check_room(self, paused: int) -> None:
        """Raises SnapshotSpaceExhausted when one more is too many."""
        if self.saved + paused >= self._most:
            raise SnapshotSpaceExhausted(
                f"this host keeps {self._most} paused sandboxes and snapshots already",
                hint="remove some: `sandpool sandbox ls` and `rm`",
            )

    def view(self, tenant: str, snapshot_id: str) -> SavedView:
        """Raises as `find`."""
        return _view(*self.find(tenant, snapshot_id))

    async def send(self, record: Record, volume: Volume, retention_s: int | None) -> SavedView:
        """Into the tenant's part of a volume, under its id; a snapshot that is there already is done. VolumeError.

        A paused sandbox may have run on since it was sent: then it is sent anew.
        """
        saved = await self.load(record)
        anew = record.use == PAUSED
        await asyncio.to_thread(send, saved, volume, record.tenant, record.id, anew=anew, retention_s=retention_s)
        return _view(record, saved)

    async def look_up(self, tenant: str, any_id: str, volume: Volume) -> tuple[Record, Manifest]:
        """What a volume says of a snapshot of this tenant. UnknownSandbox, SnapshotUnusable, VolumeError."""
        manifest = await asyncio.to_thread(read_manifest, volume, tenant, any_id)
        if manifest is None:
            raise unknown()
        name = f"{PAUSED if any_id.startswith('sb-') else SAVED}-{any_id}"
        record = read_record(Snapshot(name=name, folder=self._shelf.folder, meta=manifest.meta))
        if record.tenant != tenant:
            raise unknown()
        return record, manifest

    async def fetch(self, record: Record, manifest: Manifest, here: SnapshotKey, volume: Volume) -> SavedView:
        """Take it over as a snapshot; what was sent of a paused sandbox becomes one too."""
        if differences := manifest.meta.key.differs_in(here):
            raise SnapshotUnusable(
                f"the snapshot was made for another {' and '.join(differences)}", hint="use a host of its kind"
            )
        # A sandbox may be sent and fetched again and again; a snapshot never changes.
        own_id = record.id if record.use == SAVED else f"sn-{secrets.token_hex(10)}"
        # What a volume says is nobody's word for a right to a database.
        own = msgspec.structs.replace(
            record, use=SAVED, id=own_id, expires_at_s=None, idle_s=None, databases=(), volume="", files=()
        )
        meta = manifest.meta
        draft = await asyncio.to_thread(self._shelf.draft, sum(meta.files.values()))
        try:
            await asyncio.to_thread(fetch_files, manifest, volume, record.tenant, record.id, draft)
            kept = await asyncio.to_thread(
                self._shelf.keep,
                draft,
                own.name,
                key=meta.key,
                limits=meta.limits,
                mounts=meta.mounts,
                note=own.note(),
            )
        except OSError as error:
            raise SnapshotSpaceExhausted("the snapshot cannot be written", hint="free space on the host") from error
        finally:
            await asyncio.to_thread(self._shelf.discard, draft)
        return self.add(own, kept)


def _view(record: Record, saved: Snapshot) -> SavedView:
    return SavedView(
        id=record.id,
        label=record.label,
        image=record.image,
        created_at_s=record.created_at_s,
        disk_bytes=saved.size_bytes,
    )
