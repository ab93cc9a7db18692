"""Reads, writes, lists and describes files inside, one bounded piece per request.

Called by `service` in a thread of its own. Every request names the whole path again: nothing is kept open between
two, so nothing is left behind. Only regular files are read and written: a pipe or a device could hold us for ever.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from typing import Any

from .frames import CHUNK_BYTES, Header
from .link import Link

PAGE_ENTRIES = 500


def serve_file(link: Link, header: Header, payload: bytes) -> None:
    """Answer one request; a file that cannot be had is an answer too."""
    request = header["id"]
    try:
        if header["kind"] == "read":
            content, size = _read(header["path"], header["offset"], header["size"])
            link.send("data", content, id=request, size=size)
        elif header["kind"] == "write":
            _write(header["path"], header["offset"], payload, header["mode"])
            link.send("ok", id=request)
        elif header["kind"] == "list":
            entries, following = _list(header["path"], header["after"])
            link.send("entries", json.dumps(entries).encode(), id=request, next=following)
        else:
            described = _describe(header["path"], os.path.basename(header["path"].rstrip("/")) or "root")
            link.send("entries", json.dumps([described]).encode(), id=request)
    except OSError as error:
        code = errno.errorcode.get(error.errno or 0, "EIO")
        link.send("failed", id=request, error=code, message=(error.strerror or "it failed")[:200])
    except (ValueError, UnicodeError) as error:  # a NUL in the path, for example
        link.send("failed", id=request, error="EINVAL", message=ascii(str(error))[:200])


def _read(path: str, offset: int, size: int) -> tuple[bytes, int]:
    descriptor = _open(path, os.O_RDONLY)
    try:
        return os.pread(descriptor, min(size, CHUNK_BYTES), offset), os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def _write(path: str, offset: int, content: bytes, mode: int) -> None:
    """At offset 0 the file is made or emptied first, and the folders on the way are made."""
    flags = os.O_WRONLY if offset else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    folder = os.path.dirname(path)
    if folder and not offset:
        os.makedirs(folder, exist_ok=True)
    descriptor = _open(path, flags, mode)
    try:
        done = 0
        while done < len(content):
            done += os.pwrite(descriptor, content[done:], offset + done)
    finally:
        os.close(descriptor)


def _open(path: str, flags: int, mode: int = 0o644) -> int:
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, mode)
    found = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(found):
        os.close(descriptor)
        raise OSError(errno.EISDIR if stat.S_ISDIR(found) else errno.EINVAL, "not a regular file")
    return descriptor


def _list(path: str, after: str) -> tuple[list[dict[str, Any]], str]:
    """One page in order of names, and where the next begins: the last name in hexadecimal, whatever bytes it has.

    Names that are no UTF-8 are shown with replacement characters.
    """
    last = os.fsdecode(bytes.fromhex(after))
    names = sorted(name for name in os.listdir(path) if name > last)
    found = []
    for name in names[:PAGE_ENTRIES]:
        try:
            found.append(_describe(os.path.join(path, name), name))
        except FileNotFoundError:
            continue  # gone since
    return found, os.fsencode(names[PAGE_ENTRIES - 1]).hex() if len(names) > PAGE_ENTRIES else ""


def _describe(path: str, name: str) -> dict[str, Any]:
    found = os.lstat(path)
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}
    return {
        "name": name.encode("utf-8", "replace").decode(),
        "kind": kinds.get(stat.S_IFMT(found.st_mode), "other"),
        "size_bytes": found.st_size,
        "mode": stat.S_IMODE(found.st_mode),
        "changed_s": found.st_mtime,
    }
