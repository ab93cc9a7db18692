"""Turns an unpacked system into a root filesystem for sandboxes, and names its content. Blocking; used by `build`.

What a sandbox needs is put in (the user, the mount points), what it must not have is taken out (setuid and setgid
bits, device nodes, apt's sources and caches, machine ids, logs), and every time stamp is set to one moment: the same
inputs give the same tree. Works on a tree that may share files with others by hard links: files are replaced, never
written into.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from workers.images.errors import ImageBuildFailed
from workers.images.recipe import User
from workers.sandbox.bundle import MOUNT_POINTS

SOURCE_DATE_EPOCH = 1_735_689_600
"""2025-01-01 UTC: the time stamp of every file in every image."""
UNWANTED = (
    *("etc/apt/sources.list", "etc/apt/sources.list.d", "etc/hostname", "etc/machine-id", "etc/resolv.conf"),
    *("var/lib/apt/lists", "var/cache/apt", "var/cache/debconf", "var/cache/ldconfig", "var/lib/dbus/machine-id"),
    *("var/log", "var/backups", "root/.cache", "usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale"),
)
EMPTY_FOLDERS = ("proc", "sys", "dev", "tmp", "run", "home", "var/log", "var/tmp")


def finish(rootfs: Path, user: User) -> None:
    """Everything of the module's docstring, in place."""
    for path in UNWANTED:
        if not _behind_a_link(rootfs, path):
            remove(rootfs / path)
    for path in ("etc", *EMPTY_FOLDERS, *MOUNT_POINTS, user.home):
        _make_folder(rootfs, path.lstrip("/"))
    for path in ("tmp", "var/tmp"):
        (rootfs / path).chmod(0o1777)
    _add_user(rootfs, user)
    write(rootfs / "etc/hostname", "sandpool\n")
    write(rootfs / "etc/hosts", "127.0.0.1 localhost sandpool\n::1 localhost\n")
    make_harmless(rootfs)


def make_harmless(rootfs: Path) -> None:
    """No setuid or setgid bit, no device, socket or pipe; one time stamp everywhere."""
    when = (SOURCE_DATE_EPOCH, SOURCE_DATE_EPOCH)
    for path in walk(rootfs):
        mode = path.lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
            path.unlink()
            continue
        if mode & (stat.S_ISUID | stat.S_ISGID) and not stat.S_ISLNK(mode):
            path.chmod(stat.S_IMODE(mode) & ~(stat.S_ISUID | stat.S_ISGID))
        os.utime(path, when, follow_symlinks=False)
    os.utime(rootfs, when)


def content_digest(rootfs: Path) -> tuple[str, int]:
    """(SHA-256 over names, kinds, modes, owners and contents; bytes of all files). Time stamps are not part of it."""
    total, whole = 0, hashlib.sha256()
    for path in walk(rootfs):
        info = path.lstat()
        line = [str(path.relative_to(rootfs)), oct(info.st_mode), str(info.st_uid), str(info.st_gid)]
        if stat.S_ISLNK(info.st_mode):
            line.append(os.readlink(path))
        elif stat.S_ISREG(info.st_mode):
            total += info.st_size
            with path.open("rb") as file:
                line.append(hashlib.file_digest(file, "sha256").hexdigest())
        whole.update("\0".join(line).encode("utf-8", "surrogateescape") + b"\n")
    return whole.hexdigest(), total


def walk(folder: Path) -> Iterator[Path]:
    """Everything below `folder`, links not followed, in a fixed order."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from walk(path)
        yield path


def copy_by_links(source: Path, target: Path) -> None:
    """The same tree at `target`, files shared by hard links: 0.2 s and no disk for a whole system."""
    shutil.copytree(source, target, symlinks=True, copy_function=_link)


def write(path: Path, text: str) -> None:
    """Replace a file; a hard link of another tree to the old content stays as it is."""
    remove(path)
    path.write_text(text)
    path.chmod(0o644)


def remove(path: Path) -> None:
    """A file, link or whole folder; nothing when it is not there."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)


def _link(source: str, target: str) -> None:
    os.link(source, target, follow_symlinks=False)


def _behind_a_link(rootfs: Path, path: str) -> bool:
    """Whether a folder on the way is a symbolic link: it may lead to the host's own files."""
    return any((rootfs / parent).is_symlink() for parent in Path(path).parents)


def _make_folder(rootfs: Path, path: str) -> None:
    """A real folder at each step: a link there would lead a later mount out of the tree."""
    here = rootfs
    for part in Path(path).parts:
        here = here / part
        if here.is_symlink() or (here.exists() and not here.is_dir()):
            raise ImageBuildFailed("finish", f"/{here.relative_to(rootfs)} has to be a folder in an image")
        here.mkdir(exist_ok=True)
        if here.stat().st_uid == 0:
            here.chmod(0o755)


def _add_user(rootfs: Path, user: User) -> None:
    etc = rootfs / "etc"
    entries = {
        "passwd": f"{user.name}:x:{user.uid}:{user.uid}::{user.home}:/bin/sh\n",
        "group": f"{user.name}:x:{user.uid}:\n",
        "shadow": f"{user.name}:!:20000::::::\n",
    }
    for name, entry in entries.items():
        file = etc / name
        old = file.read_text() if file.is_file() and not file.is_symlink() else ""
        kept = "".join(line for line in old.splitlines(keepends=True) if not line.startswith(f"{user.name}:"))
        mode = 0o600 if name == "shadow" else 0o644
        write(file, kept + entry)
        file.chmod(mode)
