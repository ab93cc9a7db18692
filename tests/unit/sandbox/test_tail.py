"""Whoever watches an execution gets all of it from where he was, and never waits long."""

from __future__ import annotations

import asyncio

from workers.sandbox.tail import MOST_BYTES, PIECE_BYTES, Heard, Tail


async def test_a_watcher_gets_what_is_new_and_waits_for_it() -> None:
    tail = Tail()
    assert await tail.read(0, 0) == Heard(running=True)
    waiting = asyncio.create_task(tail.read(0, 0, 1.0))
    await asyncio.sleep(0)
    await tail.take("stdout", b"abc")
    await tail.take("stderr", b"e")
    assert await waiting == Heard(stdout=b"abc", stderr=b"e", running=True)
    assert await tail.read(2, 1) == Heard(stdout=b"c", running=True)
    tail.end()
    assert await tail.read(99, 99, 1.0) == Heard()


async def test_one_answer_is_bounded() -> None:
    tail = Tail()
    await tail.take("stdout", b"x" * (PIECE_BYTES + 5))
    assert len((await tail.read(0, 0)).stdout) == PIECE_BYTES
    assert (await tail.read(PIECE_BYTES, 0)).stdout == b"x" * 5


async def test_what_is_kept_is_bounded_and_has_no_gaps() -> None:
    tail = Tail()
    await tail.take("stdout", b"x" * (MOST_BYTES - 1))
    await tail.take("stderr", b"ab")
    await tail.take("stdout", b"y")
    assert await tail.read(MOST_BYTES - 2, 0) == Heard(stdout=b"x", stderr=b"a", running=True)
    assert await tail.read(MOST_BYTES - 1, 1) == Heard(running=True)
