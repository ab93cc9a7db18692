"""Makes an image of an OCI archive, so that users bring their own. Blocking; called by the command line.

The merged tree is written in an order that follows no link: folders, then files (never over anything), then symbolic
links last. Files belong to root or, where the archive says another owner, to the sandbox's user; the image's own user,
ports, volumes and entry point as root mean nothing here. No code of the archive runs.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from workers.images import tree
from workers.images.archive import Archive, open_archive
from workers.images.build import BUILD_TIMEOUT_S
from workers.images.errors import ArchiveInvalid, RecipeInvalid
from workers.images.merge import File, Folder, Link
from workers.images.recipe import BUILD_FORMAT, User, parse
from workers.images.store import BuiltImage, ImageStore, now
from workers.sandbox.bundle import MOUNT_POINTS
from workers.sandbox.errors import SpecInvalid
from workers.sandbox.limits import Limits

MAX_ENV = 256


def import_archive(
    store: ImageStore, path: Path, name: str, limits: dict[str, float | int] | None = None
) -> BuiltImage:
    """The image `name` from an OCI archive.

    One that is there already is only named. Raises ArchiveInvalid, RecipeInvalid.
    """
    user = User()
    _check_name(name)
    try:
        Limits.from_dict(dict(limits or {}))
    except SpecInvalid as error:
        raise RecipeInvalid(error.field, error.message) from error
    archive = open_archive(path)
    digest = hashlib.sha256(
        f"{BUILD_FORMAT} {MOUNT_POINTS} {name} {archive.digest} {sorted((limits or {}).items())}".encode()
    ).hexdigest()
    with store.locked(digest, BUILD_TIMEOUT_S):
        if store.has(digest):
            store.point(name, digest)
            return store.find(f"{name}@{digest}")
        with store.draft() as draft:
            rootfs = draft / "rootfs"
            _write_tree(archive, rootfs, user)
            tree.finish(rootfs, user)
            content, size_bytes = tree.content_digest(rootfs)
            built = BuiltImage(
                name=name,
                digest=digest,
                description=f"imported from {path.name[:100]}",
                built_at=now(),
                origin="archive",
                size_bytes=size_bytes,
                content=content,
                uid=user.uid,
                home=user.home,
                env=_environment(archive.config),
                command=_command(archive.config),
                limits=limits or {},
            )
            store.publish(draft, built)
            return built


def _write_tree(archive: Archive, rootfs: Path, user: User) -> None:
    root = archive.merge()
    _require_room(rootfs.parent, root)
    rootfs.mkdir()
    rootfs.chmod(0o755)
    wanted: dict[tuple[int, str], list[str]] = {}
    links: list[tuple[str, str]] = []
    owners: list[tuple[str, int, int]] = []
    for path, node in _walk(root, ""):
        match node:
            case Folder():
                (rootfs / path).mkdir()
                owners.append((path, node.uid, node.mode))
            case File():
                wanted.setdefault((node.layer, node.member), []).append(path)
                owners.append((path, node.uid, node.mode))
            case Link():
                links.append((path, node.target))
    for number in sorted({layer for layer, _ in wanted}):
        _write_layer(archive, number, rootfs, wanted)
    if wanted:
        raise ArchiveInvalid(f"{len(wanted)} files of the archive have no content", hint="export the image again")
    for path, uid, mode in owners:
        owner = user.uid if uid else 0
        os.chown(rootfs / path, owner, owner, follow_symlinks=False)
        (rootfs / path).chmod(mode)
    for path, target in links:
        os.symlink(target, rootfs / path)


def _write_layer(archive: Archive, number: int, rootfs: Path, wanted: dict[tuple[int, str], list[str]]) -> None:
    """Every wanted file of one layer, in one pass over it. A member that stands there twice: the last one counts."""
    last: dict[str, Path] = {}
    for member, content in archive.contents(number):
        paths = wanted.pop((number, member), [])
        if paths:
            last[member] = rootfs / paths[0]
            _copy(content, last[member])
            for other in paths[1:]:
                os.link(last[member], rootfs / other, follow_symlinks=False)
        elif member in last:
            _copy(content, last[member], again=True)


def _copy(content: IO[bytes], path: Path, *, again: bool = False) -> None:
    flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_TRUNC if again else os.O_CREAT | os.O_EXCL)
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        shutil.copyfileobj(content, file, 1024 * 1024)


def _walk(folder: Folder, prefix: str) -> Iterator[tuple[str, File | Link | Folder]]:
    for name, node in folder.children.items():
        path = f"{prefix}{name}"
        yield path, node
        if isinstance(node, Folder):
            yield from _walk(node, f"{path}/")


def _require_room(folder: Path, root: Folder) -> None:
    needed = sum({id(node): node.size_bytes for _, node in _walk(root, "") if isinstance(node, File)}.values())
    free = shutil.disk_usage(folder).free
    if needed * 1.1 > free:
        raise ArchiveInvalid(
            f"the image needs {needed >> 20} MiB of disk, {free >> 20} MiB are free", hint="free some space"
        )


def _environment(config: dict[str, Any]) -> dict[str, str]:
    entries = config.get("Env") or []
    if not isinstance(entries, list) or len(entries) > MAX_ENV:
        raise ArchiveInvalid("the environment of the image is no list, or too long")
    pairs = (str(entry).partition("=") for entry in entries)
    return {
        name: value
        for name, _, value in pairs
        if name.isidentifier() and name not in ("HOME", "USER") and "\0" not in value
    }


def _command(config: dict[str, Any]) -> tuple[str, ...]:
    parts = [*(config.get("Entrypoint") or []), *(config.get("Cmd") or [])]
    return tuple(str(part) for part in parts)


def _check_name(name: str) -> None:
    parse({"name": name, "base": {"suite": "none"}}, "")
