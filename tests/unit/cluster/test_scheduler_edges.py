"""Jobs at the edge: expired in line, cancelled at any moment, unrecordable, unreadable. None is lost, none hangs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from queues.message import Message
from queues.topology import DEAD
from sandpool import wire
from sandpool.job import digest
from sandpool.outcome import Ending, Verdict
from tests.unit.cluster.test_scheduler import SQL_QUEUE, House, job
from workers.errors import VolumeCorrupt
from workers.volumes.keys import record_key
from workers.volumes.record import aread_record


@pytest.fixture
async def house(request: pytest.FixtureRequest) -> AsyncIterator[House]:
    made = House(request.node.name)
    await made.open()
    yield made
    await made.close()


def dead_reason(house: House) -> str:
    letter = house.broker.take(house.broker.service_user, DEAD)
    assert letter is not None
    return str(letter.headers)


async def occupy(house: House) -> list[object]:
    """Every slot busy until the gate opens."""
    house.bench.gate.clear()
    client = await house.client()
    handles: list[object] = [await client.submit(job()) for _ in range(house.bench.slots)]
    async with asyncio.timeout(20):
        while house.bench.busy < house.bench.slots:
            await asyncio.sleep(0.01)
    return handles


async def test_a_job_whose_deadline_passes_in_line_for_a_slot_ends_timed_out_at_its_deadline(house: House) -> None:
    await occupy(house)
    late = await (await house.client()).submit(job(deadline=datetime.now(UTC) + timedelta(seconds=0.2)))
    outcome = await late.outcome(timeout=20)
    assert outcome.ending is Ending.TimedOut and outcome.error is not None and outcome.error.code == "job.expired"
    house.bench.gate.set()
    await asyncio.sleep(0.05)
    assert late.job_id not in {statement.job_id for statement in house.bench.ran}


async def test_what_a_job_waited_in_line_is_taken_from_its_deadline(house: House) -> None:
    await occupy(house)
    handle = await (await house.client()).submit(job(deadline=datetime.now(UTC) + timedelta(seconds=20)))
    await asyncio.sleep(0.5)
    house.bench.gate.set()
    assert (await handle.outcome(timeout=20)).succeeded
    assert house.bench.ran[-1].timeout_s < 19.6


async def test_a_job_cancelled_while_the_policy_looks_at_it_is_recorded_and_settled(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking = asyncio.Event()

    async def slowly(job: object, tenant: str) -> Verdict:
        await looking.wait()
        return Verdict(True, sql="select 1", statement="select")

    monkeypatch.setattr(house.scheduler._catalogs, "judge", slowly)
    handle = await (await house.client()).submit(job())
    await asyncio.sleep(0.05)
    cancelling = asyncio.create_task(handle.cancel())
    await asyncio.sleep(0.05)
    looking.set()
    await cancelling
    assert (await handle.outcome(timeout=20)).ending is Ending.Cancelled
    await house.settled()
    assert house.bench.ran == [] and house.scheduler._tasks == set()
    assert house.broker.waiting(SQL_QUEUE) == 0
    await house.door.close()  # whatever is unsettled comes back to the queue now
    assert house.broker.waiting(SQL_QUEUE) == 0


async def test_a_corrupt_record_is_answered_as_such_and_the_message_kept(house: House) -> None:
    assert await house.volume.acreate(record_key("acme", "bad"), b"not a record")
    outcome = await (await (await house.client()).submit(job(id="bad"))).outcome(timeout=20)
    assert outcome.ending is Ending.Failed and outcome.error is not None and outcome.error.code == "volume.corrupt"
    assert "volume.corrupt" in dead_reason(house) and house.bench.ran == []


async def test_a_volume_that_can_never_record_does_not_make_a_job_run_for_ever(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def corrupt(key: str, data: bytes) -> bool:
        raise VolumeCorrupt("a link stands in the way")

    monkeypatch.setattr(house.volume, "acreate", corrupt)
    outcome = await (await (await house.client()).submit(job())).outcome(timeout=20)
    assert outcome.ending is Ending.Failed and len(house.bench.ran) == 1
    assert "volume.corrupt" in dead_reason(house)


async def test_a_corrupt_record_does_not_hold_up_the_control_room(house: House) -> None:
    assert await house.volume.acreate(record_key("acme", "bad"), b"not a record")
    asking = asyncio.create_task((await house.client()).status("bad", timeout=5))
    await asyncio.sleep(0.1)
    assert "volume.corrupt" in dead_reason(house) and house.control._tasks == set()
    asking.cancel()


async def test_a_retention_beyond_every_calendar_is_for_ever(house: House) -> None:
    outcome = await (await (await house.client()).submit(job(retention_s=10**15))).outcome(timeout=20)
    assert outcome.succeeded and outcome.retain_until is not None
    assert outcome.retain_until > datetime.now(UTC) + timedelta(days=36_000)


async def test_an_error_of_ours_that_never_goes_away_ends_the_job_with_an_answer(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.retry.FIRST_DELAY_S", 0.01)
    house.bench.script = lambda s: RuntimeError("a bug")
    house.rules = type(house.rules)(
        house.rules.tenants, house.rules.databases, house.rules.volumes, 1, house.rules.cancelled_retention_s
    )
    house.scheduler.rules = house.rules
    handle = await (await house.client()).submit(job())
    outcome = await handle.outcome(timeout=30)
    assert outcome.ending is Ending.Failed and outcome.error is not None and outcome.error.code == "scheduler.error"
    recorded = await aread_record(house.volume, "acme", handle.job_id)
    assert recorded is not None and recorded.ending is Ending.Failed
    await house.settled()
    assert "scheduler.error" in dead_reason(house)


BODIES = {
    "empty": (b"", "envelope.malformed"),
    "no JSON": (b"\xff\xfe{", "envelope.malformed"),
    "bad UTF-8": (b'{"v":1,"kind":"sql","job":{"database":"flights","sql":"select \xff"}}', "envelope.field"),
    "nested": (b'{"v":1,"kind":"sql","job":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "envelope.malformed"),
    "version": (b'{"v":2,"kind":"sql","job":{}}', "envelope.version"),
    "kind": (b'{"v":1,"kind":"quantum","job":{}}', "envelope.kind"),
    "oversized": (b'{"v":1,"kind":"sql","job":{"database":"flights","sql":"' + b"x" * 2**21, "envelope.oversized"),
    "unknown field": (b'{"v":1,"kind":"sql","job":{"database":"flights","sql":"s","tenant":"x"}}', "envelope.field"),
}


@pytest.mark.parametrize("name", BODIES)
async def test_a_message_that_is_no_job_becomes_a_dead_letter_that_says_why(house: House, name: str) -> None:
    body, reason = BODIES[name]
    message = Message(body=body, message_id="m1", user_id="acme")
    house.broker.publish("acme", wire.JOBS_EXCHANGE, "sql.batch", message)
    await house.settled()
    assert reason in dead_reason(house)


async def test_the_digest_of_a_job_is_that_of_its_envelope() -> None:
    sent = job(params=(10**30, "x"))
    got = wire.decode_job(json.dumps(json.loads(wire.encode_job(sent))).encode())
    assert digest(got) == digest(sent)
