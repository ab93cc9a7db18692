"""What came of a job: its single recorded ending, with verdict, manifest, usage and error.

The JSON of an `Outcome` is what lies at `<tenant>/<job>/manifest.json` in the job's volume: whoever creates that object
first has recorded the ending. The same value, with small results inline, travels back to the caller. No I/O here.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, NoReturn

import msgspec

from sandpool import errors

if TYPE_CHECKING:
    import pyarrow as pa

INLINE_LIMIT_BYTES = 64 * 1024
"""Results up to this size (Arrow IPC stream) travel inside the outcome message."""
TEXT_BYTES = 64 * 1024
"""Longest stdout, stderr or value inside an outcome, each."""


class Ending(StrEnum):
    """How an attempt, and at last the job, ended."""

    Succeeded = "Succeeded"
    Denied = "Denied"
    Failed = "Failed"
    TimedOut = "TimedOut"
    OutOfMemory = "OutOfMemory"
    OutputCapped = "OutputCapped"
    Cancelled = "Cancelled"
    Lost = "Lost"


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """The policy's answer for one statement: allow (`sql` is the text that runs) or deny (`rule`, `reason`)."""

    allowed: bool
    rule: str = ""
    """Dotted id of the rule that denied, for example `table.unlisted`; empty when allowed."""
    reason: str = ""
    """One sentence: what is refused and how to rephrase it."""
    sql: str = ""
    """The re-printed, perhaps rewritten statement; empty when denied."""
    statement: str = ""
    """Kind of the statement when allowed: `select`, `insert`, `update`, `delete` or `merge`."""


class ErrorInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why an ending is not `Succeeded`, safe to show to the tenant."""

    code: str
    """Dotted id, for example `database.unavailable`."""
    message: str
    hint: str = ""
    """What to do about it."""
    sqlstate: str = ""
    """PostgreSQL's five-character code where the database raised the error."""
    retryable: bool = False


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the job cost."""

    wait_s: float = 0.0
    """Seconds between submission and the start of this attempt."""
    run_s: float = 0.0
    """Seconds of this attempt, placement to data written."""
    rows: int = 0
    size_bytes: int = 0
    """Bytes written to the volume as data."""
    cpu_s: float = 0.0
    """CPU seconds of the sandbox, as the kernel counted them."""
    peak_memory_bytes: int = 0
    """Most memory that the sandbox had at once, as the kernel counted it."""
    output_bytes: int = 0
    """stdout and stderr together."""
    input_bytes: int = 0
    """Of files from volumes that the sandbox got."""
    hand_out_s: float = 0.0
    """Seconds until the sandbox was there; part of `run_s`."""
    image: str = ""
    """The image of the sandbox, as `name@digest`."""


class Part(msgspec.Struct, frozen=True):
    """One data file of a result."""

    key: str
    """Object key relative to the volume's root."""
    rows: int
    size_bytes: int
    sha256: str


class Column(msgspec.Struct, frozen=True):
    """One column of a result: its name, its Arrow type and the database's own name for the type."""

    name: str
    arrow_type: str
    database_type: str


class File(msgspec.Struct, frozen=True, omit_defaults=True):
    """One file that code left. Its bytes come out of a sandbox: nothing on the cluster's side has looked into them."""

    path: str
    """Relative to the working folder inside; what the sandbox says, so never a path to write to unchecked."""
    key: str
    """Object key relative to the volume's root."""
    size_bytes: int
    sha256: str


class Display(msgspec.Struct, frozen=True, omit_defaults=True):
    """One MIME type of the value of the last expression, of a figure or of a `display(...)`, like in a notebook."""

    type: str
    key: str
    """Object key relative to the volume's root."""
    size_bytes: int
    sha256: str
    item: int = 0
    """0: the value; from 1: figures and displays, in order. An item may have several types."""
    data: bytes = b""
    """The content itself when it is small; never part of the stored record."""


class Watermark(msgspec.Struct, frozen=True):
    """How far an incremental run has read: the highest value of its column, in the database's own text form."""

    column: str
    value: str


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True):
    """The data of a result: Parquet parts in order, their columns and checksums; or what code left."""

    columns: tuple[Column, ...] = ()
    parts: tuple[Part, ...] = ()
    rows: int = 0
    size_bytes: int = 0
    partial: bool = False
    """True when a limit ended the result early: the rows here are right, but not all."""
    rows_affected: int | None = None
    """Rows inserted, updated, deleted or merged; None for a read."""
    files: tuple[File, ...] = ()
    """Output files of code."""
    displays: tuple[Display, ...] = ()
    omitted: int = 0
    """Outputs left out: links and devices that a glob matched, displays over the limit."""
    declared: bool = False
    """True when columns and rows are what code in a sandbox said: the reader finds out, nobody here looked."""
    watermark: Watermark | None = None
    """Where the next incremental run begins; None where there was no row yet, and for every other job."""


