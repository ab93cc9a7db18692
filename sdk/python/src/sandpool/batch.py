"""Many jobs at once: a bounded window of them in flight, outcomes as they come.

Used by both clients; memory is bounded by the window, never by the number of jobs. Knows no envelope and no broker.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sized
from dataclasses import dataclass, field
from functools import partial

from sandpool.errors import OutcomeTimeout
from sandpool.feed import JobFeed
from sandpool.job import Job
from sandpool.outcome import Outcome
from sandpool.pending import Waiter
from sandpool.pipeline import Pipeline
from sandpool.transport import OnProgress, Outgoing, Progress

Prepare = Callable[[Job], tuple[Waiter, Outgoing]]
AskAbout = Callable[[Iterable[Waiter]], Awaitable[None]]

_TURN_JOBS = 64
_ASK_AGAIN_S = 60.0


@dataclass(slots=True, eq=False)
class _Flight:
    """The jobs of one `run_many` that are on their way."""

    free: asyncio.Semaphore
    news: asyncio.Event = field(default_factory=asyncio.Event)
    waiters: dict[Waiter, None] = field(default_factory=dict)
    ended: deque[Waiter] = field(default_factory=deque)
    submitted: int = 0
    yielded: int = 0

    def add(self, waiter: Waiter) -> None:
        self.waiters[waiter] = None
        self.submitted += 1

    def end(self, waiter: Waiter) -> None:
        self.ended.append(waiter)
        self.news.set()


async def submit_all(
    pipeline: Pipeline, prepare: Prepare, jobs: Iterable[Job], on_progress: OnProgress | None
) -> list[Waiter]:
    """Publish every job; returns when all are confirmed. Raises as the pipeline."""
    waiters: list[Waiter] = []
    total = length(jobs)
    for job in jobs:
        waiter, message = prepare(job)
        await pipeline.send(message)
        waiters.append(waiter)
        if on_progress is not None:
            on_progress(Progress(len(waiters), 0, total))
    await pipeline.flush()
    return waiters


async def outcome_batches(
    pipeline: Pipeline,
    prepare: Prepare,
    jobs: Iterable[Job],
    *,
    on_progress: OnProgress | None,
    max_in_flight: int,
    timeout_s: float,
    ask_about: AskAbout,
    off_loop: bool,
) -> AsyncGenerator[list[Outcome], None]:
    """Submit jobs, at most `max_in_flight` without a taken outcome, and yield what has ended, all of it at once.

    `off_loop`: the iterable may block (it is a synchronous caller's), so it is read in a thread.
    """
    total = length(jobs)
    flight = _Flight(asyncio.Semaphore(max_in_flight))
    feed = _feed_off_loop if off_loop else _feed
    feeder = asyncio.create_task(feed(pipeline, prepare, jobs, flight))
    feeder.add_done_callback(lambda _: flight.news.set())
    try:
        while not (feeder.done() and not flight.waiters and not flight.ended):
            if not flight.ended:
                await _news(flight, timeout_s, ask_about)
            if feeder.done():
                feeder.result()
            batch = _take(flight)
            if on_progress is not None:
                on_progress(Progress(flight.submitted, flight.yielded, total))
            if batch:
                yield batch
    finally:
        feeder.cancel()
        await asyncio.gather(feeder, return_exceptions=True)
        pipeline.abandon()


async def _feed(pipeline: Pipeline, prepare: Prepare, jobs: Iterable[Job], flight: _Flight) -> None:
    for number, job in enumerate(jobs, start=1):
        await _launch(pipeline, prepare, job, flight)
        if number % _TURN_JOBS == 0:
            await asyncio.sleep(0)  # a long run of free places must not keep the loop from taking in outcomes
    await pipeline.flush()


async def _feed_off_loop(pipeline: Pipeline, prepare: Prepare, jobs: Iterable[Job], flight: _Flight) -> None:
    feed = JobFeed(jobs)
    try:
        while True:
            if feed.is_dry:
                await pipeline.flush()  # the next job may be long in coming
            if (job := await feed.next()) is None:
                break
            await _launch(pipeline, prepare, job, flight)
        await pipeline.flush()
    finally:
        feed.stop()


async def _launch(pipeline: Pipeline, prepare: Prepare, job: Job, flight: _Flight) -> None:
    if flight.free.locked():
        # Nobody else looks after what was not confirmed, and its outcomes are what frees a place.
        await pipeline.flush()
    await flight.free.acquire()
    waiter, message = prepare(job)
    flight.add(waiter)
    await pipeline.send(message)
    waiter.then(partial(flight.end, waiter))


def length(jobs: Iterable[Job]) -> int | None:
    """How many jobs there are, where the iterable can tell."""
    return len(jobs) if isinstance(jobs, Sized) else None


def _take(flight: _Flight) -> list[Outcome]:
    flight.news.clear()
    batch = []
    while flight.ended:
        waiter = flight.ended.popleft()
        flight.waiters.pop(waiter, None)
        flight.free.release()
        flight.yielded += 1
        batch.append(waiter.take())
    return batch


async def _news(
    flight: _Flight,
    timeout_s: float,
    ask_about: AskAbout,
) -> None:
    """Return when something ended or the feeder did. Raises OutcomeTimeout after `timeout_s` of silence."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        left_s = deadline_s - time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, min(left_s, _ASK_AGAIN_S))):
                await flight.news.wait()
                return
        except TimeoutError:
            if left_s <= _ASK_AGAIN_S:
                oldest = next(iter(flight.waiters), None)
                raise OutcomeTimeout(oldest.job_id if oldest else "(none submitted)", timeout_s) from None
            await ask_about(list(flight.waiters))
