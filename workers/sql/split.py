"""One large read in key ranges at once: several connections, one snapshot of the database, one manifest.

Called by `bulk` for statements with `ranges`. The first connection opens the snapshot and the others adopt it
(pg_export_snapshot), so that the ranges together are the rows of one moment. Each range writes parts of its own; limits
are shared. Where the role may not export a snapshot, the first connection reads all ranges itself.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain

import pyarrow as pa

from sandpool.outcome import Manifest
from workers.attempt import Statement
from workers.errors import WorkerError
from workers.sql.batches import settle_plans
from workers.sql.connection import BulkSession
from workers.sql.faults import translate
from workers.sql.pump import Pump, Stopped
from workers.sql.results import Ceiling, Delivered, ResultStream
from workers.sql.types import ColumnPlan
from workers.volumes.store import Volume

PARTS_OF_A_RANGE = 1000
"""Names kept free for the parts of one range: 500 GiB of it."""
MAY_NOT = "42501"


@dataclass(frozen=True, slots=True)
class _Head:
    """A range that has begun: its first batch with rows (None: it has none) and what follows."""

    number: int
    batch: pa.RecordBatch | None
    rest: Iterator[pa.RecordBatch]


class Split:
    """The ranges of one statement on their way into the volume. `run` blocks; `stop` may come from any thread."""

    def __init__(
        self, sessions: Sequence[BulkSession], statement: Statement, plans: Sequence[ColumnPlan], volume: Volume
    ) -> None:
        self._sessions = sessions
        self._statement = statement
        self._plans: Sequence[ColumnPlan] = plans
        self._volume = volume
        self._ceiling = Ceiling(statement.max_rows, statement.max_bytes)
        self._ranges = deque(enumerate(statement.ranges))
        self._done: dict[int, Manifest] = {}
        self._stopped = threading.Event()
        self._cause: BaseException | None = None
        """What went wrong first: what goes wrong elsewhere comes of it."""

    def stop(self) -> None:
        """Cancel on the server and stop writing."""
        self._stopped.set()
        for session in self._sessions:
            session.cancel()

    def run(self, executor: Executor) -> Delivered:
        """All ranges. Raises WorkerError; then nothing of the result is left."""
        first, *others = self._sessions
        workers: list[Future[None]] = []
        try:
            snapshot = self._open_snapshot(first) if others else self._begin(first)
            head = self._settle(first)
            if snapshot:
                workers = [executor.submit(self._serve, session, snapshot, executor) for session in others]
            if head is not None:
                self._read_range(first, head, executor)
            self._read_ranges(first, executor)
            for worker in workers:
                worker.result()
            return self._deliver()
        except Exception as error:  # noqa: BLE001 - translated, whatever it is
            self._blame(error)
            self.stop()
            for worker in workers:
                with suppress(Exception):
                    worker.result()
            self._forget()
            raise translate(self._cause or error, self._statement.sql) from None
        finally:
            first.end()

    def _begin(self, session: BulkSession) -> str:
        session.begin(self._statement.timeout_s, job_id=self._statement.job_id, repeatable=True)
        return ""

    def _open_snapshot(self, session: BulkSession) -> str:
        """The name of this session's snapshot; empty where its role may not tell it to others."""
        self._begin(session)
        try:
            return session.export_snapshot()
        except Exception as error:
            if translate(error).sqlstate != MAY_NOT:
                raise
        session.end()
        return self._begin(session)

    def _serve(self, session: BulkSession, snapshot: str, executor: Executor) -> None:
        try:
            asked = self._statement
            session.begin(asked.timeout_s, job_id=asked.job_id, repeatable=True, snapshot=snapshot)
            self._read_ranges(session, executor)
        except BaseException as error:
            self._blame(error)
            self._stopped.set()  # the others need not go on
            raise
        finally:
            session.end()

    def _blame(self, error: BaseException) -> None:
        if self._cause is None and not isinstance(error, Stopped):
            self._cause = error

    def _settle(self, session: BulkSession) -> _Head | None:
        """Open ranges until one has a row, which decides the undecided types before any other range begins: all parts
        have one schema, the same one as without ranges. None: no row anywhere."""
        while (head := self._open_next(session)) is not None:
            if head.batch is not None:
                self._plans = settle_plans(self._plans, pa.Table.from_batches([head.batch]), streaming=True)
                return head
            session.end_read()
        return None

    def _read_ranges(self, session: BulkSession, executor: Executor) -> None:
        while not self._stopped.is_set() and not self._ceiling.reached:
            head = self._open_next(session)
            if head is None:
                return
            self._read_range(session, head, executor)

    def _open_next(self, session: BulkSession) -> _Head | None:
        try:
            number, text = self._ranges.popleft()
        except IndexError:
            return None
        batches = iter(session.read(text))
        first = next(batches, None)
        while first is not None and not first.num_rows:
            first = next(batches, None)
        return _Head(number, first, batches)

    def _read_range(self, session: BulkSession, head: _Head, executor: Executor) -> None:
        if head.batch is not None:
            first_part = head.number * PARTS_OF_A_RANGE
            stream = ResultStream(
                self._volume, self._statement, self._plans, ceiling=self._ceiling, first_part=first_part
            )
            batches = chain([head.batch], head.rest)
            delivered = Pump(self._plans, stream, self._stopped).run(executor, batches, session.cancel)
            self._done[head.number] = delivered.manifest
        session.end_read()

    def _deliver(self) -> Delivered:
        if self._stopped.is_set():
            raise Stopped("the extraction was stopped")
        if not self._done:
            return self._empty()
        manifests = [self._done[number] for number in sorted(self._done)]
        return Delivered(
            Manifest(
                columns=manifests[0].columns,
                parts=tuple(part for manifest in manifests for part in manifest.parts),
                rows=sum(manifest.rows for manifest in manifests),
                size_bytes=sum(manifest.size_bytes for manifest in manifests),
                partial=self._ceiling.reached,
            )
        )

    def _empty(self) -> Delivered:
        """No row anywhere: one part that has the columns."""
        first = self._sessions[0]
        reader = first.read(self._statement.ranges[0])
        plans = settle_plans(self._plans, pa.Table.from_batches([], reader.schema), streaming=True)
        stream = ResultStream(self._volume, self._statement, plans, ceiling=self._ceiling)
        stream.write_rows([])
        return stream.finish()

    def _forget(self) -> None:
        keys = [part.key for manifest in self._done.values() for part in manifest.parts]
        with suppress(WorkerError):  # the sweeper removes the rest
            self._volume.delete(keys)
