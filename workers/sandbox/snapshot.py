"""Keeps snapshots on disk: complete or not there at all, and only used where they can be restored.

A snapshot is a folder: runsc's checkpoint files and `snapshot.json`, which says of which image, by which runsc, for
which CPU, with which limits and mounts, and how long each file is. `sandboxes` writes and restores them; whoever owns
sandboxes says which to keep. Blocking file operations; no processes, no sandboxes here.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import Annotated, Any

import msgspec

from workers.sandbox.bundle import check_sandbox_id
from workers.sandbox.errors import SnapshotError, SnapshotSpaceExhausted, SnapshotUnusable

FORMAT = 1
META = "snapshot.json"
DRAFT_PREFIX = ".draft-"
SPARE_BYTES = 64 * 1024 * 1024
"""Room that must be left on the disk beside a snapshot."""


class SnapshotKey(msgspec.Struct, frozen=True, kw_only=True):
    """Where a checkpoint can be restored: the same image, release of runsc, platform and kind of CPU."""

    image: str
    """Digest of the image."""
    runsc: str
    platform: str
    cpu: str
    """`cpu_kind` of the machine."""

    def differs_in(self, other: SnapshotKey) -> list[str]:
        """Names of the fields that are not the same."""
        return [name for name in self.__struct_fields__ if getattr(self, name) != getattr(other, name)]

    def digest(self) -> str:
        """16 hex digits: a name for this combination."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:16]


class SnapshotMeta(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `snapshot.json` says."""

    format: int = FORMAT
    key: SnapshotKey
    limits: dict[str, float]
    """Limits of the sandbox at its checkpoint; the resource limits inside are part of the saved memory."""
    mounts: tuple[str, ...]
    """Places inside at which something of the host was mounted; a restore needs something at each of them."""
    files: dict[str, Annotated[int, msgspec.Meta(ge=0, le=2**53)]]
    """File -> bytes. None below 0: together they say how much room a snapshot needs."""
    note: dict[str, Any] = {}
    """Whose it is and what for: written and checked by whoever keeps it (`records`). Nothing here reads it."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One complete snapshot on this machine."""

    name: str
    folder: Path
    meta: SnapshotMeta

    @property
    def size_bytes(self) -> int:
        return sum(self.meta.files.values())


def cpu_kind(cpuinfo: str) -> str:
    """16 hex digits for the vendor, family and feature flags in the text of /proc/cpuinfo.

    What a checkpoint depends on.
    """
    wanted = ("vendor_id", "cpu family", "flags", "Features", "CPU implementer", "CPU architecture")
    lines = (line.partition(":") for line in cpuinfo.partition("\n\n")[0].splitlines())
    facts = sorted(
        (name.strip(), " ".join(sorted(value.split()))) for name, _, value in lines if name.strip() in wanted
    )
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


class SnapshotShelf:
    """The snapshots of one folder, each under a name of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def folder(self) -> Path:
        return self._folder

    def draft(self, needed_bytes: int) -> Path:
        """An empty folder to checkpoint into, to be kept or discarded. SnapshotSpaceExhausted before any write."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        free = shutil.disk_usage(self._folder).free
        if free < needed_bytes + SPARE_BYTES:
            raise SnapshotSpaceExhausted(
                f"a snapshot needs {(needed_bytes + SPARE_BYTES) >> 20} MiB of disk, {free >> 20} MiB are free",
                hint="free space on the host, or delete snapshots and paused sandboxes",
            )
        return Path(mkdtemp(prefix=DRAFT_PREFIX, dir=self._folder))

    def discard(self, draft: Path) -> None:
        """Remove a draft; nothing when it was kept."""
        shutil.rmtree(draft, ignore_errors=True)

    def keep(
        self,
        draft: Path,
        name: str,
        *,
        key: SnapshotKey,
        limits: dict[str, float],
        mounts: tuple[str, ...],
        note: dict[str, Any] | None = None,
    ) -> Snapshot:
        """Make a finished draft the snapshot `name`, in one step; one of that name that was there before goes."""
        check_sandbox_id(name)
        files = {file.name: file.stat().st_size for file in draft.iterdir()}
        meta = SnapshotMeta(key=key, limits=limits, mounts=mounts, files=files, note=note or {})
        (draft / META).write_bytes(msgspec.json.encode(meta))
        final = self._folder / name
        self.delete(name)
        os.rename(draft, final)
        return Snapshot(name=name, folder=final, meta=meta)

    def annotate(self, snapshot: Snapshot, note: dict[str, Any]) -> Snapshot:
        """The same snapshot with another note, in one step."""
        meta = msgspec.structs.replace(snapshot.meta, note=note)
        new = snapshot.folder / f"{META}.new"
        new.write_bytes(msgspec.json.encode(meta))
        new.rename(snapshot.folder / META)
        return msgspec.structs.replace(snapshot, meta=meta)

    def load(self, name: str, *, usable_as: SnapshotKey | None = None) -> Snapshot | None:
        """The snapshot of that name, or None. SnapshotUnusable when it is damaged or was made for something else."""
        check_sandbox_id(name)
        folder = self._folder / name
        if not folder.is_dir():
            return None
        try:
            meta = msgspec.json.decode((folder / META).read_bytes(), type=SnapshotMeta)
            wrong = [file for file, size in meta.files.items() if (folder / file).stat().st_size != size]
        except (OSError, msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise SnapshotUnusable(f"snapshot {name} is damaged", hint="make a new one", detail=str(error)) from error
        if meta.format != FORMAT or wrong:
            raise SnapshotUnusable(
                f"snapshot {name} is damaged or of another format", hint="make a new one", detail=str(wrong)
            )
        if usable_as is not None and (differences := meta.key.differs_in(usable_as)):
            raise SnapshotUnusable(
                f"snapshot {name} was made for another {' and '.join(differences)}", hint="make a new one"
            )
        return Snapshot(name=name, folder=folder, meta=meta)

    def names(self, *, newest_first: bool = False) -> list[str]:
        if not self._folder.is_dir():
            return []
        found = [entry for entry in self._folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
        if newest_first:
            found.sort(key=lambda entry: -entry.stat().st_mtime)
            return [entry.name for entry in found]
        return sorted(entry.name for entry in found)

    def delete(self, name: str) -> bool:
        """Whether it was there. Sandboxes restored from it go on."""
        check_sandbox_id(name)
        folder = self._folder / name
        if not folder.is_dir():
            return False
        try:
            doomed = Path(mkdtemp(prefix=DRAFT_PREFIX, dir=self._folder))
            os.rename(folder, doomed / name)  # in one step: a half-deleted snapshot is never seen under its name
        except OSError as error:
            raise SnapshotError(f"snapshot {name} cannot be deleted", detail=str(error)) from error
        shutil.rmtree(doomed, ignore_errors=True)
        return True

    def sweep(self) -> int:
        """Remove drafts of an earlier host process; how many. Only while nobody else uses the folder."""
        drafts = list(self._folder.glob(f"{DRAFT_PREFIX}*")) if self._folder.is_dir() else []
        for draft in drafts:
            shutil.rmtree(draft, ignore_errors=True)
        return len(drafts)
