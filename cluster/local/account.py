"""Under which OS user a private server runs, and in which folder that user can keep its files.

PostgreSQL refuses to run as root, and no server should: where we are root they run as the account that their package
made, else as `nobody`. That account cannot enter folders below, say, `/root`: the files then lie in a folder of their
own under the system's temporary folder that outlives a reboot. Used by `cluster.local.rabbitmq` and `postgres`.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from cluster.local.errors import LocalServiceError

SHORT_LIVED_ROOT = Path("/tmp")  # noqa: S108 - everything below it is created 0700 and checked for its owner
LASTING_ROOT = Path("/var/tmp")  # noqa: S108 - the same


@dataclass(frozen=True, slots=True)
class Account:
    """An OS user to become."""

    name: str
    uid: int
    gid: int


def service_account(*preferred: str) -> Account | None:
    """The first of `preferred` that exists, else `nobody`; None where we are not root and stay who we are."""
    if os.geteuid() != 0:
        return None
    for name in (*preferred, "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise LocalServiceError("this machine has no unprivileged user to run a server as: create one named `nobody`")


def may_enter(folder: Path, account: Account | None) -> bool:
    """Whether `account` can reach `folder`: every folder above lets it pass (by mode bits only: the safe side)."""
    if account is None:
        return True
    for step in [folder, *folder.parents]:
        if not step.exists():
            continue
        found = step.stat()
        needed = stat.S_IXOTH
        if found.st_uid == account.uid:
            needed = stat.S_IXUSR
        elif found.st_gid == account.gid:
            needed = stat.S_IXGRP
        if not found.st_mode & needed:
            return False
    return True


def private_folder(folder: Path, account: Account | None) -> Path:
    """`folder`, or its stand-in where `account` cannot enter it, owned by `account` with mode 0700. Idempotent."""
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    target = folder
    if account is not None and not may_enter(folder.parent, account):
        target = stand_in(folder)
    # Others may write to the stand-in's parent: what lies there already must be ours and no link, or we would hand
    # over somebody's files and run a server on them.
    if target.is_symlink():
        raise LocalServiceError(f"{target} is a symbolic link: remove it")
    allowed = {os.geteuid()} | ({account.uid} if account else set())
    target.mkdir(mode=0o700, exist_ok=True)
    if target.lstat().st_uid not in allowed:
        raise LocalServiceError(f"{target} belongs to another user: remove it")
    if account is not None:
        os.chown(target, account.uid, account.gid)
    target.chmod(0o700)
    return target


def stand_in(folder: Path) -> Path:
    """Where the files of `folder` lie instead. The name depends on the path alone: a restart finds its data again."""
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    root = SHORT_LIVED_ROOT if folder.is_relative_to(SHORT_LIVED_ROOT) else LASTING_ROOT
    return root / f"sandpool-{folder.name}-{digest}"


def remove_folder(folder: Path) -> None:
    """Delete a folder and its stand-in, if they are there."""
    for target in (folder.absolute(), stand_in(folder.absolute())):
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)


def write_private(path: Path, text: str, account: Account | None, mode: int = 0o600) -> None:
    """Write one file that only `account` can read. Follows no link: we may be root, the folder is not."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
    with open(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, mode)
        if account is not None:
            os.fchown(descriptor, account.uid, account.gid)
        file.write(text)
