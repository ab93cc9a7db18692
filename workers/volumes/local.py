"""A file:// volume: objects as files, published whole by one hard link.

Opened by workers.volumes.store, used through its `Volume`. obstore's own LocalStore is not used for file:// because of
what it costs on an event loop and leaves behind. Measured on 2 cores, ext4, 1.5 kB objects, CPU per create: into a new
folder 110 us (blocking) and 240 us (async) against 106 us here either way, into an existing one 49 us and 160 us
against 42 us. It stages beside the target (`part#1`), where a killed process leaves litter for ever, makes files that
everybody can read, and follows symbolic links out of the volume.

How a create works: an unnamed file in the target's folder is written, then linked to its name (workers.volumes.draft).
link(2) fails when the name exists, so of racing creates exactly one wins, and nothing half-written has a name, ever.

Durability: what `create` or `close` returned survives the death of every process. A power failure may lose, or leave
empty, what was created in the last seconds before it, unless the option `fsync` is true; then each create waits for the
disk (file, folder and new parents), in a thread where the caller is async. Without `fsync` the async twins run in the
calling thread, because a hop to another costs as much as the work: put a volume on NFS only with `fsync`.

Safe against what others put into the tree: folders are opened one by one and never through a symbolic link; only
regular files are read. Files are 0640, folders 0750, both narrowed by the umask.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from workers.errors import ConfigurationError, VolumeCorrupt
from workers.volumes.draft import Draft, sweep_incoming
from workers.volumes.keys import UnsafeName, check_key
from workers.volumes.objects import ObjectMeta
from workers.volumes.translation import from_os_error
from workers.volumes.tree import descend, open_root, walk

PIECE_BYTES = 1024 * 1024
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class LocalVolume:
    """See workers.volumes.store.Volume."""

    def __init__(self, name: str, url: str, root: str, options: dict[str, str]) -> None:
        self.name = name
        self.url = url
        self._root = root
        self._fsync = _flag(name, "fsync", options.pop("fsync", "false"))
        self.unnamed_files = os.path.exists("/proc/self/fd")
        if options:
            raise ConfigurationError(f"volume {name}: unknown option {min(options)!r}; a file volume knows only fsync")
        try:
            os.makedirs(root, mode=0o750, exist_ok=True)
            # A volume that cannot be written can still be read: what cannot be swept is not this call's failure.
            with suppress(PermissionError):
                sweep_incoming(name, root)
        except OSError as error:
            raise from_os_error(name, error) from error

    def create(self, key: str, data: bytes) -> bool:
        draft = self.open_writer(key)
        try:
            draft.write(data)
            return draft.publish()
        finally:
            draft.abort()

    async def acreate(self, key: str, data: bytes) -> bool:
        return await asyncio.to_thread(self.create, key, data) if self._fsync else self.create(key, data)

    def get(self, key: str, *, limit_bytes: int | None = None) -> bytes | None:
        try:
            if (fd := self._open(key)) is None:
                return None
            try:
                return self._read(fd, limit_bytes)
            finally:
                os.close(fd)
        except OSError as error:
            raise from_os_error(self.name, error) from error

    def fetch(self, key: str, write: Callable[[bytes], object]) -> int | None:
        done = 0
        try:
            if (fd := self._open(key)) is None:
                return None
        except OSError as error:
            raise from_os_error(self.name, error) from error
        try:
            self._check(fd, None)
            while piece := self._piece(fd):
                write(piece)
                done += len(piece)
        finally:
            os.close(fd)
        return done

    async def aget(self, key: str, *, limit_bytes: int | None = None) -> bytes | None:
        if self._fsync:
            return await asyncio.to_thread(self.get, key, limit_bytes=limit_bytes)
        return self.get(key, limit_bytes=limit_bytes)

    def delete(self, keys: Iterable[str]) -> None:
        emptied: set[tuple[str, ...]] = set()
        try:
            for key in keys:
                *folders, leaf = check_key(key).split("/")
                with suppress(FileNotFoundError):
                    folder = descend(open_root(self.name, self._root), folders)
                    try:
                        os.unlink(leaf, dir_fd=folder)
                    finally:
                        os.close(folder)
                emptied.update(tuple(folders[: depth + 1]) for depth in range(len(folders)))
            for path in sorted(emptied, key=len, reverse=True):
                self._remove_if_empty(path)
        except OSError as error:
            raise from_os_error(self.name, error) from error

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectMeta]:
        """Holds the names of one folder of each level in memory while it runs."""
        if prefix and not prefix.endswith("/"):
            raise UnsafeName(f"prefix {prefix[:80]!r} does not end with a slash")
        folders = check_key(prefix[:-1]).split("/") if prefix else []
        return self._list(folders, prefix, start_after)

    def open_writer(self, key: str) -> Draft:
        *folders, leaf = check_key(key).split("/")
        draft = Draft(self.name, self._root, folders, leaf, unnamed=self.unnamed_files, fsync=self._fsync)
        self.unnamed_files = draft.is_unnamed
        return draft

    def _list(self, folders: Iterable[str], prefix: str, start_after: str) -> Iterator[ObjectMeta]:
        try:
            with suppress(FileNotFoundError):
                yield from walk(descend(open_root(self.name, self._root), folders), prefix, start_after)
        except OSError as error:
            raise from_os_error(self.name, error) from error

    def _open(self, key: str) -> int | None:
        *folders, leaf = check_key(key).split("/")
        try:
            folder = descend(open_root(self.name, self._root), folders)
            try:
                return os.open(leaf, _READ, dir_fd=folder)
            finally:
                os.close(folder)
        except FileNotFoundError:
            return None

    def _check(self, fd: int, limit_bytes: int | None) -> os.stat_result:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode):
            raise VolumeCorrupt(f"volume {self.name}: an object is not a regular file")
        if limit_bytes is not None and facts.st_size > limit_bytes:
            raise VolumeCorrupt(f"volume {self.name}: an object of {facts.st_size} bytes; at most {limit_bytes}")
        return facts

    def _piece(self, fd: int) -> bytes:
        try:
            return os.read(fd, PIECE_BYTES)
        except OSError as error:
            raise from_os_error(self.name, error) from error

    def _read(self, fd: int, limit_bytes: int | None) -> bytes:
        facts = self._check(fd, limit_bytes)
        data = os.read(fd, facts.st_size)
        if len(data) < facts.st_size:
            # One read gives at most 2 GiB. Published files never change, so all of st_size is there.
            with open(fd, "rb", buffering=0, closefd=False) as file:
                data += file.readall()
        return data

    def _remove_if_empty(self, folders: tuple[str, ...]) -> None:
        with suppress(FileNotFoundError):
            parent = descend(open_root(self.name, self._root), folders[:-1])
            try:
                os.rmdir(folders[-1], dir_fd=parent)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            finally:
                os.close(parent)


def _flag(volume: str, option: str, text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ConfigurationError(f"volume {volume}: option {option} is true or false, not {text[:20]!r}")
    return text.lower() == "true"
