"""Reads the rows of an outcome: from the message when they came with it, else from the volume that the manifest names.

Called by `Outcome.table()` and by services that stream (`read_batches`). Needs the extra `sandpool[arrow]`. Reads only.

What is read is not trusted: a result may have been written inside a sandbox, and an outcome may be forged. So keys must
be this job's data files, every part must match its SHA-256 before any of it is decoded (`sandpool.objects`), and Arrow
extension types are disarmed (`sandpool.inert`): nothing is ever unpickled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from sandpool.errors import ResultUnavailable
from sandpool.inert import disarm_parquet, disarm_stream
from sandpool.objects import CHUNK_BYTES, explained, fetch
from sandpool.outcome import Outcome, Part

BATCH_ROWS = 65_536

_KEY = re.compile(
    r"(?!\.)[A-Za-z0-9_.!-]{1,255}/([A-Za-z0-9][A-Za-z0-9_-]{0,63})/[A-Za-z0-9][A-Za-z0-9_-]{0,63}/part-[0-9]{5}\.parquet"
)


def read_table(outcome: Outcome, *, options: Mapping[str, str] | None = None) -> pa.Table:
    """All rows of the result, partial ones too, whatever the ending; an empty table without columns when it has none.

    `options` are obstore's own, for example `endpoint`; by default the environment decides.
    Raises ResultUnavailable when the data cannot be read or is not what the manifest says.
    """
    if outcome.inline:
        return _read_inline(outcome)
    tables = []
    for part in outcome.manifest.parts:
        with _opened(outcome, part, options) as file:
            tables.append(_plain(file.read()))
    return pa.concat_tables(tables) if tables else pa.table({})


def read_batches(
    outcome: Outcome, *, batch_rows: int = BATCH_ROWS, options: Mapping[str, str] | None = None
) -> Iterator[pa.RecordBatch]:
    """The same rows as read_table in batches of at most `batch_rows`, in bounded memory however many they are.

    A part larger than 64 MiB is spooled to a temporary file, because nothing of it is decoded before its checksum is
    known to be right. Raises ResultUnavailable, possibly after batches of earlier parts.
    """
    if outcome.inline:
        yield from _read_inline(outcome).to_batches(max_chunksize=batch_rows)
        return
    for part in outcome.manifest.parts:
        with _opened(outcome, part, options) as file:
            for batch in file.iter_batches(batch_size=batch_rows):
                yield from _plain(pa.Table.from_batches([batch])).to_batches()


def _read_inline(outcome: Outcome) -> pa.Table:
    try:
        with pa.ipc.open_stream(pa.py_buffer(disarm_stream(outcome.inline))) as reader:
            table = reader.read_all()
        # Arrow trusts the offsets inside a buffer unless asked: wrong ones would read foreign memory.
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ResultUnavailable(f"the inline result of job {outcome.job_id} is damaged: {error}") from error
    if table.num_rows != outcome.manifest.rows:
        message = f"the inline result of job {outcome.job_id} has {table.num_rows} rows, not {outcome.manifest.rows}"
        raise ResultUnavailable(message)
    return _plain(table)


@contextmanager
def _opened(outcome: Outcome, part: Part, options: Mapping[str, str] | None) -> Iterator[pq.ParquetFile]:
    """The verified, disarmed part. Every failure inside the block becomes ResultUnavailable."""
    key = _KEY.fullmatch(part.key)
    if key is None or key[1] != outcome.job_id:
        raise ResultUnavailable(f"job {outcome.job_id}: its manifest names {part.key[:80]!r}, which is not its data")
    with (
        explained(outcome, part.key, (pa.ArrowException,)),
        fetch(outcome, part.key, part.size_bytes, part.sha256, options or {}) as raw,
        disarm_parquet(raw, part.size_bytes) as safe,
        # Without pre_buffer a row group is decoded as it is read, not loaded first.
        pq.ParquetFile(safe, pre_buffer=False, buffer_size=CHUNK_BYTES) as file,
    ):
        # Of what code in a sandbox declared, only the file itself is believed.
        if not outcome.manifest.declared and file.metadata.num_rows != part.rows:
            raise ValueError(f"{file.metadata.num_rows} rows, not {part.rows}")
        yield file


def _plain(table: pa.Table) -> pa.Table:
    """The same columns without any metadata, so that a result has one schema whichever way it came."""
    schema = pa.schema([pa.field(field.name, field.type, field.nullable) for field in table.schema])
    return pa.Table.from_arrays(table.columns, schema=schema)
