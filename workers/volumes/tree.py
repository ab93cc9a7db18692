"""Folders of a file:// volume, opened one relative to the other and never through a symbolic link.

Used by workers.volumes.local and .draft. Raises plain OSError; their caller translates. Never reads a file's content.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime

from workers.errors import VolumeUnavailable
from workers.volumes.keys import UnsafeName, check_key
from workers.volumes.objects import ObjectMeta

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def open_root(volume: str, root: str) -> int:
    """The volume's root folder. Raises VolumeUnavailable when it is gone.

    It may be a symbolic link: the administrator chose it. It is never made again: where a mount vanished, that would
    fill the disk below.
    """
    try:
        return os.open(root, _FOLDER)
    except (FileNotFoundError, NotADirectoryError) as error:
        hint = "mount it again, or create it if it was removed on purpose"
        raise VolumeUnavailable(f"volume {volume}: its root folder is gone", hint=hint) from error


def descend(start: int, folders: Iterable[str], *, make: bool = False, fsync: bool = False) -> int:
    """Open `folders` one below the other from the folder `start`, which is closed. Makes the missing when asked."""
    fd = start
    missing = False
    try:
        for name in folders:
            below = -1
            if not missing:
                try:
                    below = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=fd)
                except FileNotFoundError:
                    if not make:
                        raise
                    missing = True
            if missing:
                below = _make_folder(fd, name, fsync)
            os.close(fd)
            fd = below
    except BaseException:
        os.close(fd)
        raise
    return fd


def walk(folder: int, prefix: str, start_after: str) -> Iterator[ObjectMeta]:
    """Objects below the open `folder`, which is closed, in byte order of whole keys, from after `start_after`.

    Names that no volume would write (dot files, links, odd characters) are passed over.
    """
    try:
        for name in _sorted_names(folder):
            key = prefix + name
            if key <= start_after and not (name.endswith("/") and start_after.startswith(key)):
                continue
            # What vanishes or is replaced while we list was never there.
            with suppress(FileNotFoundError, NotADirectoryError, UnsafeName):
                check_key(key.rstrip("/"))
                if name.endswith("/"):
                    yield from walk(os.open(name[:-1], _FOLDER | os.O_NOFOLLOW, dir_fd=folder), key, start_after)
                else:
                    facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
                    yield ObjectMeta(key, facts.st_size, datetime.fromtimestamp(facts.st_mtime, UTC))
    finally:
        os.close(folder)


def _make_folder(parent: int, name: str, fsync: bool) -> int:
    # Another process may be faster; whoever made it, it is durable before anything is put into it.
    with suppress(FileExistsError):
        os.mkdir(name, 0o750, dir_fd=parent)
    if fsync:
        os.fsync(parent)
    return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=parent)


def _sorted_names(folder: int) -> list[str]:
    names: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                # `a-b/x` sorts before `a/x` in an object store: compare folders with their slash.
                names.append(entry.name + "/")
            elif entry.is_file(follow_symlinks=False):
                names.append(entry.name)
    return sorted(names)
