"""Prints what came of one job: its rows in the wished form, and its ending. Called by `sql` and `result`.

Rows go to standard output or into a file; everything else (footer, denial, error, hint) to standard error, so that a
pipe receives data alone. Returns the exit code of the ending.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import click
import msgspec
import pyarrow as pa

from cluster.cli.destination import open_destination
from cluster.cli.endings import ending_lines, rows_text
from cluster.cli.exits import Exit, exit_for
from cluster.cli.formats import SUFFIXES, WRITERS, write_json
from cluster.cli.grid import print_grid
from cluster.cli.invocation import Invocation
from cluster.cli.ranges import span_text
from cluster.cli.records import outcome_document
from cluster.cli.source import Source, has_rows, open_source
from cluster.cli.table import grid_of
from cluster.cli.volumes import registered_spec
from cluster.errors import SettingsInvalid
from sandpool.outcome import Ending, Outcome

SHOWN_ROWS = 100

Command = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Form:
    """How the rows are wanted. `format` None: a table for people."""

    format: str | None = None
    path: Path | None = None
    shown_rows: int = SHOWN_ROWS
    partial: bool = False
    """Take the rows of a result that a limit ended early."""


def result_options(command: Command) -> Command:
    """Options that `form_of` turns into a Form."""
    for option in (
        click.option("--partial", is_flag=True, help="Also write rows of a result that ended OutputCapped."),
        click.option(
            "--show", type=click.IntRange(0), default=SHOWN_ROWS, show_default=True, help="Most rows a table shows."
        ),
        click.option(
            "-o",
            "--output",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="Write all rows.",
        ),
        click.option(
            "--format",
            "form",
            type=click.Choice(["table", *WRITERS]),
            help="Form of the rows; else by the suffix of -o, else a table.",
        ),
    ):
        command = option(command)
    return command


def form_of(form: str | None, output: Path | None, show: int, partial: bool, *, as_json: bool) -> Form:
    """The options as a Form. Raises click.UsageError for a combination that makes no sense."""
    if output is not None:
        form = form or SUFFIXES.get(output.suffix.lower())
        if form is None or form == "table":
            raise click.UsageError(f"-o {output.name}: give --format {'|'.join(WRITERS)}, or a suffix that says it")
        return Form(form, output, show, partial)
    if as_json and form not in (None, "json"):
        raise click.UsageError("--json prints one JSON document; for other rows give -o FILE as well")
    if form in ("arrow", "parquet") and sys.stdout.isatty():
        raise click.UsageError(f"{form} is binary: give -o FILE, or pipe it on")
    return Form(None if form == "table" else form, None, show, partial)


def print_answer(invocation: Invocation, outcome: Outcome, form: Form, elapsed_s: float | None = None) -> Exit:
    """Print rows and ending. Raises what reading the result or writing the file raises."""
    code = exit_for(outcome.ending)
    wanted = outcome.succeeded or (
        outcome.ending is Ending.OutputCapped and (form.partial or (form.format is None and not invocation.as_json))
    )
    source = open_source(outcome, options_for(invocation, outcome)) if wanted and has_rows(outcome) else None
    if invocation.as_json:
        _print_document(outcome, form, source)
        return code
    if source is not None:
        _print_rows(outcome, form, source)
    for line in ending_lines(outcome):
        invocation.say(line)
    if source is not None and form.path is not None:
        invocation.say(f"{rows_text(outcome.manifest.rows)} in {form.path}")
    if form.format is None or form.path is not None:
        invocation.say(footer(outcome, form, elapsed_s, datetime.now(UTC)))
    return code


def footer(outcome: Outcome, form: Form, elapsed_s: float | None, now: datetime) -> str:
    """`3 rows · 12 ms · attempt 1 · job 0193…`"""
    manifest = outcome.manifest
    pieces = []
    if manifest.rows_affected is not None:
        pieces.append(f"{rows_text(manifest.rows_affected)} changed")
    if manifest.rows_affected is None or manifest.rows:
        shown = min(manifest.rows, form.shown_rows)
        cut = f", {shown:,} shown: -o FILE writes all" if form.path is None and shown < manifest.rows else ""
        pieces.append(rows_text(manifest.rows) + cut)
    ran = f"ran {span_text(outcome.usage.run_s)}"
    pieces.append(f"{span_text(elapsed_s)} ({ran})" if elapsed_s is not None else ran)
    age_s = (now - outcome.ended_at).total_seconds()
    if age_s > (elapsed_s or 0.0) + 5:
        pieces.append(f"recorded {span_text(age_s)} ago")
    return " · ".join((*pieces, f"attempt {outcome.attempt}", f"job {outcome.job_id}"))


def options_for(invocation: Invocation, outcome: Outcome) -> dict[str, str] | None:
    """Options that reach the outcome's volume, where the configuration registers it; else the environment decides."""
    if outcome.inline or outcome.volume_url.startswith("file:") or not invocation.has_settings:
        return None
    try:
        spec = registered_spec(invocation.settings, outcome.volume)
    except SettingsInvalid:
        # A caller with a URL and credentials of its own need not be able to read the cluster's configuration.
        return None
    return dict(spec.options) if spec is not None and spec.url == outcome.volume_url else None


def _print_document(outcome: Outcome, form: Form, source: Source | None) -> None:
    """One JSON object; `rows` is streamed, so that it may be larger than memory."""
    out = sys.stdout.buffer
    head = msgspec.json.encode(outcome_document(outcome))
    if form.path is not None:
        if source is not None:
            _write(outcome, form, source)
        name = msgspec.json.encode(str(form.path) if source is not None else None)
        out.write(b'{"outcome":' + head + b',"file":' + name + b"}\n")
    elif source is None:
        out.write(b'{"outcome":' + head + b',"rows":null}\n')
    else:
        out.write(b'{"outcome":' + head + b',"rows":')
        write_json(out, source.schema, source.batches, outcome.manifest.columns)
        out.write(b"}\n")
    out.flush()


def _print_rows(outcome: Outcome, form: Form, source: Source) -> None:
    if form.format is not None:
        _write(outcome, form, source)
        return
    print_grid(grid_of(_head(source, form.shown_rows), outcome.manifest.columns))


def _write(outcome: Outcome, form: Form, source: Source) -> None:
    with open_destination(form.path) as stream:
        _write_into(stream, outcome, form, source)


def _write_into(stream: BinaryIO, outcome: Outcome, form: Form, source: Source) -> None:
    WRITERS[form.format or "json"](stream, source.schema, source.batches, outcome.manifest.columns)


def _head(source: Source, rows: int) -> pa.Table:
    """The first rows; nothing beyond them is read."""
    taken: list[pa.RecordBatch] = []
    left = rows
    for batch in source.batches:
        taken.append(batch.slice(0, left))
        left -= taken[-1].num_rows
        if left <= 0:
            break
    return pa.Table.from_batches(taken, source.schema)
