"""Carries an extraction out: where did the last run end, how far does the column go, which ranges, run them.

Called by the scheduler for a `sql` job with an `extraction`, once it has a slot. The texts are decided in
`cluster.extraction`; each passes the policy before it runs. Keeps nothing: the watermark of the run before is read from
that run's record, and this run's goes into its own manifest.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from cluster import extraction, outcomes
from cluster.admission import denied
from cluster.bench import Bench
from cluster.catalogs import Catalogs
from cluster.run import Run
from sandpool.job import Extraction
from sandpool.outcome import Ending, Manifest, Verdict, Watermark
from sandpool.results import read_table
from workers.attempt import Attempt, Statement
from workers.errors import WorkerError
from workers.volumes.record import aread_record
from workers.volumes.store import Volume


class ExtractionImpossible(WorkerError):
    """This statement cannot be read along this column."""

    code = "extraction.column"


class PredecessorMissing(WorkerError):
    """The run that `after` names has left no watermark yet; it may still be on its way."""

    code = "extraction.after"
    retry = True


class _Refused(Exception):
    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.rule)
        self.verdict = verdict


class Extracting:
    """Runs of statements along a column."""

    def __init__(self, catalogs: Catalogs, bench: Bench, volumes: Mapping[str, Volume]) -> None:
        self._catalogs = catalogs
        self._bench = bench
        self._volumes = volumes

    async def run(self, run: Run, node: str, statement: Statement) -> Attempt:
        """One attempt. `statement` has the limits and the plain text. Raises WorkerError, WorkerLost."""
        how = run.sql.extraction
        assert how is not None
        try:
            since = await self._since(run, how)
            bounds = await self._bounds(run, node, statement, extraction.bounds_sql(run.sql.sql, how, since))
            if isinstance(bounds, Attempt):
                return bounds
            texts = extraction.range_sqls(run.sql.sql, how, since, bounds)
            ranges = [(await self._judge(run, text)).sql for text in texts]
            run.verdict = await self._judge(run, extraction.whole_sql(run.sql.sql, how, since, bounds))
        except extraction.NotDivisible as error:
            hint = "take a column of an integer, numeric, date or timestamp type, or parts=1"
            raise ExtractionImpossible(f"{how.column!r} cannot be cut into ranges ({error})", hint=hint) from error
        except _Refused as refused:
            run.verdict = refused.verdict
            return outcomes.refused(run, denied(refused.verdict))
        whole = msgspec.structs.replace(statement, sql=run.verdict.sql, ranges=tuple(ranges))
        attempt = await self._bench.run(node, run.sql.database, whole)
        if attempt.ending is not Ending.Succeeded or not how.incremental:
            return attempt
        value = bounds.high_text or since
        mark = Watermark(how.column, value) if value else None
        return msgspec.structs.replace(attempt, manifest=msgspec.structs.replace(attempt.manifest, watermark=mark))

    async def _since(self, run: Run, how: Extraction) -> str:
        """Where the run before ended; empty: at the beginning. Raises PredecessorMissing, ExtractionImpossible."""
        if not how.after:
            return ""
        record = await aread_record(self._volumes[run.home.name], run.tenant, how.after)
        if record is None:
            raise PredecessorMissing(f"job {how.after} has no recorded ending", hint="run it first, or leave `after`")
        mark = record.manifest.watermark
        if record.ending is not Ending.Succeeded or (mark is not None and mark.column != how.column):
            hint = "name the last run of this extraction that succeeded"
            raise ExtractionImpossible(f"job {how.after} left no watermark of column {how.column!r}", hint=hint)
        return mark.value if mark is not None else ""

    async def _bounds(self, run: Run, node: str, statement: Statement, text: str) -> extraction.Bounds | Attempt:
        """How far the column goes; or how asking for it ended."""
        verdict = await self._judge(run, text)
        name = f"{run.number}-{secrets.token_hex(4)}"
        ask = msgspec.structs.replace(statement, attempt_id=name, sql=verdict.sql, max_rows=1)
        attempt = await self._bench.run(node, run.sql.database, ask)
        if attempt.ending is not Ending.Succeeded:
            return msgspec.structs.replace(attempt, manifest=Manifest(), inline=b"")
        (row,) = read_table(outcomes.conclude(run, attempt, datetime.now(UTC))).to_pylist()
        return extraction.Bounds(row["low"], row["high"], row["high_text"] or "")

    async def _judge(self, run: Run, text: str) -> Verdict:
        verdict = await self._catalogs.judge(msgspec.structs.replace(run.sql, sql=text), run.tenant)
        if not verdict.allowed:
            raise _Refused(verdict)
        return verdict
