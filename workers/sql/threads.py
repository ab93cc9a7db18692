"""Threads that write results, so that the event loop never builds, compresses or stores anything.

Owned by `pool`. A hop to a thread and back costs about as much as writing a small result, so a thread takes everything
that waits at once and reports it to the event loop in one call.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, TypeVar

T = TypeVar("T")
_Task = tuple[asyncio.Future[Any], Callable[[], Any]]
_Report = tuple[asyncio.Future[Any], Any, BaseException | None]

MAX_BATCH = 16
"""Most results written before the first of them is reported."""


class ResultThreads:
    """A fixed number of threads working off one queue, bounded by the callers: each waits for its own call."""

    def __init__(self, count: int = 2) -> None:
        self._count = count
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Start the threads; they serve the running event loop."""
        self._loop = asyncio.get_running_loop()
        for number in range(self._count):
            thread = threading.Thread(target=self._serve, name=f"sandpool-result-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def submit(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Have a thread run a blocking function from now on. It is not stopped when its caller is cancelled."""
        if self._loop is None:
            raise AssertionError("the threads were not started")
        future: asyncio.Future[T] = self._loop.create_future()
        self._tasks.put((future, function))
        return future

    async def stop(self, timeout_s: float) -> None:
        """Let queued work finish, then end the threads; gives up waiting after the timeout."""
        for _ in self._threads:
            self._tasks.put(None)
        threads, self._threads = self._threads, []
        deadline_s = monotonic() + timeout_s
        for thread in threads:
            await asyncio.to_thread(thread.join, max(0.0, deadline_s - monotonic()))

    def _serve(self) -> None:
        while (task := self._tasks.get()) is not None:
            taken = [task]
            stopping = False
            while len(taken) < MAX_BATCH:
                try:
                    another = self._tasks.get_nowait()
                except queue.Empty:
                    break
                if another is None:
                    stopping = True
                    break
                taken.append(another)
            self._report([_run(future, function) for future, function in taken])
            if stopping:
                return

    def _report(self, reports: list[_Report]) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(_settle, reports)
        except RuntimeError:
            # The event loop is closed: nobody waits any more.
            return


def _run(future: asyncio.Future[Any], function: Callable[[], Any]) -> _Report:
    try:
        return future, function(), None
    except BaseException as error:  # noqa: BLE001 - reported to the caller, whatever it is
        return future, None, error


def _settle(reports: list[_Report]) -> None:
    for future, value, error in reports:
        if future.done():
            continue
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)
