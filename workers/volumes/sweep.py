"""Decides which objects of a volume nobody needs any more, and removes them.

`doomed` is pure: what lies under one job plus its record -> the keys to remove. `sweep` carries it out for a bounded
number of objects and says where the next pass goes on; the scheduler runs it now and then in a thread.

    there is a record     past its retain_until              data and audit trails, then the record
                          data that the record does not      removed LOSER_GRACE_S after they were written
                          name (losing attempts)
    there is none         data                               removed ORPHAN_GRACE_S after they were written
    it is corrupt         everything                         kept, for a human to look at
    snapshots             past their retain_until, broken    removed by the same rules (`snapshots`)
                          off while they were sent

An audit trail without a record (a person's proxy) is kept. Data goes before the record: while the record is there a
redelivered job is not run again. ORPHAN_GRACE_S is longer than any attempt may last (sandpool.job.MAX_TIMEOUT_S), so
what an attempt still writes is never taken from it. Objects that Sandpool did not name are never touched. Unfinished
writes have no names and are not seen here: see workers.volumes.draft for files; in object stores the bucket's own rule
for incomplete multipart uploads removes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sandpool.job import MAX_TIMEOUT_S
from sandpool.outcome import Outcome
from workers.errors import VolumeCorrupt
from workers.volumes.keys import (
    RECORD_NAME,
    SNAPSHOTS,
    parse_audit_key,
    parse_data_key,
    parse_record_key,
    snapshot_key,
)
from workers.volumes.objects import ObjectMeta
from workers.volumes.record import read_record
from workers.volumes.snapshots import by_snapshot, doomed_files, read_kept
from workers.volumes.store import Volume

LOSER_GRACE_S = 3600.0
ORPHAN_GRACE_S = MAX_TIMEOUT_S + 2 * 3600.0
MAX_OBJECTS = 10_000


@dataclass(frozen=True, slots=True)
class Swept:
    """What one pass did."""

    scanned: int
    removed: int
    corrupt: tuple[str, ...]
    """Keys of records that cannot be read; their jobs were left alone."""
    cursor: str | None
    """Pass it to the next call; None: the end of the volume was reached."""


def doomed(objects: Sequence[ObjectMeta], record: Outcome | None, now: datetime) -> list[str]:
    """The keys to remove, in this order, among the objects of one job; `record` is what its record says."""
    parts = [meta for meta in objects if parse_data_key(meta.key)]
    if record is None:
        return [meta.key for meta in parts if _is_older(meta, ORPHAN_GRACE_S, now)]
    if record.retain_until is not None and record.retain_until <= now:
        trails = [meta.key for meta in objects if parse_audit_key(meta.key)]
        records = [meta.key for meta in objects if parse_record_key(meta.key)]
        return [meta.key for meta in parts] + trails + records
    named = record.keys()
    return [meta.key for meta in parts if meta.key not in named and _is_older(meta, LOSER_GRACE_S, now)]


def sweep(volume: Volume, now: datetime, *, cursor: str = "", max_objects: int = MAX_OBJECTS) -> Swept:
    """One pass over about `max_objects` objects from `cursor` on: it ends at the first job behind that many.

    Blocking. Raises VolumeUnavailable; what was removed before stays removed, the next pass finds the rest.
    """
    scanned = removed = 0
    corrupt: list[str] = []
    last = cursor
    for job, objects in _by_job(volume.list(start_after=cursor)):
        if scanned >= max_objects:
            return Swept(scanned, removed, tuple(corrupt), last)
        # "0" is the byte after "/": everything of this job sorts before it.
        last = f"{job}0"
        scanned += len(objects)
        if job.endswith(f"/{SNAPSHOTS}"):
            removed += _sweep_snapshots(volume, objects, now, corrupt)
            continue
        try:
            record = _record_of(volume, objects)
            keys = doomed(objects, record, now)
            if keys and record is None and _record_now(volume, objects) is not None:
                # Recorded since the listing: those parts may be its result. The next pass knows.
                continue
        except VolumeCorrupt:
            corrupt.extend(meta.key for meta in objects if parse_record_key(meta.key))
            continue
        volume.delete(keys)
        removed += len(keys)
    return Swept(scanned, removed, tuple(corrupt), None)


def _sweep_snapshots(volume: Volume, objects: Sequence[ObjectMeta], now: datetime, corrupt: list[str]) -> int:
    """How many objects of one tenant's snapshots were removed."""
    removed = 0
    for (tenant, snapshot_id), own in by_snapshot(objects).items():
        try:
            keys = doomed_files(own, read_kept(volume, tenant, snapshot_id), now, ORPHAN_GRACE_S)
        except VolumeCorrupt:
            corrupt.append(snapshot_key(tenant, snapshot_id, RECORD_NAME))
            continue
        volume.delete(keys)
        removed += len(keys)
    return removed


def _by_job(listing: Iterator[ObjectMeta]) -> Iterator[tuple[str, list[ObjectMeta]]]:
    """(`tenant/job`, its objects): byte order keeps the objects of one job together."""
    job, objects = "", list[ObjectMeta]()
    for meta in listing:
        name = "/".join(meta.key.split("/", 2)[:2])
        if objects and name != job:
            yield job, objects
            objects = []
        job = name
        objects.append(meta)
    if objects:
        yield job, objects


def _record_of(volume: Volume, objects: Sequence[ObjectMeta]) -> Outcome | None:
    names = [name for name in (parse_record_key(meta.key) for meta in objects) if name]
    return read_record(volume, names[0].tenant, names[0].job_id) if names else None


def _record_now(volume: Volume, objects: Sequence[ObjectMeta]) -> Outcome | None:
    names = [name for name in (parse_data_key(meta.key) for meta in objects) if name]
    return read_record(volume, names[0].tenant, names[0].job_id) if names else None


def _is_older(meta: ObjectMeta, grace_s: float, now: datetime) -> bool:
    return now - meta.modified_at > timedelta(seconds=grace_s)
