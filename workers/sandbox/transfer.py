"""Snapshots into a volume and back, piece by piece: what another host of the same kind of CPU can go on with.

    <tenant>/_snapshots/<id>/<file>             runsc's files, as they are
    <tenant>/_snapshots/<id>/manifest.json      written last: what it is, and the SHA-256 of every file

Called by `archive`. Memory stays flat however large a snapshot is. Whatever comes out of a volume is checked: names,
sizes and digests against the manifest, the manifest by its schema; what it says of itself is checked by `records`.
Blocking.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from workers.sandbox.errors import SnapshotUnusable
from workers.sandbox.snapshot import META, Snapshot, SnapshotMeta
from workers.volumes.keys import snapshot_key
from workers.volumes.store import Volume

PIECE_BYTES = 1 << 20
MANIFEST = "manifest.json"
MANIFEST_BYTES = 256 * 1024
FileName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9_]{1,64}\.img\Z")]
"""As runsc names them."""
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: Literal[1] = 1
    meta: SnapshotMeta
    digests: Annotated[dict[FileName, Sha256], msgspec.Meta(min_length=1, max_length=16)]
    retain_until: datetime | None = None
    """When the sweeper of volumes removes it (`workers.volumes.snapshots`); None: never."""


def send(
    snapshot: Snapshot,
    volume: Volume,
    tenant: str,
    snapshot_id: str,
    *,
    anew: bool = False,
    retention_s: int | None = None,
) -> None:
    """Raises VolumeError. Sent twice, it is there once, and kept for as long from then; `anew`: what is there already
    is replaced. `retention_s`: how long it is kept; None: until somebody removes it."""
    manifest_key = snapshot_key(tenant, snapshot_id, MANIFEST)
    now = datetime.now(UTC)
    retain_until = None if retention_s is None else now + timedelta(seconds=retention_s)
    try:
        found = read_manifest(volume, tenant, snapshot_id)
    except SnapshotUnusable:
        found, anew = None, True
    if found is not None and not anew and (found.retain_until is None or found.retain_until > now):
        if retain_until != found.retain_until:
            volume.delete([manifest_key])
            volume.create(manifest_key, msgspec.json.encode(msgspec.structs.replace(found, retain_until=retain_until)))
        return
    volume.delete([manifest_key])  # first: nobody shall find it beside files that change
    keys = {name: snapshot_key(tenant, snapshot_id, name) for name in snapshot.meta.files if name != META}
    volume.delete(keys.values())  # of an attempt that broke off: without a manifest nobody reads them
    digests = {name: _send_file(snapshot.folder / name, volume, key) for name, key in keys.items()}
    manifest = Manifest(meta=snapshot.meta, digests=digests, retain_until=retain_until)
    volume.create(manifest_key, msgspec.json.encode(manifest))


def read_manifest(volume: Volume, tenant: str, snapshot_id: str) -> Manifest | None:
    """None when there is no such snapshot. Raises SnapshotUnusable, VolumeError."""
    content = volume.get(snapshot_key(tenant, snapshot_id, MANIFEST), limit_bytes=MANIFEST_BYTES)
    if content is None:
        return None
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise _unusable(str(error)) from error
    if set(manifest.digests) != set(manifest.meta.files) - {META}:
        raise _unusable("the manifest names other files than the snapshot")
    return manifest


def fetch_files(manifest: Manifest, volume: Volume, tenant: str, snapshot_id: str, folder: Path) -> None:
    """Every file of the snapshot into the empty `folder`. Raises SnapshotUnusable, VolumeError, OSError."""
    for name, digest in manifest.digests.items():
        _fetch_file(volume, snapshot_key(tenant, snapshot_id, name), folder / name, manifest.meta.files[name], digest)


def _send_file(file: Path, volume: Volume, key: str) -> str:
    digest = hashlib.sha256()
    writer = volume.open_writer(key)
    try:
        with file.open("rb") as content:
            while piece := content.read(PIECE_BYTES):
                digest.update(piece)
                writer.write(piece)
        writer.close()
    except BaseException:
        writer.abort()
        raise
    return digest.hexdigest()


def _fetch_file(volume: Volume, key: str, file: Path, size_bytes: int, expected: str) -> None:
    digest, done = hashlib.sha256(), 0
    with file.open("xb") as target:

        def write(piece: bytes) -> None:
            nonlocal done
            done += len(piece)
            if done > size_bytes:
                raise _unusable(f"{file.name} is larger than its manifest says")
            digest.update(piece)
            target.write(piece)

        found = volume.fetch(key, write)
    if found is None or done != size_bytes or digest.hexdigest() != expected:
        raise _unusable(f"{file.name} is not what its manifest says")


def _unusable(detail: str) -> SnapshotUnusable:
    return SnapshotUnusable("what the volume holds is no usable snapshot", hint="send it again", detail=detail)
