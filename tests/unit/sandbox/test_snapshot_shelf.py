"""Snapshots on disk: complete or not there, and only for the machine they were made on."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.sandbox.errors import SnapshotSpaceExhausted, SnapshotUnusable, SpecInvalid
from workers.sandbox.snapshot import META, SnapshotKey, SnapshotShelf, cpu_kind

KEY = SnapshotKey(image="a" * 64, runsc="20240729", platform="systrap", cpu="c" * 16)


def put(shelf: SnapshotShelf, name: str, content: bytes = b"memory") -> None:
    draft = shelf.draft(0)
    (draft / "pages.img").write_bytes(content)
    shelf.keep(draft, name, key=KEY, limits={"cpus": 1.0}, mounts=("/in",))


def test_what_was_kept_is_loaded_again(tmp_path: Path) -> None:
    shelf = SnapshotShelf(tmp_path)
    put(shelf, "one")
    loaded = shelf.load("one", usable_as=KEY)
    assert loaded is not None
    assert (loaded.meta.key, loaded.meta.mounts, loaded.size_bytes) == (KEY, ("/in",), 6)
    assert shelf.names() == ["one"]


def test_a_newer_snapshot_takes_the_place_of_the_older(tmp_path: Path) -> None:
    shelf = SnapshotShelf(tmp_path)
    put(shelf, "one", b"old")
    put(shelf, "one", b"newer")
    loaded = shelf.load("one")
    assert loaded is not None
    assert (loaded.folder / "pages.img").read_bytes() == b"newer"
    assert [entry.name for entry in tmp_path.iterdir()] == ["one"]


def test_a_discarded_draft_leaves_nothing(tmp_path: Path) -> None:
    shelf = SnapshotShelf(tmp_path)
    draft = shelf.draft(0)
    (draft / "half").write_bytes(b"x")
    shelf.discard(draft)
    assert list(tmp_path.iterdir()) == []


def test_drafts_of_a_dead_host_are_swept(tmp_path: Path) -> None:
    shelf = SnapshotShelf(tmp_path)
    put(shelf, "one")
    shelf.draft(0)
    assert shelf.sweep() == 1
    assert shelf.names() == ["one"]


def test_an_unknown_snapshot_is_none_and_cannot_be_deleted(tmp_path: Path) -> None:
    shelf = SnapshotShelf(tmp_path / "absent")
    assert shelf.load("one") is None
    assert shelf.delete("one") is False
    assert shelf.names() == []


def test_deleting_says_whether_it_was_there(tmp_path: Path) -> None:
    shelf = SnapshotShelf(tmp_path)
    put(shelf, "one")
    assert shelf.delete("one") is True
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["shorten", "remove", "meta", "format"])
def test_a_damaged_snapshot_is_unusable(tmp_path: Path, damage: str) -> None:
    shelf = SnapshotShelf(tmp_path)
    put(shelf, "one")
    folder = tmp_path / "one"
    match damage:
        case "shorten":
            (folder / "pages.img").write_bytes(b"mem")
        case "remove":
            (folder / "pages.img").unlink()
        case "meta":
            (folder / META).write_text("{")
        case "format":
            (folder / META).write_text((folder / META).read_text().replace('"format":1', '"format":2'))
    with pytest.raises(SnapshotUnusable):
        shelf.load("one")


@pytest.mark.parametrize("field", ["image", "runsc", "platform", "cpu"])
def test_a_snapshot_for_another_machine_is_unusable(tmp_path: Path, field: str) -> None:
    shelf = SnapshotShelf(tmp_path)
    put(shelf, "one")
    other = SnapshotKey(**{**{name: getattr(KEY, name) for name in KEY.__struct_fields__}, field: "other"})
    with pytest.raises(SnapshotUnusable, match=field):
        shelf.load("one", usable_as=other)
    assert other.digest() != KEY.digest()


def test_a_full_disk_is_noticed_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(SnapshotSpaceExhausted):
        SnapshotShelf(tmp_path).draft(1 << 60)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "..", "a/b", ".draft-x", "A"])
def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SpecInvalid):
        SnapshotShelf(tmp_path).load(name)


CPU = "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\ncpu MHz\t\t: {mhz}\nflags\t\t: {flags}\n"


@given(st.permutations(["fpu", "sse", "avx2", "avx512f"]), st.floats(800, 5000))
def test_the_kind_of_a_cpu_is_its_features_and_not_its_clock(flags: list[str], mhz: float) -> None:
    reference = CPU.format(mhz=3000, flags="fpu sse avx2 avx512f")
    assert cpu_kind(CPU.format(mhz=mhz, flags=" ".join(flags)) + "\nprocessor\t: 1\n") == cpu_kind(reference)
    assert cpu_kind(CPU.format(mhz=mhz, flags=" ".join(flags[:-1]))) != cpu_kind(reference)
