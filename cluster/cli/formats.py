"""Writes a result as JSON, CSV, Arrow IPC or Parquet, one batch at a time: memory stays flat however many rows come.

Called by `sql` and `result` with an open binary stream; never reads a volume and never chooses the format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from io import IOBase
from typing import Any, BinaryIO, cast

import msgspec
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from cluster.cli.table import cell_text
from cluster.cli.values import has_clock_text, json_values, rows_of, temporal_text
from sandpool.outcome import Column

SUFFIXES = {".json": "json", ".csv": "csv", ".arrow": "arrow", ".feather": "arrow", ".parquet": "parquet"}
"""What `-o FILE` means where --format does not say."""
_ROW_GROUP_ROWS = 128 * 1024
_JSON_ROWS = 4096

Batches = Iterable[pa.RecordBatch]


def write_json(stream: BinaryIO, schema: pa.Schema, batches: Batches, columns: Sequence[Column]) -> int:
    """One array with one object per row. Returns the number of rows, as all writers here do."""
    types = _types(columns)
    encoder = msgspec.json.Encoder()
    count = 0
    stream.write(b"[")
    for batch in _small(batches):
        values = [
            json_values(array, types.get(name, "")) for name, array in zip(schema.names, batch.columns, strict=True)
        ]
        for row in rows_of(values, schema.names):
            stream.write((b",\n" if count else b"\n") + encoder.encode(row))
            count += 1
    stream.write(b"\n]\n")
    return count


def write_csv(stream: BinaryIO, schema: pa.Schema, batches: Batches, columns: Sequence[Column]) -> int:
    """RFC 4180 with a header; text is quoted, so that an empty text differs from NULL, which is an empty field.

    What CSV has no form for is written as in JSON; bytea as PostgreSQL's hexadecimal text.
    """
    types = _types(columns)
    as_text = pa.schema([pa.field(f.name, f.type if _in_csv(f.type) else pa.string()) for f in schema])
    count = 0
    with pa_csv.CSVWriter(stream, as_text) as writer:
        for batch in batches:
            arrays = [
                array if _in_csv(array.type) else _text_array(array, types.get(name, ""))
                for name, array in zip(schema.names, batch.columns, strict=True)
            ]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=as_text))
            count += batch.num_rows
    return count


def write_arrow(stream: BinaryIO, schema: pa.Schema, batches: Batches, _columns: Sequence[Column]) -> int:
    """Arrow IPC: the file format into a file, the stream format into anything that cannot seek."""
    # pyarrow's stubs know only IOBase, which no BinaryIO is for mypy.
    sink = cast(IOBase, stream)
    opened = pa.ipc.new_file if stream.seekable() else pa.ipc.new_stream
    count = 0
    with opened(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
            count += batch.num_rows
    return count


def write_parquet(stream: BinaryIO, schema: pa.Schema, batches: Batches, _columns: Sequence[Column]) -> int:
    """One Parquet file, zstd."""
    count = 0
    with pq.ParquetWriter(stream, schema, compression="zstd") as writer:
        pending: list[pa.RecordBatch] = []
        for batch in batches:
            pending.append(batch)
            count += batch.num_rows
            if sum(each.num_rows for each in pending) >= _ROW_GROUP_ROWS:
                writer.write_table(pa.Table.from_batches(pending, schema))
                pending.clear()
        writer.write_table(pa.Table.from_batches(pending, schema))
    return count


Write = Callable[[BinaryIO, pa.Schema, Batches, Sequence[Column]], int]

WRITERS: dict[str, Write] = {"json": write_json, "csv": write_csv, "arrow": write_arrow, "parquet": write_parquet}


def _types(columns: Sequence[Column]) -> dict[str, str]:
    return {column.name: column.database_type for column in columns}


def _small(batches: Batches) -> Batches:
    """Batches of few rows: as Python objects they are ten times their Arrow size."""
    for batch in batches:
        for start in range(0, batch.num_rows, _JSON_ROWS):
            yield batch.slice(start, _JSON_ROWS)


def _in_csv(kind: pa.DataType) -> bool:
    """Types that Arrow's CSV writer prints as people and databases expect."""
    return bool(
        pa.types.is_boolean(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_date(kind)
        or pa.types.is_string(kind)
    )


def _text_array(array: Any, database_type: str) -> Any:
    if has_clock_text(array.type):
        return temporal_text(array)
    values = json_values(array, database_type)
    texts = [None if value is None else value if isinstance(value, str) else _json_text(value) for value in values]
    return pa.array(texts, pa.string())


def _json_text(value: object) -> str:
    if isinstance(value, dict) and value.keys() == {"months", "days", "microseconds"}:
        return cell_text(value)
    return msgspec.json.encode(value).decode()
