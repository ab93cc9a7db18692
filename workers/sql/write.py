"""Runs one write: the statement and its row in the ledger, in one READ WRITE transaction, exactly once.

Called by `pool`. The order, and what a crash after each step leaves:

1. claim the job id in the ledger       nothing is committed: another attempt starts anew
2. run the statement                    the same
3. write RETURNING's rows as data       the same; the data of this attempt is named by no record and gets swept
4. put the manifest into the ledger     the same
5. commit                               the ledger has it all: the next attempt returns its manifest and runs nothing

A claim waits for a concurrent attempt of the same job (the primary key's lock), then finds its row. Data before commit,
because a commit cannot be undone when the volume fails. Any other ending than `Succeeded` means no effect; only a
connection lost during step 5 is unknown here, and the next attempt finds out.
"""

from __future__ import annotations

import asyncio

import msgspec

from sandpool.outcome import Manifest
from workers.attempt import Statement
from workers.errors import JobConflict, ReturnedTooMuch, StatementFailed, VolumeError
from workers.sql import ledger
from workers.sql.estimate import Estimates
from workers.sql.faults import translate
from workers.sql.lender import Lender
from workers.sql.read import begin_on, finish
from workers.sql.results import Delivered
from workers.sql.rows import RowFetch
from workers.sql.session import Session
from workers.sql.threads import ResultThreads
from workers.timing import timed
from workers.volumes.store import Volume

COMMIT_DEADLINE_S = 10.0


class Writer:
    """Writes of one pool."""

    def __init__(self, lender: Lender, threads: ResultThreads, estimates: Estimates) -> None:
        self._lender = lender
        self._threads = threads
        self._estimates = estimates

    async def run(self, statement: Statement, volume: Volume) -> Delivered:
        """The write's result, committed; the recorded one when an earlier attempt committed it. Raises WorkerError."""
        try:
            with timed("connect"):
                session = await begin_on(self._lender, statement, writes=True)
            try:
                with timed("execute"):
                    if not await self._claim(session, statement):
                        return await self._recorded(session, statement)
                    return await self._write(session, statement, volume)
            finally:
                await finish(session, self._lender)
        except Exception as error:  # noqa: BLE001 - translated, whatever it is
            raise translate(error, statement.sql) from None

    async def _claim(self, session: Session, statement: Statement) -> bool:
        job = statement
        return bool(await session.run(ledger.CLAIM_SQL, job.job_id, job.tenant, job.digest, job.sql))

    async def _recorded(self, session: Session, statement: Statement) -> Delivered:
        rows = await session.run(ledger.FIND_SQL, statement.job_id, statement.tenant)
        if not rows:
            # Visible to the claim but gone now: only an administrator deletes from the ledger.
            raise StatementFailed("the ledger row of this job vanished while it was read", hint="submit under a new id")
        digest, manifest = rows[0]
        if digest != statement.digest:
            raise JobConflict("this job id was used before for different work", hint="submit this job under a new id")
        return Delivered(msgspec.json.decode(manifest, type=Manifest))

    async def _write(self, session: Session, statement: Statement, volume: Volume) -> Delivered:
        prepared = await session.prepare(statement.sql)
        arguments = await session.bind(statement.params, prepared)
        if statement.max_cost is not None:
            await self._estimates.of(session, statement, arguments)
        if prepared.plans:
            fetch = RowFetch(session, statement, prepared, self._threads)
            delivered = await (await fetch.start(arguments, volume))
            affected = affected_rows(fetch.tag, fetch.count)
        else:
            _, tag, _ = await session.execute(prepared, arguments, 0)
            affected = affected_rows(tag)
            delivered = Delivered(Manifest())
        try:
            if delivered.capped:
                raise ReturnedTooMuch(
                    f"RETURNING gives more than {statement.max_rows} rows or {statement.max_bytes} bytes; "
                    "nothing was changed",
                    hint="return fewer rows or columns and submit under a new id",
                )
            manifest = msgspec.structs.replace(delivered.manifest, rows_affected=affected)
            recorded = msgspec.json.encode(manifest).decode()
            await session.run(ledger.FILL_SQL, statement.job_id, statement.tenant, manifest.rows_affected, recorded)
        except BaseException:
            self._sweep(volume, delivered)
            raise
        with timed("commit"):
            await self._commit(session)
        return Delivered(manifest, delivered.inline)

    async def _commit(self, session: Session) -> None:
        """Commit, whatever is cancelled meanwhile: from here on the write happens, and its ending must say so."""
        commit = asyncio.ensure_future(session.control("COMMIT"))
        try:
            await asyncio.shield(commit)
        except asyncio.CancelledError:
            await asyncio.wait([commit], timeout=COMMIT_DEADLINE_S)
            if not commit.done():
                session.broken = True
                commit.cancel()
                raise
            commit.result()

    def _sweep(self, volume: Volume, delivered: Delivered) -> None:
        """Remove data that no record will name, as far as that works; the sweeper removes the rest."""
        keys = [part.key for part in delivered.manifest.parts]

        def delete() -> None:
            try:
                volume.delete(keys)
            except VolumeError:
                return

        if keys:
            self._threads.submit(delete)


def affected_rows(tag: str, returned: int | None = None) -> int | None:
    """Rows inserted, updated, deleted or merged, from a command tag such as `INSERT 0 5`. RETURNING gives one row for
    each, and where they were fetched in pieces (`returned`) the tag counts the last piece only. None: a SELECT whose
    WITH clause writes; PostgreSQL does not say how many rows that changed."""
    verb, *numbers = tag.split() or [""]
    if verb not in ("INSERT", "UPDATE", "DELETE", "MERGE"):
        return None
    return returned if returned is not None else int(numbers[-1])
