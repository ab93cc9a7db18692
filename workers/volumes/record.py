"""The exactly-once: a job's outcome, recorded by one create-only put. Whoever creates it first has ended the job.

Called by the scheduler (record, adopt), by cancellation, by the command line (list). Never publishes, never deletes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from sandpool.errors import InvalidEnvelope
from sandpool.outcome import Outcome
from sandpool.wire import decode_outcome, encode_record
from workers.errors import VolumeCorrupt, VolumeUnavailable
from workers.volumes.keys import RecordName, first_job_id_since, parse_record_key, record_key, tenant_prefix
from workers.volumes.store import Volume

MAX_RECORD_BYTES = 4 * 1024 * 1024
"""A manifest of 10,000 parts and 1,600 columns is far below this."""


@dataclass(frozen=True, slots=True)
class RecordPage:
    """One page of a tenant's records, in byte order of job ids (ids made by Sandpool: oldest first)."""

    outcomes: tuple[Outcome, ...]
    unreadable: tuple[str, ...]
    """Job ids whose record is corrupt; one bad record never hides the others."""
    next_after: str | None
    """Pass as `after` for the next page; None: this was the last."""


def create_record(volume: Volume, outcome: Outcome) -> Outcome:
    """Record this outcome, or adopt the one that was recorded before: returns what is on record.

    The same object comes back when this call (or an earlier, seemingly lost try of it) made the record. Compare
    `digest` of what comes back: a different one means that the job id was used for other work.
    Raises VolumeUnavailable, VolumeFull; VolumeCorrupt when what was there before is no record of this job.
    """
    key, data = record_key(outcome.tenant, outcome.job_id), encode_record(outcome)
    if volume.create(key, data):
        return outcome
    return _adopt(volume.name, outcome, data, volume.get(key, limit_bytes=MAX_RECORD_BYTES))


async def acreate_record(volume: Volume, outcome: Outcome) -> Outcome:
    """Like create_record, without blocking the event loop on a network."""
    key, data = record_key(outcome.tenant, outcome.job_id), encode_record(outcome)
    if await volume.acreate(key, data):
        return outcome
    return _adopt(volume.name, outcome, data, await volume.aget(key, limit_bytes=MAX_RECORD_BYTES))


def read_record(volume: Volume, tenant: str, job_id: str) -> Outcome | None:
    """The job's outcome; None while it has not ended. Raises VolumeCorrupt, VolumeUnavailable."""
    data = volume.get(record_key(tenant, job_id), limit_bytes=MAX_RECORD_BYTES)
    return None if data is None else _decode(volume.name, tenant, job_id, data)


async def aread_record(volume: Volume, tenant: str, job_id: str) -> Outcome | None:
    """Like read_record, without blocking the event loop on a network."""
    data = await volume.aget(record_key(tenant, job_id), limit_bytes=MAX_RECORD_BYTES)
    return None if data is None else _decode(volume.name, tenant, job_id, data)


def list_records(
    volume: Volume, tenant: str, *, after: str = "", since: datetime | None = None, limit: int = 100
) -> RecordPage:
    """At most `limit` of the tenant's records, from after the job id `after`, or from ids made since a moment.

    `since` sees only ids that Sandpool made (they start with their time); ids of the caller's own choice sort among
    them by their text. Blocking: one listing, and one get per record.
    """
    prefix = tenant_prefix(tenant)
    # "0" is the byte after "/": this starts behind everything of the job `after`.
    start = f"{prefix}{after}0" if after else prefix + first_job_id_since(since) if since else ""
    outcomes: list[Outcome] = []
    unreadable: list[str] = []
    ids = [name.job_id for name in islice(_record_names(volume, prefix, start), limit + 1)]
    for job_id in ids[:limit]:
        try:
            outcome = read_record(volume, tenant, job_id)
        except VolumeCorrupt:
            unreadable.append(job_id)
        else:
            # None: swept since the listing.
            outcomes.extend([outcome] if outcome else [])
    return RecordPage(tuple(outcomes), tuple(unreadable), ids[limit - 1] if len(ids) > limit else None)


def _record_names(volume: Volume, prefix: str, start: str) -> Iterator[RecordName]:
    for meta in volume.list(prefix, start_after=start):
        name = parse_record_key(meta.key)
        if name is not None:
            yield name


def _adopt(volume: str, ours: Outcome, our_data: bytes, data: bytes | None) -> Outcome:
    if data is None:
        hint = "the record was removed while this job ended; the job is tried again"
        raise VolumeUnavailable(f"volume {volume}: the record of job {ours.job_id} vanished", hint=hint)
    # Our own bytes: an earlier try of this very put got through, only its answer was lost. We have recorded it.
    return ours if data == our_data else _decode(volume, ours.tenant, ours.job_id, data)


def _decode(volume: str, tenant: str, job_id: str, data: bytes) -> Outcome:
    hint = "move this object away after looking at it; the job can then be submitted again"
    try:
        outcome = decode_outcome(data)
    except InvalidEnvelope as error:
        raise VolumeCorrupt(f"volume {volume}: the record of job {job_id} is unreadable: {error}", hint=hint) from error
    if (outcome.tenant, outcome.job_id) != (tenant, job_id):
        raise VolumeCorrupt(f"volume {volume}: the record of job {job_id} speaks of another job", hint=hint)
    return outcome
