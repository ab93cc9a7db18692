"""`sandpool batch`: run every job of a JSON Lines file, with a bounded number of them under way.

The story is `_run`: lines become jobs in a thread, the client keeps a window of them in flight, each outcome is counted
and written down as it comes. Jobs are idempotent by their ids, so the same call made again goes on where this one
stopped. Nothing is held per job but what `batch_lines` and `batch_log` say.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import click

from cluster.cli.batch_lines import BatchLines, Lines, Malformed
from cluster.cli.batch_log import OutcomeLog
from cluster.cli.exits import Exit
from cluster.cli.invocation import Invocation, connected
from cluster.cli.progress import Display, LiveBar, PlainLines, Tally
from cluster.cli.ranges import span_text
from cluster.cli.records import outcome_document
from cluster.cli.safe_text import one_line
from cluster.cli.slow_stream import SlowStream
from sandpool.errors import SandpoolError
from sandpool.job import SqlJob
from sandpool.outcome import Outcome

_TICK_S = 0.2
_COUNT_CHUNK_BYTES = 1024 * 1024
MOST_NOTED = 100
"""Malformed lines that are told one by one on a terminal; --json tells all."""


@dataclass(slots=True)
class Batch:
    """One run of a file."""

    invocation: Invocation
    lines: BatchLines
    log: OutcomeLog | None
    display: Display
    tally: Tally = field(default_factory=Tally)
    began_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    faults: deque[Malformed] = field(default_factory=deque)
    """Found by the reading thread, told by the event loop."""

    def jobs(self, stream: Lines) -> Iterator[SqlJob]:
        """The jobs that are still to run; everything else is counted."""
        for item in self.lines.read(stream):
            if isinstance(item, Malformed):
                self.tally.malformed += 1
                self.faults.append(item)
            elif self.log is not None and (ending := self.log.ending_of(item)) is not None:
                self.tally.before[ending] += 1
            else:
                yield item

    def take(self, outcome: Outcome) -> None:
        """Count one outcome and write it down."""
        self.tally.ended[outcome.ending] += 1
        self.tally.adopted += outcome.ended_at < self.began_at
        if self.log is not None:
            self.log.write(outcome)
        elif self.invocation.as_json:
            self.invocation.emit(outcome_document(outcome))

    def show(self) -> None:
        """Tell the faults found since, and how far it is."""
        while self.faults:
            fault = self.faults.popleft()
            if self.invocation.as_json:
                self.invocation.emit({"line": fault.line, "error": fault.message})
            elif self.tally.malformed - len(self.faults) <= MOST_NOTED:
                self.display.note(f"line {fault.line}: {one_line(fault.message, 300)}")
        self.tally.repeated = self.lines.repeated
        self.display.update(self.tally)


@click.command()
@click.argument("file", type=click.File("rb"), metavar="FILE.jsonl")
@click.option("-d", "--database", help="Database of lines that name none.")
@click.option("--priority", type=click.Choice(["interactive", "batch"]), help="Of lines that name none.")
@click.option("--concurrency", type=click.IntRange(1, 10_000), default=256, show_default=True, help="Jobs in flight.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Append outcomes there.")
@click.option("--run", default="", help="Name of this run: lines without an id are new jobs under each new name.")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0, min_open=True),
    default=600.0,
    show_default=True,
    help="Give up after this many seconds without an outcome.",
)
@connected
def batch(
    invocation: Invocation,
    file: BinaryIO,
    concurrency: int,
    out: Path | None,
    run: str,
    wait_s: float,
    **defaults: Any,
) -> Exit:
    """Run every job of a JSON Lines file.

    Each line of FILE.jsonl (- is standard input) is one job: {"database": ..., "sql": ..., "params": [...], ...}.

    A line without "id" gets one made of its work, so the same call made again repeats nothing that has ended: it adopts
    the recorded outcome. To run the same lines anew, give another --run name. With --out, outcomes are appended to that
    file, and what stands there already is skipped.

    Lines that are no job are reported with their number and stop nothing. With --json: one outcome (or fault) per line,
    and a summary at the end. Exit code 0 only when every line Succeeded, else 1.
    """
    lines = BatchLines({name: value for name, value in defaults.items() if value is not None}, run)
    with ExitStack() as stack:
        log = stack.enter_context(OutcomeLog(out)) if out is not None else None
        display: Display = LiveBar() if invocation.is_watched and not invocation.as_json else PlainLines()
        work = Batch(invocation, lines, log, stack.enter_context(display))
        work.tally.total = _count_lines(file)
        try:
            asyncio.run(_run(work, file, concurrency, wait_s))
        except (KeyboardInterrupt, SandpoolError):
            stack.close()
            _summarize(work, finished=False)
            raise
    _summarize(work, finished=True)
    return Exit.Ok if work.tally.succeeded else Exit.Incomplete


async def _run(work: Batch, file: BinaryIO, concurrency: int, wait_s: float) -> None:
    slow = None if file.seekable() else SlowStream(file.fileno())
    ticker = asyncio.create_task(_tick(work))
    try:
        async with work.invocation.connection() as client:
            # off_loop: a pipe may be slow, and must not hold up the outcomes that arrive meanwhile.
            batches = client.batches(work.jobs(slow or file), None, concurrency, "", wait_s, off_loop=True)
            try:
                async for outcomes in batches:
                    for outcome in outcomes:
                        work.take(outcome)
            finally:
                if slow is not None:
                    slow.stop()
                await batches.aclose()
    finally:
        ticker.cancel()
        with suppress(asyncio.CancelledError):
            await ticker
        work.show()


async def _tick(work: Batch) -> None:
    while True:
        work.show()
        await asyncio.sleep(_TICK_S)


def _summarize(work: Batch, *, finished: bool) -> None:
    tally = work.tally
    if work.invocation.as_json:
        endings = {str(ending): count for ending, count in sorted((tally.ended + tally.before).items())}
        summary = {
            "finished": finished,
            "endings": endings,
            "malformed": tally.malformed,
            "repeated": tally.repeated,
            "recorded_before": tally.adopted + tally.before.total(),
            "elapsed_s": round(tally.elapsed_s, 3),
        }
        work.invocation.emit({"summary": summary})
        return
    say = work.invocation.say
    say(f"{tally.text()} · {span_text(tally.elapsed_s)}")
    if tally.malformed > MOST_NOTED:
        say(f"only the first {MOST_NOTED} of {tally.malformed:,} malformed lines were told; --json tells all")
    if tally.repeated:
        say(f"{tally.repeated:,} lines named a job of an earlier line and ran once with it")
    if before := tally.adopted + tally.before.total():
        say(f"{before:,} had ended before this call and were not run again (--run NAME makes new jobs of them)")
    if not finished:
        say("not finished; jobs under way go on. The same call made again goes on from here")


def _count_lines(file: BinaryIO) -> int | None:
    """Lines of a regular file; None where reading it would consume it."""
    if not file.seekable():
        return None
    start = file.tell()
    count, last = 0, b""
    while chunk := file.read(_COUNT_CHUNK_BYTES):
        count, last = count + chunk.count(b"\n"), chunk
    file.seek(start)
    return count + (not last.endswith(b"\n") and bool(last))
