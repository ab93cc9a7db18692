"""Decides what the layers of an OCI archive amount to: tar members in, one tree out. No file is opened or written
here.

Called by `archive`; `importing` writes the result. Refused: a path with `..`, a device or pipe, a name below a
symbolic link, a hard link to nothing, more files or bytes than an image may have. Whiteouts follow the OCI image
specification (`.wh.NAME` hides a name of lower layers, `.wh..wh..opq` everything of them in a folder). Symbolic links
are kept as they stand and never followed. Linear in the number of members: a crafted archive cannot make it slow.
"""

from __future__ import annotations

import stat
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from workers.images.errors import ArchiveInvalid

MAX_ENTRIES = 500_000
MAX_CONTENT_BYTES = 32 * 1024**3
MAX_DEPTH = 64
MAX_NAME_BYTES = 255
WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"


@dataclass(frozen=True, kw_only=True)
class File:
    """A regular file. Hard links are the same `File`: its content lies in `layer` under `member`."""

    mode: int
    uid: int
    size_bytes: int
    layer: int
    member: str


@dataclass(frozen=True, kw_only=True)
class Link:
    """A symbolic link, its target as it stands in the archive."""

    target: str


@dataclass(kw_only=True)
class Folder:
    mode: int = 0o755
    uid: int = 0
    children: dict[str, Node] = field(default_factory=dict)


Node = File | Link | Folder


class Merger:
    """Lay layers over `root`, lowest first."""

    def __init__(self) -> None:
        self.root = Folder()
        self._entries = 0
        self._size_bytes = 0

    def lay_over(self, layer: Iterable[tarfile.TarInfo], number: int) -> None:
        """One layer. Its whiteouts concern what lower layers have, wherever in this layer they stand."""
        members: list[tuple[PurePosixPath, tarfile.TarInfo]] = []
        for member in layer:
            self._count(member)
            path = safe_path(member.name)
            if path.name == OPAQUE:
                self._hide_children(path.parent)
            elif path.name.startswith(WHITEOUT):
                self._hide(path.with_name(_hidden_name(path)))
            elif path.parts:
                members.append((path, member))
        for path, member in members:
            self._put(path, member, number)

    def _put(self, path: PurePosixPath, member: tarfile.TarInfo, number: int) -> None:
        parent = self._make_folders(path.parent)
        old = parent.children.get(path.name)
        mode = stat.S_IMODE(member.mode) & 0o1777  # no setuid, no setgid
        if member.isdir():
            children = old.children if isinstance(old, Folder) else {}
            parent.children[path.name] = Folder(mode=mode, uid=member.uid, children=children)
        elif member.issym():
            parent.children[path.name] = Link(target=member.linkname)
        elif member.isreg():
            parent.children[path.name] = File(
                mode=mode & 0o777, uid=member.uid, size_bytes=member.size, layer=number, member=member.name
            )
        elif member.islnk():
            parent.children[path.name] = self._original(member)
        else:
            hint = "images hold files, folders and links only"
            raise ArchiveInvalid(f"{member.name[:200]!r} is a device, a pipe or of an unknown kind", hint=hint)

    def _original(self, member: tarfile.TarInfo) -> File | Link:
        node = self._find(safe_path(member.linkname))
        if node is None or isinstance(node, Folder):
            raise ArchiveInvalid(f"{member.name[:200]!r} is a hard link to nothing")
        return node

    def _make_folders(self, path: PurePosixPath) -> Folder:
        """The folder at `path`; steps that the archive leaves out are made. A link on the way would lead elsewhere."""
        folder = self.root
        for part in path.parts:
            node = folder.children.setdefault(part, Folder())
            if not isinstance(node, Folder):
                hint = "export the image as a plain OCI archive"
                raise ArchiveInvalid(f"{str(path)[:200]!r} is used as a folder and is none", hint=hint)
            folder = node
        return folder

    def _find(self, path: PurePosixPath) -> Node | None:
        node: Node | None = self.root
        for part in path.parts:
            node = node.children.get(part) if isinstance(node, Folder) else None
        return node

    def _hide(self, path: PurePosixPath) -> None:
        parent = self._find(path.parent)
        if isinstance(parent, Folder):
            parent.children.pop(path.name, None)

    def _hide_children(self, path: PurePosixPath) -> None:
        folder = self._find(path)
        if isinstance(folder, Folder):
            folder.children.clear()

    def _count(self, member: tarfile.TarInfo) -> None:
        self._entries += 1
        self._size_bytes += max(0, member.size)
        if self._entries > MAX_ENTRIES or self._size_bytes > MAX_CONTENT_BYTES:
            raise ArchiveInvalid(f"more than {MAX_ENTRIES} files or {MAX_CONTENT_BYTES >> 30} GiB")


def safe_path(name: str) -> PurePosixPath:
    """A member's name as a path below the root.

    An absolute one means the root, as every tool takes it. ArchiveInvalid.
    """
    path = PurePosixPath(name.lstrip("/"))
    sizes = [len(part.encode("utf-8", "surrogateescape")) for part in path.parts]
    if ".." in path.parts or "\0" in name or len(sizes) > MAX_DEPTH or max(sizes, default=0) > MAX_NAME_BYTES:
        raise ArchiveInvalid(f"{name[:200]!r} is no path that an image may hold")
    return path


def _hidden_name(path: PurePosixPath) -> str:
    name = path.name.removeprefix(WHITEOUT)
    if name in ("", ".", ".."):
        raise ArchiveInvalid(f"{str(path)[:200]!r} hides nothing")
    return name
