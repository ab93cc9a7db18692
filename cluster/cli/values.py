"""Arrow columns -> values that JSON can carry, exact. Pure; used by the table and by the json and csv formats.

    bool, integers, floats   JSON numbers; NaN and the infinities, which JSON has not, as "NaN", "Infinity", "-Infinity"
    decimal                  a JSON number with every digit
    date, time, timestamp    ISO 8601 text; a moment with a time zone ends in Z
    interval                 {"months", "days", "microseconds"}
    bytea                    "\\x" and hexadecimal digits, PostgreSQL's own text form
    json, jsonb              the JSON value itself
    arrays                   lists

Arrow prints dates and moments here, not Python, whose calendar ends in the year 9999 while PostgreSQL's does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

_JSON_TYPES = ("json", "jsonb")
_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def json_values(array: Any, database_type: str = "") -> list[Any]:
    """One value per row, ready for `msgspec.json.encode`; None for NULL."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return _extension(array)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _lists(array, database_type.removesuffix("[]"))
    if pa.types.is_struct(kind):
        return _structs(array)
    if database_type in _JSON_TYPES and _is_text(kind):
        return _each(array, lambda text: msgspec.Raw(text.encode()))
    return _scalars(array)


def has_clock_text(kind: pa.DataType) -> bool:
    """Whether `temporal_text` prints this type."""
    return bool(pa.types.is_date(kind) or pa.types.is_time(kind) or pa.types.is_timestamp(kind))


def temporal_text(array: Any) -> Any:
    """Dates, times and moments as a column of ISO 8601 text: `2013-01-01T05:00:00.25Z`, no trailing zeros."""
    text = pc.cast(array, pa.string())
    if pa.types.is_timestamp(array.type):
        text = pc.replace_substring(text, " ", "T", max_replacements=1)
    if not pa.types.is_date(array.type):
        text = pc.replace_substring_regex(text, r"\.0+(Z?)$", r"\1")
        text = pc.replace_substring_regex(text, r"(\.[0-9]*[1-9])0+(Z?)$", r"\1\2")
    return text


def _scalars(array: Any) -> list[Any]:
    kind = array.type
    if pa.types.is_floating(kind):
        return _floats(array)
    if pa.types.is_decimal(kind):
        return _each(pc.cast(array, pa.string()), lambda text: msgspec.Raw(_plain_number(text).encode()))
    if has_clock_text(kind):
        return temporal_text(array).to_pylist()  # type: ignore[no-any-return]
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return _each(array, lambda data: "\\x" + data.hex())
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind) or _is_text(kind):
        return array.to_pylist()  # type: ignore[no-any-return]
    return _each(array, str)


def _floats(array: Any) -> list[Any]:
    if array.type == pa.float64() and not pc.any(pc.invert(pc.is_finite(array))).as_py():
        return array.to_pylist()  # type: ignore[no-any-return]
    # Through Arrow's shortest text: 0.1 stored in four bytes stays 0.1.
    return _each(pc.cast(array, pa.string()), lambda text: _NOT_FINITE.get(text) or float(text))


def _lists(array: Any, element_type: str) -> list[Any]:
    values = json_values(array.flatten(), element_type)
    rows: list[Any] = []
    start = 0
    for length in pc.list_value_length(array).to_pylist():
        rows.append(None if length is None else values[start : start + length])
        start += length or 0
    return rows


def _structs(array: Any) -> list[Any]:
    names = [field.name for field in array.type]
    # `flatten` carries the struct's own NULLs into its children.
    rows = zip(*(json_values(child) for child in array.flatten()), strict=True)
    valid = array.is_valid().to_pylist()
    return [dict(zip(names, row, strict=True)) if is_valid else None for row, is_valid in zip(rows, valid, strict=True)]


def _extension(array: Any) -> list[Any]:
    if array.type.extension_name == "arrow.uuid":
        return _each(array.storage, lambda data: str(UUID(bytes=data)))
    return json_values(array.storage)


def _each(array: Any, convert: Callable[[Any], Any]) -> list[Any]:
    return [None if value is None else convert(value) for value in array.to_pylist()]


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _plain_number(text: str) -> str:
    """A decimal as JSON writes numbers: Arrow prints small ones as 1E-7, which JSON takes; never with a plus sign."""
    return text.replace("E+", "E")


def rows_of(columns: Sequence[list[Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Columns as rows with named fields."""
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
