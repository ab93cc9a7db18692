"""A file of a file:// volume before it has its name, and the hard link that publishes it.

Made by workers.volumes.local. Usually the file is unnamed (O_TMPFILE): a killed process leaves nothing. Where the
filesystem has no such files (NFS, some overlays) or there is no /proc to link them from, it is a locked file in
`<root>/.incoming`; what dead processes leave there is swept by age and lock.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress

from workers.errors import VolumeCorrupt
from workers.volumes.translation import from_os_error
from workers.volumes.tree import descend, open_root

INCOMING = ".incoming"
INCOMING_GRACE_S = 3600.0

_RACES = 5
"""How often an attempt starts over because a deleter removed its still empty folder."""
_NO_UNNAMED_FILES = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL})
_FLAGS = os.O_WRONLY | os.O_CLOEXEC


class Draft:
    """One file on its way into a volume. See workers.volumes.store.Writer."""

    def __init__(
        self, volume: str, root: str, folders: Sequence[str], leaf: str, *, unnamed: bool, fsync: bool
    ) -> None:
        self._volume = volume
        self._root = root
        self._folders = folders
        self._leaf = leaf
        self._fsync = fsync
        self._name = ""
        self._incoming = -1
        self._fd = -1
        self._folder = self._open_folder()
        try:
            if not (unnamed and self._open_unnamed()):
                self._open_named()
        except OSError as error:
            self.abort()
            raise from_os_error(volume, error) from error

    @property
    def is_unnamed(self) -> bool:
        """False once the filesystem turned out to have no unnamed files."""
        return not self._name

    def write(self, data: bytes) -> int:
        try:
            written = os.write(self._fd, data)
            if written < len(data):
                view = memoryview(data)
                while written < len(view):
                    written += os.write(self._fd, view[written:])
        except OSError as error:
            raise from_os_error(self._volume, error) from error
        return written

    def publish(self) -> bool:
        """Give the file its name: False, and nothing changed, when the name is taken. Leaves the draft open."""
        try:
            if self._fsync:
                os.fsync(self._fd)
            for _ in range(_RACES - 1):
                try:
                    return self._link()
                except FileNotFoundError:
                    os.close(self._folder)
                    self._folder = -1
                    self._folder = self._open_folder()
            return self._link()
        except OSError as error:
            raise from_os_error(self._volume, error) from error

    def close(self) -> None:
        try:
            if not self.publish():
                raise VolumeCorrupt(f"volume {self._volume}: {'/'.join((*self._folders, self._leaf))} exists already")
        finally:
            self.abort()

    def abort(self) -> None:
        for fd in (self._fd, self._folder):
            if fd >= 0:
                os.close(fd)
        self._fd = self._folder = -1
        if self._incoming >= 0:
            if self._name:
                with suppress(OSError):
                    os.unlink(self._name, dir_fd=self._incoming)
            os.close(self._incoming)
            self._incoming = -1

    def _open_folder(self) -> int:
        try:
            return descend(open_root(self._volume, self._root), self._folders, make=True, fsync=self._fsync)
        except OSError as error:
            raise from_os_error(self._volume, error) from error

    def _open_unnamed(self) -> bool:
        for _ in range(_RACES):
            try:
                self._fd = os.open(".", _FLAGS | os.O_TMPFILE, 0o640, dir_fd=self._folder)
                return True
            except FileNotFoundError:
                os.close(self._folder)
                self._folder = -1
                self._folder = self._open_folder()
            except OSError as error:
                if error.errno not in _NO_UNNAMED_FILES:
                    raise
                return False
        return False

    def _open_named(self) -> None:
        self._incoming = descend(open_root(self._volume, self._root), [INCOMING], make=True, fsync=self._fsync)
        name = f"{os.getpid()}-{secrets.token_hex(8)}"
        self._fd = os.open(name, _FLAGS | os.O_CREAT | os.O_EXCL, 0o640, dir_fd=self._incoming)
        self._name = name
        # The lock tells sweepers that somebody still writes here; where locks do not work, age alone decides.
        with suppress(OSError):
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _link(self) -> bool:
        try:
            if self._name:
                os.link(self._name, self._leaf, src_dir_fd=self._incoming, dst_dir_fd=self._folder)
            else:
                os.link(f"/proc/self/fd/{self._fd}", self._leaf, dst_dir_fd=self._folder, follow_symlinks=True)
            if self._fsync:
                os.fsync(self._folder)
        except FileExistsError:
            return False
        return True


def sweep_incoming(volume: str, root: str) -> int:
    """Remove drafts whose process is dead; how many. Raises OSError."""
    try:
        incoming = descend(open_root(volume, root), [INCOMING])
    except FileNotFoundError:
        return 0
    swept = 0
    try:
        with os.scandir(incoming) as entries:
            for entry in entries:
                # Another process may sweep the same folder at the same time.
                with suppress(FileNotFoundError):
                    if entry.is_file(follow_symlinks=False) and _is_abandoned(incoming, entry.name):
                        os.unlink(entry.name, dir_fd=incoming)
                        swept += 1
    finally:
        os.close(incoming)
    return swept


def _is_abandoned(incoming: int, name: str) -> bool:
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=incoming)
    try:
        if time.time() - os.fstat(fd).st_mtime < INCOMING_GRACE_S:
            return False
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True
