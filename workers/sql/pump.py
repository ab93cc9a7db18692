"""Carries batches from the thread that reads them to a thread that writes them: two wait in between at most, so memory
is flat however many come.

Used by `bulk` and `split`. Knows no database: it is given an iterator, and what to call when no more is wanted.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from contextlib import suppress

import pyarrow as pa

from workers.errors import WorkerError
from workers.sql.batches import convert_batch
from workers.sql.results import Delivered, ResultStream
from workers.sql.types import ColumnPlan

WAITING_BATCHES = 2
LOOK_S = 0.2
"""How often the reading side looks whether the writing side is still there."""


class Stopped(WorkerError):
    """Somebody stopped it before its end: whoever did knows why."""


class Pump:
    """One stream of batches into one result. `run` blocks; `stopped` may be set from any thread."""

    def __init__(self, plans: Sequence[ColumnPlan], stream: ResultStream, stopped: threading.Event) -> None:
        self._plans = plans
        self._stream = stream
        self._stopped = stopped
        self._waiting: queue.Queue[pa.RecordBatch | None] = queue.Queue(WAITING_BATCHES)

    def run(self, executor: Executor, batches: Iterable[pa.RecordBatch], cancel: Callable[[], None]) -> Delivered:
        """Read here, write in a thread of the executor; `cancel` is called when a limit ends it before its end.

        On an error nothing of the result is left. Raises Stopped where it was stopped meanwhile.
        """
        writing = executor.submit(self._write)
        try:
            self._feed(batches, writing.done)
            self._put(None, writing.done)
            if not writing.result():
                cancel()
            if self._stopped.is_set():
                raise Stopped("the extraction was stopped")
            return self._stream.finish()
        except BaseException:
            self._stopped.set()
            self._put(None, writing.done)
            with suppress(Exception):
                writing.result()
            self._stream.abort()
            raise

    def _feed(self, batches: Iterable[pa.RecordBatch], is_done: Callable[[], bool]) -> None:
        for batch in batches:
            if is_done() or self._stopped.is_set() or not self._put(batch, is_done):
                return

    def _put(self, batch: pa.RecordBatch | None, is_done: Callable[[], bool]) -> bool:
        """Hand over to the writing thread; False when it has ended."""
        while not is_done():
            try:
                self._waiting.put(batch, timeout=LOOK_S)
                return True
            except queue.Full:
                continue
        return False

    def _write(self) -> bool:
        """Write what comes until the end; False when a limit was reached before it."""
        while (batch := self._waiting.get()) is not None:
            if self._stopped.is_set():
                return False
            self._stream.write(convert_batch(self._plans, pa.Table.from_batches([batch])))
            if self._stream.is_full:
                return False
        return True
