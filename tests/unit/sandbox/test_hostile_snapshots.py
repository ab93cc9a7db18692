"""What an attacker who can write to a volume, or a snapshot's folder, may try with a snapshot's manifest and record."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.sandbox.errors import SnapshotUnusable, SpecInvalid
from workers.sandbox.kept_files import Brought, check_files
from workers.sandbox.limits import Limits
from workers.sandbox.records import MOST_FILES, read_record
from workers.sandbox.snapshot import Snapshot
from workers.sandbox.task import DatabaseFile, Input
from workers.sandbox.transfer import read_manifest
from workers.volumes.keys import snapshot_key
from workers.volumes.spec import VolumeSpec
from workers.volumes.store import Volume, open_volume

ID = "sn-" + "0" * 20
KEY = snapshot_key("acme", ID, "manifest.json")


@pytest.fixture(scope="module")
def volume() -> Volume:
    return open_volume(VolumeSpec(name="v", url=f"memory:///{uuid4().hex}"))


def manifest(**changes: Any) -> dict[str, Any]:
    note = {
        "use": "saved", "id": ID, "tenant": "acme", "image": f"base@{'1' * 64}", "limits": Limits().as_dict(),
        "created_at_s": 1.0,
    }  # fmt: skip
    key = {"image": "1" * 64, "runsc": "20240729", "platform": "systrap", "cpu": "2" * 16}
    files = changes.pop("files", {"pages.img": 1})
    note |= changes.pop("note", {})
    meta = {"key": key, "limits": Limits().as_dict(), "mounts": [], "files": files, "note": note}
    return {"meta": meta, "digests": dict.fromkeys(files, "3" * 64), **changes}


def put(volume: Volume, content: bytes) -> None:
    volume.delete([KEY])
    volume.create(KEY, content)


def test_a_manifest_as_we_write_it_is_read(volume: Volume) -> None:
    put(volume, json.dumps(manifest()).encode())
    found = read_manifest(volume, "acme", ID)
    assert found is not None and found.meta.files == {"pages.img": 1}


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(manifest(files={"a.img": 10**12, "b.img": -(10**12)})).encode(),  # no room needed, it says
        json.dumps(manifest(files={"a.img": 2**63})).encode(),
        json.dumps(manifest())
        .encode()
        .replace(b'"note": {', b'"note": {"x": ' + b"[" * 50_000 + b"]" * 50_000 + b", "),
        json.dumps(manifest()).encode().replace(b"systrap", b"\xff\xfe"),
        json.dumps(manifest(files={"../../etc/cron.d/x.img": 1})).encode(),
        json.dumps(manifest(files={"a.img\n": 1})).encode(),
        b"[" * 100_000,
        b"",
    ],
)
def test_a_manifest_that_we_never_write_is_unusable_and_nothing_else(volume: Volume, content: bytes) -> None:
    put(volume, content)
    with pytest.raises(SnapshotUnusable):
        read_manifest(volume, "acme", ID)


@given(content=st.binary(max_size=200))
def test_any_bytes_in_its_place_are_unusable_and_nothing_else(volume: Volume, content: bytes) -> None:
    put(volume, content)
    with pytest.raises(SnapshotUnusable):
        read_manifest(volume, "acme", ID)


@pytest.mark.parametrize(
    "note",
    [
        {"created_at_s": 1e12},  # a year that no calendar of ours has: listings would fail
        {"expires_at_s": 1e12},
        {"label": "x" * 201},
        {"files": [{"name": "a", "engine": "sqlite", "source": {"path": "x", "volume": "v", "key": "k"}}] * 17},
        {"files": [{"name": "a", "engine": "perl", "source": {"path": "x", "volume": "v", "key": "k"}}]},
    ],
)
def test_a_record_that_could_break_whoever_lists_it_is_refused(
    volume: Volume, note: dict[str, Any], tmp_path: Any
) -> None:
    put(volume, json.dumps(manifest(note=note)).encode())
    found = read_manifest(volume, "acme", ID)
    assert found is not None
    with pytest.raises(SnapshotUnusable):
        read_record(Snapshot(name=f"saved-{ID}", folder=tmp_path, meta=found.meta))


def test_more_files_than_a_record_can_name_are_refused_before_anything_is_brought() -> None:
    file = DatabaseFile("a", "sqlite", Input("databases/a", "v", "k"))
    check_files(Brought((file,) * MOST_FILES))
    with pytest.raises(SpecInvalid):
        check_files(Brought((file,) * (MOST_FILES + 1)))
