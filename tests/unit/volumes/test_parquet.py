"""Every Arrow type either survives Parquet, or has a documented other form with the same values, or is refused."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.errors import UnrepresentableValue
from workers.volumes.parquet import INTERVAL_STRUCT, parquet_ready, parquet_schema, writer_options

NOW = datetime(2026, 11, 23, 17, 0, 0, 123456, tzinfo=UTC)
SURVIVES: list[tuple[pa.DataType, list[Any]]] = [
    (pa.null(), [None, None]),
    (pa.bool_(), [True, None, False]),
    (pa.int16(), [-32768, None, 32767]),
    (pa.int64(), [-(2**63), None, 2**63 - 1]),
    (pa.uint32(), [2**32 - 1, None]),
    (pa.float32(), [float("inf"), None, -0.0]),
    (pa.float64(), [float("-inf"), None, 5e-324]),
    (pa.string(), ["", None, "ä\u0000名"]),
    (pa.large_string(), ["x", None]),
    (pa.binary(), [b"", None, b"\x00\xff"]),
    (pa.uuid(), [b"0123456789abcdef", None]),
    (pa.date32(), [NOW.date(), None]),
    (pa.time64("us"), [NOW.time(), None]),
    (pa.timestamp("us"), [NOW.replace(tzinfo=None), None]),
    (pa.timestamp("us", "UTC"), [NOW, None]),
    (pa.timestamp("ns", "Europe/Paris"), [NOW, None]),
    (pa.duration("us"), [None, 5]),
    (pa.decimal128(38, 10), [Decimal("1.0000000001"), None, Decimal("-" + "9" * 28)]),
    (pa.decimal256(76, 38), [Decimal("9" * 38 + "." + "9" * 38), None]),
    (pa.list_(pa.int32()), [[1, None], [], None]),
    (pa.list_(pa.decimal128(20, 2)), [[Decimal("1.50")], None]),
    (INTERVAL_STRUCT, [{"months": 1, "days": -2, "nanoseconds": 3}, None]),
    (pa.dictionary(pa.int32(), pa.string()), ["a", None, "a"]),
    (pa.map_(pa.string(), pa.int32()), [[("a", 1)], None]),
]


def _round_trip(batch: pa.RecordBatch) -> pa.Table:
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, batch.schema, **writer_options(batch.nbytes)) as writer:
        writer.write_batch(batch)
    return pq.read_table(io.BytesIO(sink.getvalue()))


def _batch(array: Any) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([array], names=["x"])


@pytest.mark.parametrize(
    ("kind", "values"), SURVIVES, ids=lambda value: str(value) if isinstance(value, pa.DataType) else ""
)
def test_a_type_survives_unchanged(kind: pa.DataType, values: list[Any]) -> None:
    batch = _batch(pa.array(values, kind))
    assert parquet_ready(batch) is batch
    back = _round_trip(batch)
    assert back.schema.field("x").type == kind
    assert back.column("x").combine_chunks() == batch.column("x") or back.column("x").to_pylist() == values


@given(
    st.lists(
        st.one_of(
            st.none(),
            st.tuples(
                st.integers(-(2**31), 2**31 - 1), st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1)
            ),
        ),
        max_size=20,
    ),
    st.integers(0, 20),
)
@settings(deadline=None, max_examples=min(50, settings.default.max_examples))
def test_an_interval_keeps_all_three_fields_also_in_slices(values: list[Any], start: int) -> None:
    array = pa.array([None if v is None else pa.MonthDayNano(v) for v in values], pa.month_day_nano_interval())
    ready = parquet_ready(_batch(array).slice(start))
    assert ready.schema.field("x").type == INTERVAL_STRUCT
    expected = [v and dict(zip(("months", "days", "nanoseconds"), v, strict=True)) for v in values[start:]]
    assert ready.column("x").to_pylist() == expected
    assert _round_trip(ready).column("x").to_pylist() == expected


@pytest.mark.parametrize("start", [0, 1, 2, 3])
def test_intervals_inside_lists_and_structs_are_reached(start: int) -> None:
    one = pa.MonthDayNano((1, 2, 3))
    lists = pa.array([[one, None], None, [], [one]], pa.list_(pa.month_day_nano_interval()))
    large = lists.cast(pa.large_list(pa.month_day_nano_interval()))
    pairs = pa.array([[one, one], None, [None, one], [one, None]], pa.list_(pa.month_day_nano_interval(), 2))
    structs = pa.array(
        [{"i": one, "n": 1}, None, {"i": None, "n": 2}, {"i": one, "n": None}],
        pa.struct([("i", pa.month_day_nano_interval()), ("n", pa.int8())]),
    )
    batch = pa.RecordBatch.from_arrays([lists, large, pairs, structs], names=["l", "g", "p", "s"]).slice(start)
    ready = parquet_ready(batch)
    assert ready.schema == parquet_schema(batch.schema)
    ready.validate(full=True)
    value = {"months": 1, "days": 2, "nanoseconds": 3}
    assert ready.column("l").to_pylist() == [[value, None], None, [], [value]][start:]
    assert ready.column("g").to_pylist() == [[value, None], None, [], [value]][start:]
    assert ready.column("p").to_pylist() == [[value, value], None, [None, value], [value, None]][start:]
    assert (
        ready.column("s").to_pylist()
        == [{"i": value, "n": 1}, None, {"i": None, "n": 2}, {"i": value, "n": None}][start:]
    )
    assert _round_trip(ready).to_pylist() == ready.to_pylist()


def test_run_ends_are_decoded() -> None:
    array = pa.RunEndEncodedArray.from_arrays([2, 3], ["a", None])
    assert parquet_ready(_batch(array)).column("x").to_pylist() == ["a", "a", None]


def test_a_negative_scale_becomes_whole_digits() -> None:
    array = pa.array([Decimal("1.23E+4"), None], pa.decimal128(5, -2))
    ready = parquet_ready(_batch(array))
    assert ready.schema.field("x").type == pa.decimal128(7, 0)
    assert ready.column("x").to_pylist() == [Decimal("12300"), None]


def test_an_extension_type_leaves_only_its_storage() -> None:
    array = pa.ExtensionArray.from_storage(pa.opaque(pa.string(), "box", "vendor"), pa.array(["(1,2)"]))
    ready = parquet_ready(_batch(array))
    assert ready.schema.field("x").type == pa.string()
    assert ready.schema.field("x").metadata is None


def test_metadata_of_a_schema_is_not_written() -> None:
    schema = pa.schema([pa.field("x", pa.int8(), metadata={"a": "b"})], metadata={"pandas": "{}"})
    ready = parquet_ready(pa.RecordBatch.from_arrays([pa.array([1], pa.int8())], schema=schema))
    assert ready.schema.metadata is None
    assert ready.schema.field("x").metadata is None


@pytest.mark.parametrize(
    "kind",
    [
        pa.dense_union([pa.field("a", pa.int32())]),
        pa.struct([]),
        pa.list_(pa.struct([])),
        pa.decimal256(76, -1),
        pa.map_(pa.string(), pa.month_day_nano_interval()),
    ],
    ids=str,
)
def test_what_parquet_cannot_hold_is_refused_by_name(kind: pa.DataType) -> None:
    with pytest.raises(UnrepresentableValue, match="column x"):
        parquet_schema(pa.schema([pa.field("x", kind)]))
