"""Watches folders and files for the host, by the kernel's own reports (inotify): what was made, changed, removed.

Called by `service`; each watch has a thread of its own, and nothing but its descriptors. Changes of a short while
travel together, each once. What the kernel or we could not keep is told as one change of kind `lost`. Nobody inside
can see what the *host* does to a mounted folder: the kernel inside does not know of it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import struct
import threading
from typing import Any

from .frames import Header
from .link import Link

MOST_WATCHES = 16
MOST_FOLDERS = 256
MOST_CHANGES = 500
GATHER_S = 0.02
"""Changes of one path within it are one change: a file that grows is not a flood."""
READ_BYTES = 64 * 1024
EVENT = struct.Struct("iIII")

MODIFY, CLOSE_WRITE, MOVED_FROM, MOVED_TO, CREATE, DELETE = 0x2, 0x8, 0x40, 0x80, 0x100, 0x200
DELETE_SELF, MOVE_SELF, OVERFLOW, IGNORED, IS_FOLDER, DO_NOT_FOLLOW = 0x400, 0x800, 0x4000, 0x8000, 1 << 30, 1 << 25
WANTED = MODIFY | CLOSE_WRITE | MOVED_FROM | MOVED_TO | CREATE | DELETE | DELETE_SELF | MOVE_SELF
KINDS = (
    (CREATE | MOVED_TO, "created"),
    (MODIFY | CLOSE_WRITE, "changed"),
    (DELETE | MOVED_FROM | DELETE_SELF | MOVE_SELF, "deleted"),
)


class Watches:
    def __init__(self, link: Link) -> None:
        self._link = link
        self._lock = threading.Lock()
        self._running: dict[int, _Watch] = {}

    def start(self, header: Header) -> None:
        request = int(header["id"])
        with self._lock:
            if len(self._running) >= MOST_WATCHES:
                self._link.send("failed", id=request, error="EAGAIN", message=f"{MOST_WATCHES} watches already")
                return
            self._running[request] = watch = _Watch(self._link, request, header["path"], bool(header["recursive"]))
        threading.Thread(target=self._run, args=(watch,), name=f"watch-{request}", daemon=True).start()

    def end(self, request: int) -> None:
        with self._lock:
            watch = self._running.get(request)
            if watch is not None:
                watch.end()

    def end_all(self) -> None:
        """The host is gone: nobody looks."""
        with self._lock:
            for watch in self._running.values():
                watch.end()

    def _run(self, watch: _Watch) -> None:
        answer: dict[str, Any] = {"kind": "ok"}
        try:
            watch.open()
            watch.run()
        except (OSError, ValueError, AttributeError, ImportError) as error:  # the last two: no inotify to be had
            number = error.errno if isinstance(error, OSError) and error.errno else errno.EINVAL
            name, text = errno.errorcode.get(number, "EIO"), os.strerror(number)
            answer = {"kind": "failed", "error": name, "message": text}
        finally:
            with self._lock:
                self._running.pop(watch.request, None)
                watch.close()
        self._link.send(id=watch.request, **answer)


class _Watch:
    def __init__(self, link: Link, request: int, path: str, recursive: bool) -> None:
        self.request = request
        self._link = link
        self._root = path
        self._recursive = recursive
        self._folders: dict[int, str] = {}
        self._changes: dict[tuple[str, str], None] = {}
        self._wake, self._wake_write = os.pipe()
        self._inotify = -1

    def open(self) -> None:
        """Raises OSError when it cannot be watched."""
        import ctypes  # noqa: PLC0415 - 10 ms and 1 MiB, and most sandboxes never watch

        self._libc: Any = ctypes.CDLL(None, use_errno=True)
        self._errno = ctypes.get_errno
        self._inotify = self._checked(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        self._add("")
        if self._recursive:
            self._add_below("", tell=False)

    def run(self) -> None:
        """Until `end`, or until what is watched is gone."""
        self._send()  # empty: it has begun
        poll = select.poll()
        for descriptor in (self._inotify, self._wake):
            poll.register(descriptor, select.POLLIN)
        while self._folders:
            timeout = GATHER_S * 1000 if self._changes else None
            ready = {descriptor for descriptor, _ in poll.poll(timeout)}
            if self._wake in ready:
                return
            if self._inotify in ready:
                self._read()
            if self._changes and (not ready or len(self._changes) >= MOST_CHANGES):
                self._send()
        if self._changes:
            self._send()

    def end(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b"x")

    def close(self) -> None:
        for descriptor in (self._inotify, self._wake, self._wake_write):
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _read(self) -> None:
        content = os.read(self._inotify, READ_BYTES)
        at = 0
        while at < len(content):
            number, mask, _cookie, length = EVENT.unpack_from(content, at)
            at += EVENT.size + length
            self._take(number, mask, os.fsdecode(content[at - length : at].rstrip(b"\0")))

    def _take(self, number: int, mask: int, name: str) -> None:
        if mask & OVERFLOW:
            self._note("", "lost")
            return
        folder = self._folders.get(number)
        if folder is None:
            return
        if mask & IGNORED:
            del self._folders[number]
            return
        if folder and mask & (DELETE_SELF | MOVE_SELF):
            return  # its own folder tells it by name
        path = os.path.join(folder, name) if name else folder
        for bits, kind in KINDS:
            if mask & bits:
                self._note(path, kind)
        if self._recursive and mask & IS_FOLDER and mask & (CREATE | MOVED_TO):
            try:
                self._add(path)
                self._add_below(path, tell=True)
            except FileNotFoundError:
                pass  # gone since
            except OSError:
                self._note(path, "lost")

    def _note(self, path: str, kind: str) -> None:
        if len(self._changes) >= 2 * MOST_CHANGES:
            path, kind = "", "lost"
        self._changes[(path.encode("utf-8", "backslashreplace").decode()[:4096], kind)] = None

    def _send(self) -> None:
        changes = [{"path": path, "kind": kind} for path, kind in self._changes][:1000]
        self._changes.clear()
        self._link.send("changes", json.dumps(changes).encode(), id=self.request)

    def _add(self, path: str) -> None:
        if len(self._folders) >= MOST_FOLDERS:
            raise OSError(errno.ENOSPC, "too many folders")
        flags = WANTED | (DO_NOT_FOLLOW if path else 0)
        whole = os.path.join(self._root, path) if path else self._root
        number = self._checked(self._libc.inotify_add_watch(self._inotify, os.fsencode(whole), flags))
        self._folders[number] = path

    def _add_below(self, path: str, *, tell: bool) -> None:
        """Folders below; `tell`: what is in them came after the watch began, so it is told as made."""
        for folder, below, files in os.walk(os.path.join(self._root, path)):
            inside = os.path.relpath(folder, self._root)
            for name in (*below, *files) if tell else ():
                self._note(os.path.normpath(os.path.join(inside, name)), "created")
            for name in below:
                if not os.path.islink(os.path.join(folder, name)):
                    self._add(os.path.normpath(os.path.join(inside, name)))

    def _checked(self, result: int) -> int:
        if result < 0:
            number = self._errno()
            raise OSError(number, os.strerror(number))
        return result
