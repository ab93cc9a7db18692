"""The mailbox runs what it takes once, loses nothing with a lost reply, and holds no more than its bound."""

from __future__ import annotations

import asyncio

from sandpool.outcome import Ending
from workers.attempt import Attempt, Statement, decode_statement, encode_statement
from workers.mailbox import Mailbox, decode_attempt


def job(number: int, tenant: str = "a") -> bytes:
    return encode_statement(
        Statement(
            tenant=tenant,
            job_id=f"job-{number}",
            attempt_id="1-x",
            digest="d",
            sql="SELECT 1",
            params=(1, "x", None),
            timeout_s=1.0,
            max_rows=1,
            max_bytes=1,
            volume="results",
        )
    )


class Work:
    """Ends a statement when told to."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.gate = asyncio.Event()

    async def run(self, statement: Statement) -> Attempt:
        self.started.append(statement.job_id)
        await self.gate.wait()
        return Attempt(job_id=statement.job_id, attempt_id=statement.attempt_id, ending=Ending.Succeeded)


def ids(letters: list[bytes]) -> list[str]:
    return [decode_attempt(letter).job_id for letter in letters]


async def test_collect_waits_for_the_first_ending_and_takes_all_that_are_there() -> None:
    work = Work()
    box = Mailbox(decode_statement, work.run)
    box.submit([job(1), job(2), job(3)])
    waiting = asyncio.create_task(box.collect(5.0))
    await asyncio.sleep(0)
    assert not waiting.done()
    work.gate.set()
    epoch, received, letters = await waiting
    assert epoch == box.epoch
    assert set(ids(letters)) <= {"job-1", "job-2", "job-3"}
    while len(letters) < 3:
        epoch, received, more = await box.collect(5.0, epoch, received)
        letters += more
    assert sorted(ids(letters)) == ["job-1", "job-2", "job-3"]


async def test_a_collect_with_nothing_to_tell_ends_at_its_timeout() -> None:
    box = Mailbox(decode_statement, Work().run)
    assert await box.collect(0.01) == (box.epoch, 0, [])


async def test_a_lost_reply_comes_again_until_it_is_acknowledged() -> None:
    work = Work()
    work.gate.set()
    box = Mailbox(decode_statement, work.run)
    box.submit([job(1), job(2)])
    await asyncio.sleep(0.01)
    _, _, lost = await box.collect(1.0, box.epoch, 0)
    _, number, again = await box.collect(1.0, box.epoch, 0)
    assert ids(lost) == ids(again) == ["job-1", "job-2"] and number == 2
    _, _, rest = await box.collect(1.0, box.epoch, 1)
    assert ids(rest) == ["job-2"]
    assert await box.collect(0.01, box.epoch, 2) == (box.epoch, 2, [])
    assert box.uncollected == 0


async def test_what_another_epoch_received_forgets_nothing_here() -> None:
    work = Work()
    work.gate.set()
    box = Mailbox(decode_statement, work.run)
    box.submit([job(1)])
    await asyncio.sleep(0.01)
    _, _, letters = await box.collect(1.0, "the mailbox before the restart", 57)
    assert ids(letters) == ["job-1"] and box.uncollected == 1


async def test_a_busy_caller_gets_several_endings_in_one_reply() -> None:
    work = Work()
    box = Mailbox(decode_statement, work.run)
    box.submit([job(n) for n in range(1, 9)])
    waiting = asyncio.create_task(box.collect(5.0, linger_s=0.05))
    await asyncio.sleep(0)
    work.gate.set()
    assert len((await waiting)[2]) == 8


async def test_a_repeated_submit_starts_nothing_twice() -> None:
    work = Work()
    box = Mailbox(decode_statement, work.run)
    box.submit([job(1)])
    box.submit([job(1), job(1, tenant="b")])
    await asyncio.sleep(0.01)
    work.gate.set()
    await asyncio.sleep(0.01)
    box.submit([job(1)])
    await asyncio.sleep(0.01)
    assert work.started == ["job-1", "job-1"]


async def test_above_its_bound_it_refuses_as_retryable() -> None:
    work = Work()
    box = Mailbox(decode_statement, work.run, max_held=2)
    box.submit([job(1), job(2), job(3)])
    _, _, letters = await box.collect(1.0)
    attempt = decode_attempt(letters[0])
    assert attempt.job_id == "job-3"
    assert attempt.error is not None
    assert attempt.error.code == "pool.closed"
    assert attempt.error.retryable
    assert box.running == 2
    work.gate.set()


async def test_stopping_ends_every_statement_with_an_answer() -> None:
    box = Mailbox(decode_statement, Work().run)
    box.submit([job(1), job(2)])
    await asyncio.sleep(0)
    assert await box.stop(1.0) is True
    _, _, letters = await box.collect(1.0)
    assert all(decode_attempt(letter).error for letter in letters)
    assert box.running == 0
