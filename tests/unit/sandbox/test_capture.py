"""Output of a command: never more than its limit is kept, and a writer never hangs."""

from __future__ import annotations

import asyncio
import os
import threading

from hypothesis import given
from hypothesis import strategies as st

from workers.sandbox.capture import Budget, Pipe


@given(st.integers(0, 1000), st.lists(st.integers(0, 300), max_size=20))
def test_a_budget_grants_what_is_left_and_says_once_that_it_is_exceeded(limit: int, wanted: list[int]) -> None:
    told: list[bool] = []
    budget = Budget(limit, lambda: told.append(True))
    granted = [budget.take(size) for size in wanted]
    assert sum(granted) == min(limit, sum(wanted))
    assert all(got <= size for got, size in zip(granted, wanted, strict=True))
    assert budget.exceeded == (sum(wanted) > limit)
    assert len(told) == budget.exceeded


async def test_everything_that_was_written_is_kept_in_order() -> None:
    pipe = Pipe(Budget(1 << 20))
    chunks = [bytes([number]) * 1000 for number in range(200)]

    def write(descriptor: int) -> None:
        with os.fdopen(descriptor, "wb") as file:
            for chunk in chunks:
                file.write(chunk)

    thread = threading.Thread(target=write, args=(os.dup(pipe.write_end),))
    thread.start()
    pipe.hand_over()
    assert await pipe.ended(5)
    thread.join()
    assert pipe.close() == b"".join(chunks)


async def test_a_flood_is_dropped_past_the_limit_and_its_writer_ends() -> None:
    full = asyncio.Event()
    pipe = Pipe(Budget(1000, full.set))

    def flood(descriptor: int) -> None:
        with os.fdopen(descriptor, "wb") as file:
            file.write(bytes(4 << 20))

    thread = threading.Thread(target=flood, args=(os.dup(pipe.write_end),))
    thread.start()
    pipe.hand_over()
    await asyncio.wait_for(full.wait(), 5)
    assert await pipe.ended(5)
    thread.join(5)
    assert not thread.is_alive()
    assert pipe.close() == bytes(1000)


async def test_a_pipe_that_somebody_keeps_open_is_not_waited_for_for_ever() -> None:
    pipe = Pipe(Budget(1000))
    keeper = os.dup(pipe.write_end)
    os.write(keeper, b"so far")
    pipe.hand_over()
    assert not await pipe.ended(0.05)
    assert pipe.close() == b"so far"
    assert pipe.close() == b"so far"
    os.close(keeper)
