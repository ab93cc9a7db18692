"""What a volume knows of a job group: a mark for each job that has ended, and at last that all of them have.

Called by the scheduler. A mark is an empty object whose key says everything, so that counting is one listing. Marks
are created before the job's message is acknowledged and removed once the completion is recorded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from sandpool.job import Group
from sandpool.wire import GroupEnding, encode_group
from workers.volumes.keys import group_prefix
from workers.volumes.store import Volume

COMPLETE = "complete.json"
REMOVED_AT_ONCE = 1000


async def acreate_mark(volume: Volume, tenant: str, group: Group, ending: str, job_id: str) -> None:
    """This job has ended so; done already where a redelivered message says it again. Raises VolumeError."""
    await volume.acreate(f"{group_prefix(tenant, group.name, group.size)}{ending}/{job_id}", b"")


def count_marks(volume: Volume, tenant: str, group: Group) -> Mapping[str, int] | None:
    """Ending -> jobs that have ended so; None when the group is complete. Blocking: one listing."""
    prefix = group_prefix(tenant, group.name, group.size)
    found: Counter[str] = Counter()
    for meta in volume.list(prefix):
        first, _, job_id = meta.key.removeprefix(prefix).partition("/")
        if first == COMPLETE:
            return None
        if job_id:
            found[first] += 1
    return found


def complete(volume: Volume, ending: GroupEnding) -> None:
    """Record the completion, then remove the marks. Blocking. Raises VolumeError."""
    prefix = group_prefix(ending.tenant, ending.name, ending.size)
    volume.create(f"{prefix}{COMPLETE}", encode_group(ending))
    clear_marks(volume, ending.tenant, Group(ending.name, ending.size))


def clear_marks(volume: Volume, tenant: str, group: Group) -> None:
    """Remove the marks of a group that is complete: also those which a redelivered message made afterwards."""
    prefix = group_prefix(tenant, group.name, group.size)
    keys: list[str] = []
    for meta in volume.list(prefix):
        if meta.key != f"{prefix}{COMPLETE}":
            keys.append(meta.key)
        if len(keys) >= REMOVED_AT_ONCE:
            volume.delete(keys)
            keys.clear()
    volume.delete(keys)
