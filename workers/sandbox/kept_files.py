"""The database files of kept sandboxes: one copy for each, which stays while it is paused, and goes with it.

    files/<sandbox>/databases/<name>/...      linked (hard) into the folder that the sandbox sees at /in

Called by `kept`. Code that had such a file open when it was saved goes on reading it when it goes on, so a sandbox is
resumed and copied with the very files that it had, whatever lies in the volume by then. Links lead to nothing but
these copies, which nobody writes to once they are there.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from workers.errors import VolumeUnavailable
from workers.sandbox.errors import SnapshotUnusable, SpecInvalid
from workers.sandbox.jobs.errors import StagingFailed
from workers.sandbox.jobs.staging import stage
from workers.sandbox.records import MOST_FILES
from workers.sandbox.starter import Fill
from workers.sandbox.task import DatabaseFile
from workers.volumes.store import Volume


@dataclass(frozen=True, slots=True)
class Brought:
    """Database files that a new sandbox shall have, and where they come from."""

    files: tuple[DatabaseFile, ...] = ()
    volumes: Mapping[str, Volume] = field(default_factory=dict)
    most_bytes: int = 0


def check_files(wanted: Brought) -> None:
    """Raises SpecInvalid for more than a record can name: it could not be read back."""
    if len(wanted.files) > MOST_FILES:
        raise SpecInvalid("databases", f"at most {MOST_FILES} that are files")


class KeptFiles:
    """One host's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def open(self, owners: Collection[str]) -> None:
        """Remove what belongs to nobody of these."""
        await asyncio.to_thread(self._sweep, owners)

    @asynccontextmanager
    async def brought(self, wanted: Brought) -> AsyncIterator[str]:
        """A name for them while the context lasts; empty for none. Raises the Input errors, StagingFailed,
        VolumeError."""
        check_files(wanted)
        if not wanted.files:
            yield ""
            return
        for file in wanted.files:
            if file.source.volume not in wanted.volumes:
                raise VolumeUnavailable(f"volume {file.source.volume!r} is not known on this host")
        name = f"new-{secrets.token_hex(10)}"
        sources = [file.source for file in wanted.files]
        try:
            await stage(sources, wanted.volumes, self._folder / name, wanted.most_bytes)
            yield name
        finally:
            await asyncio.shield(self.drop(name))

    def fill(self, name: str) -> Fill | None:
        """What puts them into the folder of a sandbox. It raises SnapshotUnusable when they are gone."""
        return partial(_link, self._folder / name) if name else None

    async def give(self, name: str, sandbox_id: str) -> None:
        """The same files for this sandbox, for as long as it is kept."""
        if name:
            await asyncio.to_thread(_link, self._folder / name, self._folder / sandbox_id)

    async def drop(self, name: str) -> None:
        await asyncio.to_thread(shutil.rmtree, self._folder / name, ignore_errors=True)

    def _sweep(self, owners: Collection[str]) -> None:
        if self._folder.is_dir():
            for entry in self._folder.iterdir():
                if entry.name not in owners:
                    shutil.rmtree(entry, ignore_errors=True)


def _link(source: Path, target: Path) -> None:
    if not source.is_dir():
        raise SnapshotUnusable("the database files of this sandbox are gone", hint="remove it")
    try:
        for folder, _, names in os.walk(source):
            there = target / Path(folder).relative_to(source)
            there.mkdir(mode=0o755, parents=True, exist_ok=True)
            for name in names:
                os.link(f"{folder}/{name}", there / name)
    except OSError as error:
        raise StagingFailed(f"the host cannot store the database files ({error.strerror})") from error