class Said(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What code in a sandbox printed and left: its own word, to be shown and never interpreted."""

    stdout: str = ""
    """Bytes that are not UTF-8 as `\\xff`. Cut at TEXT_BYTES; then all of it lies in `stdout_file`."""
    stderr: str = ""
    """Like stdout; ends with the traceback where an exception ended the code."""
    value: str = ""
    """The value of the last expression as `repr` shows it; cut at TEXT_BYTES."""
    exit_code: int | None = None
    """Of a program, or of `sys.exit`; negative: ended by that signal."""
    stdout_file: File | None = None
    stderr_file: File | None = None


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The job's single recorded ending."""

    job_id: str
    tenant: str
    ending: Ending
    digest: str
    """SHA-256 of the work (`sandpool.job.digest`): a later submission of this id must match it."""
    volume: str
    """Registered name of the volume that holds this record and its data."""
    volume_url: str = ""
    """Root of that volume, for example `file:///srv/sandpool` or `s3://bucket/prefix`; never a credential."""
    attempt: int = 1
    """Number of the attempt that ended the job, from 1."""
    verdict: Verdict | None = None
    error: ErrorInfo | None = None
    usage: Usage = Usage()
    manifest: Manifest = Manifest()
    labels: dict[str, str] = {}
    ended_at: datetime
    retain_until: datetime | None = None
    """Moment after which the sweeper may remove data and record; None: kept."""
    inline: bytes = b""
    """The whole result as an Arrow IPC stream when it is small; never part of the stored record."""
    said: Said | None = None
    """What code printed and left; None for a statement."""

    @property
    def succeeded(self) -> bool:
        return self.ending is Ending.Succeeded

    @property
    def stdout(self) -> str:
        return self.said.stdout if self.said else ""

    @property
    def stderr(self) -> str:
        return self.said.stderr if self.said else ""

    @property
    def value(self) -> str:
        """What the last expression of a Python job evaluated to, as `repr` shows it."""
        return self.said.value if self.said else ""

    @property
    def exit_code(self) -> int | None:
        return self.said.exit_code if self.said else None

    def keys(self) -> set[str]:
        """Keys of everything in the volume that belongs to this ending."""
        texts = (self.said.stdout_file, self.said.stderr_file) if self.said else ()
        named = (*self.manifest.parts, *self.manifest.files, *self.manifest.displays, *texts)
        return {each.key for each in named if each is not None}

    def raise_for_ending(self) -> Outcome:
        """This outcome when it `Succeeded`; else raises the JobError of its ending."""
        if not self.succeeded:
            raise _ERROR_OF[self.ending](self)
        return self

    def table(self, *, allow_partial: bool = False) -> pa.Table:
        """The result as one Arrow table: from the message when small, else from the volume.

        Object-store credentials come from the process environment, as obstore reads them.
        Raises JobError unless the job `Succeeded` (or is `OutputCapped` and `allow_partial`), ResultUnavailable when
        the data cannot be read or does not match its checksum. Needs `sandpool[arrow]`.
        """
        if not (allow_partial and self.ending is Ending.OutputCapped):
            self.raise_for_ending()
        from sandpool.results import read_table  # noqa: PLC0415 - pyarrow costs 150 ms and is an extra

        return read_table(self)

    def read_file(self, item: File | Display | str) -> bytes:
        """The bytes of an output file (named by its path) or a display, checked against their SHA-256.

        Object-store credentials come from the process environment, as obstore reads them. Raises ResultUnavailable;
        KeyError for a path that is no output. Needs `sandpool[arrow]`.
        """
        if isinstance(item, str):
            item = next((file for file in self.manifest.files if file.path == item), None) or _missing(item)
        if isinstance(item, Display) and item.data:
            return item.data
        from sandpool.objects import read_object  # noqa: PLC0415 - obstore costs 60 ms and is an extra

        return read_object(self, item.key, item.size_bytes, item.sha256)


def without_data(outcome: Outcome) -> Outcome:
    """The outcome as it is recorded: without the data that travels with the message."""
    displays = tuple(msgspec.structs.replace(each, data=b"") for each in outcome.manifest.displays)
    manifest = msgspec.structs.replace(outcome.manifest, displays=displays) if displays else outcome.manifest
    return msgspec.structs.replace(outcome, inline=b"", manifest=manifest)


def _missing(path: str) -> NoReturn:
    raise KeyError(f"no output file {path!r}")


_ERROR_OF: dict[Ending, type[errors.JobError]] = {
    Ending.Denied: errors.JobDenied,
    Ending.Failed: errors.JobFailed,
    Ending.TimedOut: errors.JobTimedOut,
    Ending.OutOfMemory: errors.JobOutOfMemory,
    Ending.OutputCapped: errors.JobOutputCapped,
    Ending.Cancelled: errors.JobCancelled,
    Ending.Lost: errors.JobLost,
}
