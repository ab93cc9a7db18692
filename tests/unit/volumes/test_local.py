"""A file:// volume against what others put into its folder, against dead writers, and its modes."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from workers.errors import VolumeCorrupt, VolumeUnavailable
from workers.volumes.draft import INCOMING, INCOMING_GRACE_S
from workers.volumes.local import LocalVolume
from workers.volumes.spec import VolumeSpec
from workers.volumes.store import open_volume


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "volume"


@pytest.fixture
def volume(root: Path) -> LocalVolume:
    volume = open_volume(VolumeSpec(name="results", url=root.as_uri()))
    assert isinstance(volume, LocalVolume)
    return volume


def test_files_and_folders_are_closed_to_strangers(volume: LocalVolume, root: Path) -> None:
    before = os.umask(0)
    try:
        volume.create("t/j/manifest.json", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((root / "t/j/manifest.json").stat().st_mode) == 0o640
    assert stat.S_IMODE((root / "t/j").stat().st_mode) == 0o750
    assert stat.S_IMODE((root / "t").stat().st_mode) == 0o750


def test_the_umask_narrows_further(volume: LocalVolume, root: Path) -> None:
    before = os.umask(0o077)
    try:
        volume.create("t/manifest.json", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((root / "t/manifest.json").stat().st_mode) == 0o600


def test_a_linked_folder_is_never_entered(volume: LocalVolume, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (root / "t").mkdir()
    (root / "t" / "j").symlink_to(outside)
    for call in (
        lambda: volume.get("t/j/secret"),
        lambda: volume.create("t/j/new", b"x"),
        lambda: volume.open_writer("t/j/new"),
        lambda: volume.delete(["t/j/secret"]),
        lambda: list(volume.list("t/j/")),
    ):
        with pytest.raises(VolumeCorrupt):
            call()
    assert list(volume.list()) == []
    assert [entry.name for entry in outside.iterdir()] == ["secret"]


def test_a_linked_file_is_never_read_and_never_written_through(volume: LocalVolume, root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    volume.create("t/a", b"x")
    (root / "t" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(VolumeCorrupt):
        volume.get("t/link")
    assert not volume.create("t/link", b"mine")
    assert [meta.key for meta in volume.list()] == ["t/a"]
    volume.delete(["t/link"])
    assert (tmp_path / "secret").read_bytes() == b"secret"


def test_a_dangling_link_cannot_make_a_file_elsewhere(volume: LocalVolume, root: Path, tmp_path: Path) -> None:
    volume.create("t/a", b"x")
    (root / "t" / "link").symlink_to(tmp_path / "made-by-mistake")
    assert not volume.create("t/link", b"mine")
    assert not (tmp_path / "made-by-mistake").exists()


def test_a_root_that_is_a_link_is_the_administrators_choice(root: Path, tmp_path: Path, volume: LocalVolume) -> None:
    (tmp_path / "alias").symlink_to(root)
    open_volume(VolumeSpec(name="results", url=(tmp_path / "alias").as_uri())).create("t/a", b"x")
    assert volume.get("t/a") == b"x"


def test_a_pipe_in_the_tree_neither_hangs_nor_counts(volume: LocalVolume, root: Path) -> None:
    volume.create("t/a", b"x")
    os.mkfifo(root / "t" / "pipe")
    with pytest.raises(VolumeCorrupt):
        volume.get("t/pipe")
    assert [meta.key for meta in volume.list()] == ["t/a"]


def test_a_file_where_a_folder_should_be_is_corrupt(volume: LocalVolume) -> None:
    volume.create("t/j", b"x")
    with pytest.raises(VolumeCorrupt):
        volume.create("t/j/manifest.json", b"x")


def test_a_vanished_root_is_unavailable_and_not_made_again(volume: LocalVolume, root: Path) -> None:
    root.rename(root.with_name("elsewhere"))
    for call in (lambda: volume.get("t/a"), lambda: volume.create("t/a", b"x"), lambda: list(volume.list())):
        with pytest.raises(VolumeUnavailable) as caught:
            call()
        assert caught.value.hint
        assert str(root) not in str(caught.value)
    assert not root.exists()


def test_deleting_the_last_object_removes_its_empty_folders(volume: LocalVolume, root: Path) -> None:
    volume.create("t/j/1-a/part-00000.parquet", b"x")
    volume.create("t/k/manifest.json", b"x")
    volume.delete(["t/j/1-a/part-00000.parquet"])
    assert sorted(path.name for path in root.rglob("*")) == ["k", "manifest.json", "t"]


def test_a_create_survives_the_removal_of_its_folder_under_it(volume: LocalVolume) -> None:
    writer = volume.open_writer("t/j/manifest.json")
    writer.write(b"x")
    # A sweeper that empties the job at this very moment.
    volume.create("t/j/other", b"")
    volume.delete(["t/j/other"])
    writer.close()
    assert volume.get("t/j/manifest.json") == b"x"


def test_closing_onto_a_taken_name_is_an_error(volume: LocalVolume) -> None:
    writer = volume.open_writer("t/a")
    volume.create("t/a", b"first")
    with pytest.raises(VolumeCorrupt):
        writer.close()
    assert volume.get("t/a") == b"first"


def test_many_writes_leave_no_descriptor_open(volume: LocalVolume) -> None:
    volume.create("t/warm/up", b"x")
    before = len(os.listdir("/proc/self/fd"))
    for unnamed in (True, False):
        volume.unnamed_files = unnamed
        for number in range(20):
            volume.create(f"t/{unnamed}{number}/a", b"x")
            volume.create(f"t/{unnamed}{number}/a", b"x")
            volume.get(f"t/{unnamed}{number}/a")
            volume.get(f"t/{unnamed}{number}/b/c")
            volume.open_writer(f"t/{unnamed}{number}/w").abort()
            next(volume.list())
            volume.delete([f"t/{unnamed}{number}/a"])
    assert len(os.listdir("/proc/self/fd")) == before


def test_drafts_of_the_dead_are_swept_and_those_of_the_living_are_not(volume: LocalVolume, root: Path) -> None:
    volume.unnamed_files = False
    alive = volume.open_writer("t/alive")
    incoming = root / INCOMING
    (alive_name,) = [path.name for path in incoming.iterdir()]
    for name in ("1-dead", "1-young"):
        (incoming / name).write_bytes(b"x")
    old = time.time() - INCOMING_GRACE_S - 1
    os.utime(incoming / "1-dead", (old, old))
    os.utime(incoming / alive_name, (old, old))
    open_volume(VolumeSpec(name="results", url=root.as_uri()))
    assert sorted(path.name for path in incoming.iterdir()) == sorted(["1-young", alive_name])
    alive.close()
    assert volume.get("t/alive") == b""
    assert [path.name for path in incoming.iterdir()] == ["1-young"]


def test_drafts_are_no_objects(volume: LocalVolume) -> None:
    volume.unnamed_files = False
    volume.open_writer("t/a").write(b"x")
    assert list(volume.list()) == []
