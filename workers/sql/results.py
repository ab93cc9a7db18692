"""Turns rows and batches into the data of a result: limits, Arrow, Parquet parts, inline copy.

Called by `rows` and `bulk`; all but the smallest results in threads. Never talks to a database.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import pyarrow as pa

from sandpool.outcome import INLINE_LIMIT_BYTES, Column, Manifest
from workers.attempt import Statement
from workers.sql.columns import build_column, list_depth, resolve_plans, transpose
from workers.sql.types import ColumnPlan
from workers.volumes.result import SMALL_BYTES, ResultWriter, awrite_small, write_small
from workers.volumes.store import Volume

__all__ = [
    "SMALL_BYTES",
    "Ceiling",
    "Delivered",
    "ResultStream",
    "Shapes",
    "deliver_batch",
    "deliver_here",
    "deliver_small",
]

CELLS_HERE = 2_000
"""Most values that are turned into Parquet on the event loop: below it a hop to a thread costs more than the work
(measured: 0.8 ms of CPU per small job here, 1.2 ms with threads, most of it handing over the interpreter lock)."""
MAX_SHAPES = 64
_IPC_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"


@dataclass(frozen=True, slots=True)
class Delivered:
    """A result whose data lies in the volume."""

    manifest: Manifest
    inline: bytes = b""

    @property
    def capped(self) -> bool:
        return self.manifest.partial


class Ceiling:
    """Counts a result against its row and byte limits; cuts the batch that crosses one. Threads may share it."""

    def __init__(self, max_rows: int, max_bytes: int) -> None:
        self._rows_left = max_rows
        self._bytes_left = max_bytes
        self._lock = threading.Lock()
        self.reached = False

    def cut(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The part of this batch that is within the limits; `reached` tells when that is not all of it."""
        with self._lock:
            return self._cut(batch)

    def _cut(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        keep = min(batch.num_rows, self._rows_left)
        kept = batch if keep == batch.num_rows else batch.slice(0, keep)
        size = kept.nbytes
        if size > self._bytes_left:
            keep = _rows_within(batch, keep, self._bytes_left)
            kept = batch.slice(0, keep)
            size = kept.nbytes
        self.reached = self.reached or keep < batch.num_rows
        self._rows_left -= keep
        self._bytes_left -= size
        return kept


class ResultStream:
    """Writes a result that arrives in pieces. One user at a time; `finish` or `abort` ends it."""

    def __init__(
        self,
        volume: Volume,
        statement: Statement,
        plans: Sequence[ColumnPlan],
        *,
        ceiling: Ceiling | None = None,
        first_part: int = 0,
    ) -> None:
        """`ceiling`, `first_part`: where several streams write one result, they share its limits and not its names."""
        self._volume = volume
        self._statement = statement
        self._plans = list(plans)
        self._depths: list[int] = []
        self._ceiling = ceiling or Ceiling(statement.max_rows, statement.max_bytes)
        self._first_part = first_part
        self._writer: ResultWriter | None = None
        self._schema: pa.Schema | None = None

    @property
    def plans(self) -> Sequence[ColumnPlan]:
        """The plans; after the first batch every decimal is decided."""
        return self._plans

    @property
    def is_full(self) -> bool:
        """A limit is reached: no more is wanted."""
        return self._ceiling.reached

    def write_rows(self, rows: Sequence[Any]) -> int:
        """Write rows of the driver; their size as Arrow buffers."""
        columns = transpose(rows, len(self._plans))
        if self._schema is None:
            self._plans = resolve_plans(self._plans, columns, streaming=True)
            pairs = zip(self._plans, columns, strict=True)
            self._depths = [list_depth(plan, values) if plan.is_array else 0 for plan, values in pairs]
        arrays = [
            build_column(plan, values, depth=depth)
            for plan, values, depth in zip(self._plans, columns, self._depths, strict=True)
        ]
        batch = pa.RecordBatch.from_arrays(arrays, schema=self._schema or schema_of(self._plans, arrays))
        self.write(batch)
        return int(batch.nbytes)

    def write(self, batch: pa.RecordBatch) -> None:
        """Write a batch, as far as the limits allow."""
        kept = self._ceiling.cut(batch)
        if self._writer is None:
            self._schema = batch.schema
            job = self._statement
            columns = describe(self._plans, batch.schema)
            name = (job.tenant, job.job_id, job.attempt_id)
            self._writer = ResultWriter(self._volume, *name, batch.schema, columns, first_part=self._first_part)
        if kept.num_rows:
            self._writer.write(kept)

    def finish(self) -> Delivered:
        """Publish what was written; partial when a limit was reached. At least one batch was written."""
        if self._writer is None:
            raise AssertionError("no batch was written")
        return Delivered(self._writer.finish(partial=self._ceiling.reached))

    def abort(self) -> None:
        """Leave nothing behind."""
        if self._writer is not None:
            self._writer.abort()
            self._writer = None


def deliver_small(volume: Volume, statement: Statement, shapes: Shapes, rows: Sequence[Any]) -> Delivered:
    """Write rows that are all at hand (one beyond the limit means more) as one part, with a copy inline. Blocking."""
    small = build_small(statement, shapes, rows)
    return small.delivered(write_small(volume, *small.name, small.table, small.shape.columns))


async def deliver_here(volume: Volume, statement: Statement, shapes: Shapes, rows: Sequence[Any]) -> Delivered:
    """`deliver_small` on the event loop, for at most CELLS_HERE values: about 0.3 ms of it."""
    small = build_small(statement, shapes, rows)
    return small.delivered(await awrite_small(volume, *small.name, small.table, small.shape.columns))


def deliver_batch(
    volume: Volume, statement: Statement, plans: Sequence[ColumnPlan], batch: pa.RecordBatch
) -> Delivered:
    """Write a whole small result that is one batch already. Blocking."""
    small = _cut(statement, Shape.of(plans, batch), batch)
    return small.delivered(write_small(volume, *small.name, small.table, small.shape.columns))


@dataclass(frozen=True, slots=True)
class Shape:
    """Everything about a result that follows from its column types alone."""

    schema: pa.Schema
    columns: tuple[Column, ...]
    ipc_head: bytes
    """The schema message that starts an Arrow IPC stream."""

    @staticmethod
    def of(plans: Sequence[ColumnPlan], batch: pa.RecordBatch) -> Shape:
        return Shape(batch.schema, describe(plans, batch.schema), batch.schema.serialize().to_pybytes())


class Shapes:
    """The plans of one prepared statement and the shapes its results have had: computed once, used by every run."""

    def __init__(self, plans: tuple[ColumnPlan, ...]) -> None:
        self.plans = plans
        self._known: dict[tuple[pa.DataType, ...], Shape] = {}

    def batch(self, rows: Sequence[Any]) -> tuple[pa.RecordBatch, Shape]:
        """All rows as one batch, decimals decided by their values."""
        columns = transpose(rows, len(self.plans))
        settled = resolve_plans(self.plans, columns, streaming=False)
        arrays = [build_column(plan, values) for plan, values in zip(settled, columns, strict=True)]
        # Only these depend on the values: undecided decimals and the depth of arrays.
        key = tuple(
            array.type
            for array, plan, settled_plan in zip(arrays, self.plans, settled, strict=True)
            if plan is not settled_plan or plan.is_array
        )
        shape = self._known.get(key)
        if shape is not None:
            return pa.RecordBatch.from_arrays(arrays, schema=shape.schema), shape
        batch = pa.RecordBatch.from_arrays(arrays, schema=schema_of(settled, arrays))
        shape = Shape.of(settled, batch)
        if len(self._known) < MAX_SHAPES:
            self._known[key] = shape
        return batch, shape


@dataclass(frozen=True, slots=True)
class Small:
    """A small result ready to be stored."""

    name: tuple[str, str, str]
    shape: Shape
    batch: pa.RecordBatch
    table: pa.Table
    rows: int
    """Rows of the result; the batch cannot tell where there are no columns."""
    partial: bool

    def delivered(self, manifest: Manifest) -> Delivered:
        """With the manifest of what was stored."""
        if self.partial or self.rows != manifest.rows:
            manifest = msgspec.structs.replace(manifest, rows=self.rows, partial=self.partial)
        return Delivered(manifest, self._inline())

    def _inline(self) -> bytes:
        """The result as an Arrow IPC stream when it is at most INLINE_LIMIT_BYTES. Same bytes as pa.ipc.new_stream
        writes, which takes six times as long."""
        if not self.batch.num_columns or self.batch.nbytes > INLINE_LIMIT_BYTES:
            return b""
        data = b"".join((self.shape.ipc_head, self.batch.serialize().to_pybytes(), _IPC_END))
        return data if len(data) <= INLINE_LIMIT_BYTES else b""


def build_small(statement: Statement, shapes: Shapes, rows: Sequence[Any]) -> Small:
    """Rows -> what is stored, within the limits. Raises UnrepresentableValue."""
    batch, shape = shapes.batch(rows)
    return _cut(statement, shape, batch, len(rows))


def _cut(statement: Statement, shape: Shape, batch: pa.RecordBatch, rows: int | None = None) -> Small:
    ceiling = Ceiling(statement.max_rows, statement.max_bytes)
    kept = ceiling.cut(batch)
    name = (statement.tenant, statement.job_id, statement.attempt_id)
    table = pa.Table.from_batches([kept], schema=shape.schema)
    found = batch.num_rows if rows is None else rows
    count = kept.num_rows if batch.num_columns else min(found, statement.max_rows)
    return Small(name, shape, kept, table, count, partial=count < found)


def schema_of(plans: Sequence[ColumnPlan], arrays: Sequence[pa.Array[Any]]) -> pa.Schema:
    """The result's schema; every column may hold NULL."""
    return pa.schema([pa.field(plan.name, array.type) for plan, array in zip(plans, arrays, strict=True)])


def describe(plans: Sequence[ColumnPlan], schema: pa.Schema) -> tuple[Column, ...]:
    """The columns as the manifest lists them."""
    return tuple(
        Column(plan.name, str(field.type), plan.database_type) for plan, field in zip(plans, schema, strict=True)
    )


def _rows_within(batch: pa.RecordBatch, rows: int, limit_bytes: int) -> int:
    """The most leading rows (at most `rows`) whose buffers take at most `limit_bytes`, by bisection."""
    low, high = 0, rows
    while low < high:
        middle = (low + high + 1) // 2
        if batch.slice(0, middle).nbytes <= limit_bytes:
            low = middle
        else:
            high = middle - 1
    return low
