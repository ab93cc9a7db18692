"""Writes one attempt's rows as Parquet under that attempt's own name, and answers with the manifest that names them.

Used by the pools. Small results take `write_small`: encoded in memory, one create. Others stream through
`ResultWriter`, whose memory stays flat however many rows come: one row group is collected (16 MiB of Arrow), encoded
and handed to the volume's streaming writer while its SHA-256 is computed; at 512 MiB a part is closed and the next
begins.

Nothing here records an ending: until the record names these parts they do not exist for anybody, and a crashed
attempt's parts are removed by workers.volumes.sweep.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from sandpool.outcome import Column, Manifest, Part
from workers.errors import VolumeCorrupt, VolumeError
from workers.volumes.keys import part_key
from workers.volumes.parquet import is_ready, parquet_ready, parquet_schema, writer_options
from workers.volumes.store import Volume, Writer

SMALL_BYTES = 1024 * 1024
"""Up to this size in Arrow buffers write_small is the better way."""
PART_BYTES = 512 * 1024 * 1024
ROW_GROUP_BYTES = 16 * 1024 * 1024
MAX_ROW_GROUP_ROWS = 1024 * 1024


def write_small(
    volume: Volume, tenant: str, job_id: str, attempt_id: str, table: pa.Table, columns: tuple[Column, ...]
) -> Manifest:
    """Write a result that is in memory as a single part. Blocking.

    Raises UnrepresentableValue for types that Parquet cannot hold; VolumeUnavailable, VolumeFull.
    """
    part, data = _encode(tenant, job_id, attempt_id, table)
    if not volume.create(part.key, data):
        _check_own(volume.name, part, volume.get(part.key, limit_bytes=len(data)), data)
    return Manifest(columns=columns, parts=(part,), rows=part.rows, size_bytes=part.size_bytes)


async def awrite_small(
    volume: Volume, tenant: str, job_id: str, attempt_id: str, table: pa.Table, columns: tuple[Column, ...]
) -> Manifest:
    """Like write_small, without blocking the event loop on a network (encoding 1 MiB takes about 5 ms of it)."""
    part, data = _encode(tenant, job_id, attempt_id, table)
    if not await volume.acreate(part.key, data):
        _check_own(volume.name, part, await volume.aget(part.key, limit_bytes=len(data)), data)
    return Manifest(columns=columns, parts=(part,), rows=part.rows, size_bytes=part.size_bytes)


class ResultWriter:
    """Streams one attempt's rows into parts. Blocking; one thread at a time. As a context manager it aborts what was
    not finished."""

    def __init__(
        self,
        volume: Volume,
        tenant: str,
        job_id: str,
        attempt_id: str,
        schema: pa.Schema,
        columns: tuple[Column, ...],
        *,
        part_bytes: int = PART_BYTES,
        row_group_bytes: int = ROW_GROUP_BYTES,
        first_part: int = 0,
    ) -> None:
        """Touches nothing yet. `first_part`: number in the name of the first part.

        Raises UnrepresentableValue for types that Parquet cannot hold.
        """
        self._volume = volume
        self._name = (tenant, job_id, attempt_id)
        self._schema = parquet_schema(schema)
        self._columns = columns
        self._part_bytes = part_bytes
        self._row_group_bytes = row_group_bytes
        self._first_part = first_part
        self._pending: list[pa.RecordBatch] = []
        self._pending_bytes = 0
        self._parts: list[Part] = []
        self._part: _PartWriter | None = None
        part_key(*self._name, first_part)

    def write(self, batch: pa.RecordBatch) -> None:
        """Take these rows. Raises VolumeUnavailable, VolumeFull; then only `abort` is left to do."""
        ready = parquet_ready(batch)
        if ready.schema != self._schema:
            raise ValueError(f"batch of schema {ready.schema} in a result of schema {self._schema}")
        while ready.num_rows:
            rows = self._rows_that_fit(ready)
            self._pending.append(ready.slice(0, rows))
            self._pending_bytes += self._pending[-1].nbytes
            ready = ready.slice(rows)
            if ready.num_rows or self._pending_bytes >= self._row_group_bytes:
                self._flush()

    def finish(self, *, partial: bool = False) -> Manifest:
        """Close the last part; at least one is written, so that an empty result keeps its schema."""
        self._flush()
        if not self._parts and self._part is None:
            self._part = self._open_part()
        self._close_part()
        return Manifest(
            columns=self._columns,
            parts=tuple(self._parts),
            rows=sum(part.rows for part in self._parts),
            size_bytes=sum(part.size_bytes for part in self._parts),
            partial=partial,
        )

    def abort(self) -> None:
        """Forget everything, as far as the volume still answers; never raises. The sweeper removes the rest."""
        self._pending.clear()
        if self._part is not None:
            self._part.abort()
            self._part = None
        with suppress(VolumeError):
            self._volume.delete([part.key for part in self._parts])
        self._parts.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.abort()

    def _rows_that_fit(self, batch: pa.RecordBatch) -> int:
        pending_rows = sum(each.num_rows for each in self._pending)
        space = self._row_group_bytes - self._pending_bytes
        by_bytes = batch.num_rows if batch.nbytes <= space else space * batch.num_rows // batch.nbytes
        return max(1, min(batch.num_rows, by_bytes, MAX_ROW_GROUP_ROWS - pending_rows))

    def _flush(self) -> None:
        if not self._pending:
            return
        if self._part is None:
            self._part = self._open_part()
        table = pa.Table.from_batches(self._pending, self._schema)
        self._pending, self._pending_bytes = [], 0
        self._part.write(table)
        if self._part.size_bytes >= self._part_bytes:
            self._close_part()

    def _open_part(self) -> _PartWriter:
        key = part_key(*self._name, self._first_part + len(self._parts))
        return _PartWriter(key, self._volume.open_writer(key), self._schema)

    def _close_part(self) -> None:
        if self._part is not None:
            self._parts.append(self._part.close())
            self._part = None


class _PartWriter:
    """One Parquet file on its way into the volume, counted and hashed."""

    def __init__(self, key: str, writer: Writer, schema: pa.Schema) -> None:
        self._key = key
        self._writer = writer
        self._sink = _HashingSink(writer)
        self._rows = 0
        try:
            sink: Any = self._sink
            self._parquet = pq.ParquetWriter(sink, schema, **writer_options())
        except BaseException:
            writer.abort()
            raise

    @property
    def size_bytes(self) -> int:
        return self._sink.size_bytes

    def write(self, table: pa.Table) -> None:
        """As one row group."""
        self._parquet.write_table(table, row_group_size=MAX_ROW_GROUP_ROWS)
        self._rows += table.num_rows

    def close(self) -> Part:
        try:
            self._parquet.close()
            self._writer.close()
        except BaseException:
            self.abort()
            raise
        return Part(self._key, self._rows, self._sink.size_bytes, self._sink.sha256())

    def abort(self) -> None:
        # pyarrow writes a footer whenever a ParquetWriter ends: the sink swallows it.
        self._sink.discard()
        with suppress(Exception):
            self._parquet.close()
        self._writer.abort()


class _HashingSink:
    """What pyarrow sees as a file: passes bytes on, counts and hashes them."""

    def __init__(self, writer: Writer) -> None:
        self._writer: Writer | None = writer
        self._hash = hashlib.sha256()
        self.size_bytes = 0
        self.closed = False

    def write(self, data: bytes) -> int:
        if self._writer is not None:
            # pyarrow may lend a view of its own buffer, which it reuses while an upload still reads it.
            chunk = data if type(data) is bytes else bytes(data)
            self._hash.update(chunk)
            self._writer.write(chunk)
            self.size_bytes += len(chunk)
        return len(data)

    def discard(self) -> None:
        self._writer = None

    def flush(self) -> None:
        """Nothing is held here."""

    def sha256(self) -> str:
        return self._hash.hexdigest()


def _encode(tenant: str, job_id: str, attempt_id: str, table: pa.Table) -> tuple[Part, bytes]:
    key = part_key(tenant, job_id, attempt_id, 0)
    schema = table.schema
    if not is_ready(schema):
        schema = parquet_schema(schema)
        table = pa.Table.from_batches(map(parquet_ready, table.to_batches()), schema)
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, schema, **writer_options(table.nbytes)) as writer:
        writer.write_table(table, row_group_size=MAX_ROW_GROUP_ROWS)
    data = sink.getvalue().to_pybytes()
    return Part(key, table.num_rows, len(data), hashlib.sha256(data).hexdigest()), data


def _check_own(volume: str, part: Part, there: bytes | None, ours: bytes) -> None:
    # The key belongs to this attempt alone: what is there can only be an earlier try of this put whose answer was lost.
    if there != ours:
        raise VolumeCorrupt(f"volume {volume}: other data lies at {part.key}")
