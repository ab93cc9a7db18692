"""Decides which snapshots of sandboxes in a volume nobody needs any more: those past the time that they were sent for,
and files of which no manifest tells.

Called by `sweep`. Pure, but for reading how long a snapshot is kept. What a snapshot is made of is the business of
`workers.sandbox.transfer`; here only its manifest's `retain_until` counts. The manifest goes first, in a pass of its
own, so that nobody finds it beside files that are missing; the files go later, as files without one.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from workers.errors import VolumeCorrupt
from workers.volumes.keys import RECORD_NAME, parse_snapshot_key, snapshot_key
from workers.volumes.objects import ObjectMeta
from workers.volumes.store import Volume

MANIFEST_BYTES = 256 * 1024


class Kept(msgspec.Struct, frozen=True):
    """How long a manifest says that its snapshot is kept; None: for ever."""

    retain_until: datetime | None = None


def doomed_files(objects: Sequence[ObjectMeta], kept: Kept | None, now: datetime, grace_s: float) -> list[str]:
    """The keys to remove among the objects of one snapshot; `kept` is what its manifest says, None: it has none."""
    if kept is None:
        return [meta.key for meta in objects if now - meta.modified_at > timedelta(seconds=grace_s)]
    if kept.retain_until is None or kept.retain_until > now:
        return []
    return [meta.key for meta in objects if meta.key.endswith(f"/{RECORD_NAME}")]


def by_snapshot(objects: Sequence[ObjectMeta]) -> dict[tuple[str, str], list[ObjectMeta]]:
    """(tenant, id) -> its objects. What we did not name belongs to none."""
    found: dict[tuple[str, str], list[ObjectMeta]] = {}
    for meta in objects:
        if name := parse_snapshot_key(meta.key):
            found.setdefault((name.tenant, name.snapshot_id), []).append(meta)
    return found


def read_kept(volume: Volume, tenant: str, snapshot_id: str) -> Kept | None:
    """None when there is no manifest. Raises VolumeCorrupt, VolumeUnavailable."""
    key = snapshot_key(tenant, snapshot_id, RECORD_NAME)
    content = volume.get(key, limit_bytes=MANIFEST_BYTES)
    if content is None:
        return None
    try:
        kept = msgspec.json.decode(content, type=Kept)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise VolumeCorrupt(f"{key} is no manifest of a snapshot") from error
    if kept.retain_until is not None and kept.retain_until.tzinfo is None:
        raise VolumeCorrupt(f"{key} names a time without its zone")
    return kept
