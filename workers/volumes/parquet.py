"""How a result becomes Parquet: which types need another form first, and with which settings it is written. No I/O.

Used by workers.volumes.result. PostgreSQL results (workers.sql.types) are ready as they are; other engines' are not:

    Arrow type                 as written                             why
    month_day_nano_interval    struct<months: int32, days: int32,     Parquet's own INTERVAL is deprecated and holds
                               nanoseconds: int64>                    milliseconds only
    run_end_encoded<T>         T                                      no such thing in Parquet; same values
    decimal(p, -s)             decimal(p + s, 0)                      Parquet has no negative scale
    an extension type          its storage type, except arrow.uuid    a reader would have to trust its metadata
    union, struct<>, decimal   refused with UnrepresentableValue
    above 76 digits

Parquet itself reads back date64 as date32, seconds as milliseconds and dictionaries of other values than strings as
plain columns: equal values, a wider type. Everything else comes back as the type it had (ARROW:schema is stored).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from workers.errors import UnrepresentableValue

INTERVAL_STRUCT = pa.struct([("months", pa.int32()), ("days", pa.int32()), ("nanoseconds", pa.int64())])
ONE_BLOCK_BYTES = 4096

# pyarrow-stubs lack these methods of arrays and types: the converters below are typed Any.


def parquet_schema(schema: pa.Schema) -> pa.Schema:
    """The schema that parquet_ready gives to data of `schema`, without metadata. Raises UnrepresentableValue."""
    if is_ready(schema):
        return schema
    return pa.schema([pa.field(field.name, _target(field.name, field.type), field.nullable) for field in schema])


def parquet_ready(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same values in types that Parquet can hold (table above); the batch itself where nothing changes."""
    if is_ready(batch.schema):
        return batch
    schema = parquet_schema(batch.schema)
    columns = [_convert(column, field.type) for column, field in zip(batch.columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


@lru_cache(maxsize=256)
def is_ready(schema: pa.Schema) -> bool:
    """Whether parquet_ready changes nothing."""
    return not schema.metadata and all(_target(f.name, f.type) == f.type and not f.metadata for f in schema)


def writer_options(size_bytes: int | None = None) -> dict[str, Any]:
    """Settings for pyarrow's ParquetWriter; `size_bytes` of Arrow data where the whole result is known to be small.

    A small result is written plain: on a 3 x 16 table zstd, dictionaries and statistics cost 130 us more than the 90 us
    without and make the file 3 % smaller, which is nothing below one filesystem block.
    """
    if size_bytes is not None and size_bytes <= ONE_BLOCK_BYTES:
        return {"compression": "none", "use_dictionary": False, "write_statistics": False}
    return {"compression": "zstd", "compression_level": 1}


def _target(name: str, kind: Any) -> Any:
    """The type in which Parquet holds values of type `kind`."""
    if not pa.types.is_nested(kind) and not pa.types.is_decimal(kind) and not _is_special(kind):
        return kind
    if pa.types.is_interval(kind):
        return INTERVAL_STRUCT
    if isinstance(kind, pa.BaseExtensionType):
        return kind if kind.extension_name == "arrow.uuid" else _target(name, kind.storage_type)
    if pa.types.is_run_end_encoded(kind):
        return _target(name, kind.value_type)
    if pa.types.is_dictionary(kind):
        target = _target(name, kind.value_type)
        return kind if target == kind.value_type else target
    if pa.types.is_decimal(kind):
        return kind if kind.scale >= 0 else _decimal(name, kind.precision - kind.scale)
    if pa.types.is_struct(kind) and kind.num_fields:
        return pa.struct([kind[i].with_type(_target(name, kind[i].type)) for i in range(kind.num_fields)])
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_target(name, kind.value_type)))
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_target(name, kind.value_type)))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(_target(name, kind.value_type)), kind.list_size)
    inner = [kind.field(i).type for i in range(kind.num_fields)] if not pa.types.is_union(kind) else []
    if inner and all(_target(name, each) == each for each in inner):
        return kind
    raise UnrepresentableValue(f"column {name}: Parquet cannot hold {kind}", hint="cast it in the query")


def _is_special(kind: pa.DataType) -> bool:
    return pa.types.is_interval(kind) or pa.types.is_dictionary(kind) or isinstance(kind, pa.BaseExtensionType)


def _decimal(name: str, digits: int) -> pa.DataType:
    if digits > 76:
        raise UnrepresentableValue(f"column {name}: a number of {digits} digits; at most 76", hint="cast it to text")
    return pa.decimal128(digits, 0) if digits <= 38 else pa.decimal256(digits, 0)


def _convert(array: Any, target: Any) -> Any:
    kind = array.type
    if kind == target:
        return array
    if pa.types.is_interval(kind):
        return _interval_struct(array)
    if isinstance(kind, pa.BaseExtensionType):
        return _convert(array.storage, target)
    if pa.types.is_run_end_encoded(kind):
        return _convert(pc.call_function("run_end_decode", [array]), target)
    if pa.types.is_dictionary(kind):
        return _convert(array.dictionary_decode(), target)
    if pa.types.is_struct(kind):
        fields = [target[i] for i in range(target.num_fields)]
        children = [_convert(array.field(i), field.type) for i, field in enumerate(fields)]
        return pa.StructArray.from_arrays(children, fields=fields, mask=array.is_null())
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        buffers = array.buffers()[: 1 if pa.types.is_fixed_size_list(kind) else 2]
        # from_arrays() refuses the nulls of a sliced array; the buffers and the offset say the same.
        children = [_convert(array.values, target.value_type)]
        return pa.Array.from_buffers(target, len(array), buffers, -1, array.offset, children)
    return array.cast(target)


def _interval_struct(array: Any) -> Any:
    """Arrow keeps an interval as int32 months, int32 days, int64 nanoseconds: 16 bytes, which this takes apart."""
    data, start, count = array.buffers()[1], array.offset, len(array)
    longs = pa.Array.from_buffers(pa.int64(), 2 * count, [None, data], 0, 2 * start)
    ints = pa.Array.from_buffers(pa.int32(), 4 * count, [None, data], 0, 4 * start)
    quads = pa.FixedSizeListArray.from_arrays(ints, 4)
    pairs = pa.FixedSizeListArray.from_arrays(longs, 2)
    fields = [pc.list_element(quads, 0), pc.list_element(quads, 1), pc.list_element(pairs, 1)]
    return pa.StructArray.from_arrays(fields, fields=list(INTERVAL_STRUCT), mask=array.is_null())
