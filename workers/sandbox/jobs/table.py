"""Takes a result that is a table: one Parquet file that our code inside wrote, and what it says about it.

Called by `run` after a transform, a query or the reading of a catalog. The tenant's code, or an engine that reads the
tenant's file, ran in the same process as ours: so the file stays opaque bytes here. Its size is bounded, its first and
last four bytes must be Parquet's, it is hashed; columns and rows are noted as *declared*, and whoever reads the result
finds out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import msgspec

from sandpool.outcome import Column, Ending, ErrorInfo, Manifest, Part
from workers.errors import WorkerError
from workers.sandbox.errors import FileRefused
from workers.sandbox.image import HOME
from workers.sandbox.jobs.collecting import Place, copy_out
from workers.sandbox.jobs.errors import OutputsTooLarge, ResultInvalid
from workers.sandbox.session import Session
from workers.sandbox.task import SandboxTask

FOLDER = f"{HOME}/.sandpool"
MAGIC = b"PAR1"
MOST_DESCRIPTION_BYTES = 4 << 20
Name = Annotated[str, msgspec.Meta(max_length=4096)]


class DeclaredColumn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Name
    arrow_type: Name


class Declared(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a description says."""

    columns: Annotated[list[DeclaredColumn], msgspec.Meta(max_length=10_000)]
    rows: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    partial: bool


_declared = msgspec.json.Decoder(Declared)


@dataclass(slots=True)
class Result:
    """What a task that makes a table has made."""

    manifest: Manifest = field(default_factory=Manifest)
    answer: bytes = b""
    """A catalog, as JSON."""
    error: WorkerError | None = None
    ending: tuple[Ending, ErrorInfo] | None = None
    """OutputCapped, when a ceiling cut the rows."""


async def take_result(session: Session, task: SandboxTask, place: Place) -> Result:
    """Nothing for code and commands. Raises SessionError, VolumeError."""
    try:
        if task.kind == "catalog":
            return Result(answer=await session.read_file(f"{FOLDER}/catalog.json", max_bytes=MOST_DESCRIPTION_BYTES))
        if task.kind in ("transform", "query"):
            return await _table(session, task, place)
    except FileRefused as error:
        if error.reason == "EFBIG":
            return Result(error=OutputsTooLarge("the result is larger than it may be", hint="return fewer rows"))
        return Result(error=ResultInvalid(f"no result was left ({error.reason})"))
    except ResultInvalid as error:
        return Result(error=error)
    return Result()


def read_description(content: bytes) -> Declared:
    """Raises ResultInvalid for everything that our code inside would not write: the tenant's may have been there."""
    try:
        return _declared.decode(content)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ResultInvalid("the description of the result is none") from error


async def _table(session: Session, task: SandboxTask, place: Place) -> Result:
    said = read_description(await session.read_file(f"{FOLDER}/result.json", max_bytes=MOST_DESCRIPTION_BYTES))
    # Encoded it may be a little larger than its values where nothing repeats.
    most_bytes = task.max_bytes + task.max_bytes // 8 + (1 << 20)
    copied = await copy_out(session, f"{FOLDER}/result.parquet", "", place.part_key(0), place, most_bytes)
    if copied.ends != (MAGIC, MAGIC):
        return Result(error=ResultInvalid("the result is no Parquet file"))
    columns = tuple(Column(column.name, column.arrow_type, "") for column in said.columns)
    part = Part(copied.file.key, said.rows, copied.file.size_bytes, copied.file.sha256)
    manifest = Manifest(
        columns=columns,
        parts=(part,),
        rows=said.rows,
        size_bytes=part.size_bytes,
        partial=said.partial,
        declared=True,
    )
    if not said.partial:
        return Result(manifest)
    what = f"more than {task.max_rows} rows or {task.max_bytes} bytes; the first {said.rows} rows are here"
    return Result(manifest, ending=(Ending.OutputCapped, ErrorInfo("result.capped", what, "ask for fewer rows")))
