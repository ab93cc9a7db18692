"""What the sweeper may remove of snapshots that were sent into a volume, decided and done."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.sandbox.snapshot import Snapshot, SnapshotKey, SnapshotShelf
from workers.sandbox.transfer import read_manifest, send
from workers.volumes.keys import parse_snapshot_key, snapshot_key
from workers.volumes.objects import ObjectMeta
from workers.volumes.snapshots import Kept, doomed_files
from workers.volumes.spec import VolumeSpec
from workers.volumes.store import Volume, open_volume
from workers.volumes.sweep import ORPHAN_GRACE_S, sweep

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
KEY = SnapshotKey(image="1" * 64, runsc="20240729", platform="systrap", cpu="2" * 16)


@given(
    ages_s=st.lists(st.sampled_from([-60.0, 0.0, ORPHAN_GRACE_S, ORPHAN_GRACE_S + 1]), min_size=1, max_size=4),
    kept_s=st.one_of(st.none(), st.just("for ever"), st.sampled_from([-1.0, 0.0, 1.0])),
)
def test_only_what_is_past_its_time_or_has_no_manifest_for_long_goes(
    ages_s: list[float], kept_s: float | str | None
) -> None:
    objects = [
        ObjectMeta(snapshot_key("a/../b", "sn-1", f"f{number}.img"), 1, NOW - timedelta(seconds=age_s))
        for number, age_s in enumerate(ages_s)
    ]
    kept = None
    if kept_s is not None:
        kept = Kept(NOW + timedelta(seconds=kept_s) if isinstance(kept_s, float) else None)
        objects.append(ObjectMeta(snapshot_key("a/../b", "sn-1", "manifest.json"), 1, NOW))
    keys = doomed_files(objects, kept, NOW, ORPHAN_GRACE_S)
    if kept is None:
        assert keys == [meta.key for meta, age_s in zip(objects, ages_s, strict=True) if age_s > ORPHAN_GRACE_S]
    elif isinstance(kept_s, float) and kept_s <= 0:
        assert keys == [objects[-1].key]
    else:
        assert keys == []


@given(st.text(max_size=20), st.text(max_size=10))
def test_only_a_key_of_ours_is_a_snapshots(tenant: str, name: str) -> None:
    found = parse_snapshot_key(f"{tenant}/_snapshots/{name}/f.img")
    assert found is None or snapshot_key(found.tenant, found.snapshot_id, found.file) == (
        f"{tenant}/_snapshots/{name}/f.img"
    )


@pytest.fixture(params=["memory", "file"])
def volume(request: pytest.FixtureRequest, tmp_path: Path) -> Volume:
    url = f"memory:///{uuid4().hex}" if request.param == "memory" else (tmp_path / "volume").as_uri()
    return open_volume(VolumeSpec(name="results", url=url))


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    shelf = SnapshotShelf(tmp_path / "shelf")
    draft = shelf.draft(0)
    (draft / "checkpoint.img").write_bytes(b"memory")
    return shelf.keep(draft, "saved-sn-1", key=KEY, limits={}, mounts=())


def test_a_pushed_snapshot_is_swept_when_its_retention_is_over_and_renewed_when_it_is_pushed_again(
    volume: Volume, snapshot: Snapshot
) -> None:
    volume.create("acme/_snapshots/notes.txt", b"not ours")
    now = datetime.now(UTC)
    for tenant, retention_s in (("acme", 60), ("b", None), ("c", 60)):
        send(snapshot, volume, tenant, "sn-1", retention_s=retention_s)
    send(snapshot, volume, "c", "sn-1", retention_s=30 * 86_400)
    later = now + timedelta(seconds=120)
    assert (sweep(volume, now).removed, sweep(volume, later).removed) == (0, 1)
    assert [read_manifest(volume, tenant, "sn-1") is not None for tenant in ("acme", "b", "c")] == [False, True, True]
    assert (sweep(volume, later).removed, len(list(volume.list("acme/_snapshots/")))) == (0, 2)
    assert sweep(volume, now + timedelta(seconds=ORPHAN_GRACE_S + 60)).removed == 1
    assert [meta.key for meta in volume.list("acme/")] == ["acme/_snapshots/notes.txt"]
    send(snapshot, volume, "acme", "sn-1", retention_s=60)
    assert read_manifest(volume, "acme", "sn-1") is not None
    fetched = bytearray()
    assert volume.fetch(snapshot_key("acme", "sn-1", "checkpoint.img"), fetched.extend) == 6


def test_a_manifest_that_cannot_be_read_is_reported_and_its_files_are_left_alone(
    volume: Volume, snapshot: Snapshot
) -> None:
    send(snapshot, volume, "acme", "sn-1")
    manifest = snapshot_key("acme", "sn-1", "manifest.json")
    for content in (b"{", b'{"retain_until": 5}', b'{"retain_until": "2001-01-01T00:00:00"}'):
        volume.delete([manifest])
        volume.create(manifest, content)
        swept = sweep(volume, datetime.now(UTC) + timedelta(days=3650))
        assert (swept.removed, swept.corrupt) == (0, (manifest,))
    send(snapshot, volume, "acme", "sn-1")  # sent again, it is whole
    assert read_manifest(volume, "acme", "sn-1") is not None
