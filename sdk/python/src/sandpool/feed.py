"""Reading an iterable of jobs that may block, without blocking the event loop: one thread, a bounded number ahead.

Used by `sandpool.batch` for the synchronous client, whose callers may hand in a generator that reads a file, a database
or even the outcomes of its own earlier jobs. So every job is passed on by itself, never held back for a fuller bunch.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable

from sandpool.job import Job

AHEAD_JOBS = 64


class JobFeed:
    """The jobs of an iterable, read by a thread of its own. `stop` when done with it."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._loop = asyncio.get_running_loop()
        self._read: asyncio.Queue[Job | BaseException | None] = asyncio.Queue()
        self._room = threading.Semaphore(AHEAD_JOBS)
        self._stopped = False
        # Daemon: an iterable that never returns must not keep the program from ending.
        threading.Thread(target=self._pump, args=(jobs,), name="sandpool-jobs", daemon=True).start()

    @property
    def is_dry(self) -> bool:
        """Whether the next job has still to be waited for."""
        return self._read.empty()

    async def next(self) -> Job | None:
        """The next job; None at the end. Raises what the iterable raised."""
        item = await self._read.get()
        self._room.release()
        if isinstance(item, BaseException):
            raise item
        return item

    def stop(self) -> None:
        """Read no further; the thread ends as soon as the iterable lets it."""
        self._stopped = True
        self._room.release()

    def _pump(self, jobs: Iterable[Job]) -> None:
        end: BaseException | None = None
        try:
            for job in jobs:
                self._room.acquire()
                if self._stopped:
                    return
                self._loop.call_soon_threadsafe(self._read.put_nowait, job)
        except BaseException as error:  # noqa: BLE001 - it belongs to the caller, who gets it from `next`
            end = error
        if not self._stopped and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._read.put_nowait, end)
