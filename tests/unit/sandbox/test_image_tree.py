"""Finishing a root filesystem: what is put in, what is taken out, and never through a link."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from workers.images import tree
from workers.images.errors import ImageBuildFailed
from workers.images.recipe import User
from workers.sandbox.bundle import MOUNT_POINTS


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    root = tmp_path / "rootfs"
    (root / "etc/apt").mkdir(parents=True)
    (root / "usr/bin").mkdir(parents=True)
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (root / "etc/apt/sources.list").write_text("deb http://mirror/ bookworm main\n")
    (root / "usr/bin/su").write_text("#!/bin/sh\n")
    (root / "usr/bin/su").chmod(0o6755)
    os.mkfifo(root / "usr/bin/pipe")
    os.symlink("/etc/passwd", root / "etc/link")
    return root


def test_a_finished_tree_has_what_sandboxes_need(rootfs: Path) -> None:
    tree.finish(rootfs, User())
    assert all(
        (rootfs / path.lstrip("/")).is_dir() for path in (*MOUNT_POINTS, "/tmp", "/home/sandpool", "/proc", "/dev")
    )
    assert "sandpool:x:10000:10000::/home/sandpool:/bin/sh\n" in (rootfs / "etc/passwd").read_text()
    assert stat.S_IMODE((rootfs / "tmp").stat().st_mode) == 0o1777


def test_a_finished_tree_has_nothing_dangerous(rootfs: Path) -> None:
    tree.finish(rootfs, User())
    assert stat.S_IMODE((rootfs / "usr/bin/su").stat().st_mode) == 0o755
    assert not (rootfs / "usr/bin/pipe").exists()
    assert not (rootfs / "etc/apt/sources.list").exists()
    assert {path.lstat().st_mtime for path in tree.walk(rootfs)} == {tree.SOURCE_DATE_EPOCH}


def test_finishing_twice_changes_nothing(rootfs: Path) -> None:
    tree.finish(rootfs, User())
    once = tree.content_digest(rootfs)
    tree.finish(rootfs, User())
    assert tree.content_digest(rootfs) == once


def test_finishing_a_copy_by_links_leaves_the_original_alone(rootfs: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    (rootfs / "usr/bin/pipe").unlink()
    before = (rootfs / "etc/passwd").read_text()
    tree.copy_by_links(rootfs, copy)
    assert (copy / "usr/bin/su").stat().st_ino == (rootfs / "usr/bin/su").stat().st_ino
    tree.finish(copy, User())
    assert (rootfs / "etc/passwd").read_text() == before
    assert (rootfs / "etc/apt/sources.list").exists()
    assert os.readlink(copy / "etc/link") == "/etc/passwd"


@pytest.mark.parametrize("name", ["etc", "var", "tmp", "opt", "home", "in"])
def test_a_link_in_place_of_a_folder_is_never_followed(rootfs: Path, tmp_path: Path, name: str) -> None:
    """An imported image may say that /var is a link to the host's own /var."""
    outside = tmp_path / "outside"
    for path in ("log", "lib/apt/lists", "passwd"):
        (outside / path).mkdir(parents=True)
    if (rootfs / name).exists():
        (rootfs / name).rename(rootfs / "aside")
    os.symlink(outside, rootfs / name)
    before = tree.content_digest(outside)
    with pytest.raises(ImageBuildFailed, match="has to be a folder"):
        tree.finish(rootfs, User())
    assert tree.content_digest(outside) == before


def test_the_digest_of_a_tree_is_its_content(rootfs: Path, tmp_path: Path) -> None:
    (rootfs / "usr/bin/pipe").unlink()
    digest, size_bytes = tree.content_digest(rootfs)
    assert size_bytes == sum(
        path.stat().st_size for path in rootfs.rglob("*") if path.is_file() and not path.is_symlink()
    )
    os.utime(rootfs / "etc/passwd", (1, 1))
    assert tree.content_digest(rootfs)[0] == digest
    (rootfs / "etc/passwd").chmod(0o600)
    assert tree.content_digest(rootfs)[0] != digest
