"""What becomes of a dead letter that an operator wants to run again. Decides, and does it; called by `sandpool dead`.

A job whose ending is recorded would not run: whoever takes it adopts the record. For most endings that is right, and
the letter goes its way. But where Sandpool itself gave up (`job.poison`, `scheduler.error`), that ending is what the
operator wants taken back: it is removed first, then the job is put into its queue, then the letter is removed.
Interrupted anywhere, the letter is still there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from cluster.outcomes import POISON, SCHEDULER_ERROR
from queues.dead import DeadLetters
from queues.errors import NotRequeueable
from queues.letter import Letter
from sandpool import wire
from sandpool.errors import InvalidEnvelope
from sandpool.job import Job, digest
from sandpool.outcome import Outcome
from workers.volumes.keys import record_key
from workers.volumes.record import aread_record
from workers.volumes.store import Volume

GIVEN_UP = frozenset({POISON, SCHEDULER_ERROR})
"""Endings that say nothing of the job's work, only that Sandpool could not do it."""


def job_of(letter: Letter) -> Job | None:
    """The job in a letter; None where there is none."""
    try:
        return wire.decode_job(letter.message.body)
    except (InvalidEnvelope, UnicodeDecodeError):
        return None


def is_taken_back(job: Job, recorded: Outcome | None) -> bool:
    """Whether the recorded ending has to go before this job can run again."""
    if recorded is None or recorded.error is None or recorded.error.code not in GIVEN_UP:
        return False
    return recorded.digest == digest(job)


async def requeue(dead: DeadLetters, letter: Letter, homes: Mapping[str, tuple[Volume, ...]]) -> None:
    """Make a letter a job again. `homes`: each tenant's volumes, the first of which records what has no other place.

    Raises NotRequeueable, QueueError, VolumeError.
    """
    job = job_of(letter)
    if job is not None and letter.tenant:
        volumes = homes.get(letter.tenant)
        if not volumes:
            raise NotRequeueable(f"no tenant {letter.tenant!r} is registered: add [tenants.{letter.tenant}] first")
        home = next((volume for volume in volumes if volume.name == job.volume), volumes[0])
        if is_taken_back(job, await aread_record(home, letter.tenant, job.id)):
            await asyncio.to_thread(home.delete, [record_key(letter.tenant, job.id)])
    await dead.requeue(letter)
