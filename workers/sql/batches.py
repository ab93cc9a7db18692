"""Brings ADBC's Arrow batches into the exact types that `columns` builds from rows. Pure; runs in bulk threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from workers.sql.columns import DAY_US, cast_decimal, resolve_plans, unrepresentable
from workers.sql.types import ColumnPlan, Kind

# PostgreSQL's first moment is in 4714 BC. ADBC adds the epoch to PostgreSQL's integers without a check: infinities and
# what lies beyond Arrow's last moment wrap to values before that.
_FIRST_DAY = -2_500_000
_NO_NUMBERS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
_FIRST_US = _FIRST_DAY * DAY_US


def settle_plans(plans: Sequence[ColumnPlan], table: pa.Table, *, streaming: bool) -> list[ColumnPlan]:
    """The plans with decimals decided by this table, by the same rules as for rows."""
    undecided = [plan.kind is Kind.NUMERIC and (plan.arrow is None or not streaming) for plan in plans]
    values = [
        _storage(column).to_pylist() if needed else () for column, needed in zip(table.columns, undecided, strict=True)
    ]
    return resolve_plans(plans, values, streaming=streaming)


def convert_batch(plans: Sequence[ColumnPlan], table: pa.Table) -> pa.RecordBatch:
    """One batch in the plans' types. Raises UnrepresentableValue."""
    arrays = [_CONVERTERS[plan.kind](plan, _storage(column)) for plan, column in zip(plans, table.columns, strict=True)]
    schema = pa.schema([pa.field(plan.name, array.type) for plan, array in zip(plans, arrays, strict=True)])
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _storage(column: pa.ChunkedArray[Any]) -> pa.Array[Any]:
    chunks = column.chunks or [pa.array([], column.type)]
    array: pa.Array[Any] = chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks)
    storage: pa.Array[Any] = array.storage if isinstance(array, pa.ExtensionArray) else array
    return storage


def _plain(plan: ColumnPlan, array: pa.Array[Any]) -> pa.Array[Any]:
    return array if array.type == plan.arrow else array.cast(plan.arrow)


def _text(_plan: ColumnPlan, array: pa.Array[Any]) -> pa.Array[Any]:
    """Numerics that go as text: ADBC has words of its own for what is no number."""
    for word, ours in _NO_NUMBERS.items():
        array = pc.if_else(pc.equal(array, pa.scalar(word)), pa.scalar(ours), array)
    return array


def _day(plan: ColumnPlan, array: pa.Array[Any]) -> pa.Array[Any]:
    low = pc.min(array.view(pa.int32())).as_py()
    if low is not None and low < _FIRST_DAY:
        raise unrepresentable(plan, "has an infinite date, beyond")
    return array


def _moment(plan: ColumnPlan, array: pa.Array[Any]) -> pa.Array[Any]:
    low = pc.min(array.view(pa.int64())).as_py()
    if low is not None and low < _FIRST_US:
        raise unrepresentable(plan, "has an infinite timestamp or one beyond")
    return array if array.type == plan.arrow else array.cast(plan.arrow)


def _time(plan: ColumnPlan, array: pa.Array[Any]) -> pa.Array[Any]:
    high = pc.max(array.view(pa.int64())).as_py()
    if high is not None and high >= DAY_US:
        raise unrepresentable(plan, "has the time 24:00:00, beyond")
    return array


def _uuid(_plan: ColumnPlan, array: pa.Array[Any]) -> pa.Array[Any]:
    return pa.ExtensionArray.from_storage(pa.uuid(), array)


_CONVERTERS: dict[Kind, Callable[[ColumnPlan, pa.Array[Any]], pa.Array[Any]]] = {
    Kind.PLAIN: _plain,
    Kind.TEXT: _text,
    Kind.NUMERIC: cast_decimal,
    Kind.DATE: _day,
    Kind.TIMESTAMP: _moment,
    Kind.TIME: _time,
    Kind.UUID: _uuid,
}
