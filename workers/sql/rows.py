"""Fetches a statement's rows in bounded pieces and has them written while the next piece is on its way.

Called by `read` and `write` inside a session's open transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from workers.attempt import Statement
from workers.sql.results import CELLS_HERE, Delivered, ResultStream, deliver_here, deliver_small
from workers.sql.session import Prepared, Session
from workers.sql.threads import ResultThreads
from workers.volumes.store import Volume

FIRST_ROWS = 500
"""Rows fetched in one piece at first: a result of up to this many is small, whatever its estimate was."""
PIECE_BYTES = 4 * 1024 * 1024
MAX_PIECE_ROWS = 20_000


class RowFetch:
    """One statement's rows on their way from a session into a volume."""

    def __init__(self, session: Session, statement: Statement, prepared: Prepared, threads: ResultThreads) -> None:
        self._session = session
        self._statement = statement
        self._prepared = prepared
        self._threads = threads
        self.tag = ""
        """The server's command tag, once all rows are fetched; its number counts the last piece only."""
        self.count = 0
        """Rows fetched so far."""

    async def start(self, arguments: Sequence[Any], volume: Volume) -> asyncio.Future[Delivered]:
        """Execute and fetch. When this returns the session is no longer needed; the future is the written result."""
        job, prepared = self._statement, self._prepared
        first = min(FIRST_ROWS, job.max_rows + 1)
        rows, self.tag, complete = await self._session.execute(prepared, arguments, first)
        self.count = len(rows)
        if complete or len(rows) > job.max_rows:
            if len(rows) * len(prepared.plans) <= CELLS_HERE:
                return asyncio.ensure_future(deliver_here(volume, job, prepared.shapes, rows))
            return self._threads.submit(lambda: deliver_small(volume, job, prepared.shapes, rows))
        return await self._stream(rows, volume)

    async def _stream(self, rows: Sequence[Any], volume: Volume) -> asyncio.Future[Delivered]:
        """Fetch the next piece while the last one is written: two pieces in memory, however long the result."""
        stream = ResultStream(volume, self._statement, self._prepared.plans)
        writing: asyncio.Future[int] | None = None
        complete = False
        limit = FIRST_ROWS
        try:
            while rows and not complete:
                writing = self._threads.submit(_write(stream, rows))
                rows, self.tag, complete = await self._session.fetch_more(self._prepared, limit)
                self.count += len(rows)
                written_bytes = await writing
                if stream.is_full:
                    break
                limit = next_limit(limit, written_bytes)
            if rows and not stream.is_full:
                writing = self._threads.submit(_write(stream, rows))
                await writing
            return self._threads.submit(stream.finish)
        except BaseException:
            if writing is not None and not writing.done():
                await asyncio.wait([writing])
            self._threads.submit(stream.abort)
            raise


def next_limit(limit: int, size_bytes: int) -> int:
    """Rows of the next piece: double while pieces are small, fewer when rows turn out to be wide."""
    if size_bytes > PIECE_BYTES:
        return max(1, limit * PIECE_BYTES // size_bytes)
    return min(MAX_PIECE_ROWS, limit * 2)


def _write(stream: ResultStream, rows: Sequence[Any]) -> Any:
    return lambda: stream.write_rows(rows)
