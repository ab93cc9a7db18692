"""Builds Arrow arrays from the driver's Python values, exactly or not at all. Pure; runs in result threads.

Called by `results` (buffered results and row streams) and by `bulk` (decimal text, range checks). A value that the
column's Arrow type cannot hold raises UnrepresentableValue naming the column: nothing is rounded, clamped or wrapped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from workers.errors import UnrepresentableValue
from workers.sql.types import INTERVAL_TYPE, MAX_DECIMAL128_DIGITS, ColumnPlan, Kind

EPOCH_DAYS = 10_957
"""Days from 1970-01-01 (Arrow's epoch) to 2000-01-01 (PostgreSQL's)."""
EPOCH_US = EPOCH_DAYS * 86_400_000_000
DAY_US = 86_400_000_000

# PostgreSQL sends infinity as the extreme integers.
_DATE_INFINITIES = (2**31 - 1, -(2**31))
_TIMESTAMP_INFINITIES = (2**63 - 1, -(2**63))

Values: TypeAlias = Sequence[Any]


def resolve_plans(plans: Sequence[ColumnPlan], columns: Sequence[Values], *, streaming: bool) -> list[ColumnPlan]:
    """The plans with every undecided or unfit decimal settled by the values at hand.

    Buffered (all values are at hand): the smallest decimal128(38, s) that holds all, else text, also where a declared
    numeric holds NaN. Streaming (first batch only): the same, but a declared type stays, and no value means text.
    """
    settled = []
    for plan, values in zip(plans, columns, strict=True):
        if plan.kind is Kind.NUMERIC and (plan.arrow is None or not streaming):
            texts = [text for text in (_flat(values) if plan.is_array else values) if text is not None]
            if plan.arrow is None:
                arrow = None if streaming and not texts else decimal_for(texts)
            else:
                arrow = plan.arrow if all(_is_finite(text) for text in texts) else None
            plan = as_text(plan) if arrow is None else replace(plan, arrow=arrow)
        settled.append(plan)
    return settled


def as_text(plan: ColumnPlan) -> ColumnPlan:
    """The plan of a numeric column whose values go as text."""
    return replace(plan, kind=Kind.TEXT, arrow=pa.utf8())


def build_column(plan: ColumnPlan, values: Values, *, depth: int = 0) -> pa.Array[Any]:
    """One column as an Arrow array. `depth` fixes the dimensions of an array column; 0: as deep as the values are."""
    if plan.arrow is None:
        raise AssertionError(f"column {plan.name} has no decided type")
    try:
        if plan.is_array:
            return _build_lists(plan, values, depth or list_depth(plan, values))
        return _BUILDERS[plan.kind](plan, values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeError) as error:
        raise unrepresentable(plan, "has a value outside the range of") from error


def list_depth(plan: ColumnPlan, values: Values) -> int:
    """Dimensions of an array column's values: PostgreSQL's type does not say, so the values must agree."""
    depths = {_dimensions(value) for value in values if value}
    if len(depths) > 1:
        raise unrepresentable(plan, "mixes arrays of different dimensions in")
    return depths.pop() if depths else 1


def decimal_for(texts: Sequence[str]) -> pa.DataType | None:
    """The smallest decimal128(38, s) that holds all these numbers exactly; None: there is none (or NaN, infinity)."""
    for exact in (texts, [_strip_zeros(text) for text in texts]):
        whole = scale = 0
        for text in exact:
            if not _is_finite(text):
                return None
            digits = len(text) - (text[0] == "-")
            point = text.find(".")
            fraction = 0 if point < 0 else len(text) - point - 1
            whole = max(whole, digits - fraction - (point >= 0))
            scale = max(scale, fraction)
        if whole + scale <= MAX_DECIMAL128_DIGITS:
            return pa.decimal128(MAX_DECIMAL128_DIGITS, scale)
    return None


def cast_decimal(plan: ColumnPlan, texts: pa.Array[Any]) -> pa.Array[Any]:
    """Decimal text -> the plan's decimal. Raises UnrepresentableValue where a number does not fit exactly."""
    try:
        return pc.cast(texts, plan.arrow)
    except pa.ArrowInvalid as error:
        raise unrepresentable(plan, "has a number that does not fit") from error


def unrepresentable(plan: ColumnPlan, what: str) -> UnrepresentableValue:
    """The error for a value that the column's Arrow type cannot hold; never shows the value."""
    return UnrepresentableValue(
        f"column {plan.name!r} ({plan.database_type}) {what} Arrow's {plan.arrow}",
        hint=f'select it as text: CAST("{plan.name}" AS text), or filter such values out',
    )


def _build_lists(plan: ColumnPlan, values: Values, depth: int) -> pa.Array[Any]:
    offsets: list[int | None] = []
    items: list[Any] = []
    for value in values:
        if value is None:
            offsets.append(None)
            continue
        offsets.append(len(items))
        items.extend(value)
    offsets.append(len(items))
    if depth == 1:
        inner = _BUILDERS[plan.kind](plan, items)
    else:
        inner = _build_lists(plan, items, depth - 1)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), inner)


def _dimensions(value: Any) -> int:
    depth = 0
    while isinstance(value, list):
        depth += 1
        value = value[0] if value else None
    return depth


def _flat(values: Iterable[Any]) -> Iterable[Any]:
    for value in values:
        if isinstance(value, list):
            yield from _flat(value)
        else:
            yield value


def _plain(plan: ColumnPlan, values: Values) -> pa.Array[Any]:
    return pa.array(values, plan.arrow)


def _numeric(plan: ColumnPlan, values: Values) -> pa.Array[Any]:
    return cast_decimal(plan, pa.array(values, pa.utf8()))


def _date(plan: ColumnPlan, values: Values) -> pa.Array[Any]:
    if any(extreme in values for extreme in _DATE_INFINITIES):
        raise unrepresentable(plan, "has an infinite date, beyond")
    return pc.add_checked(pa.array(values, pa.int32()), pa.scalar(EPOCH_DAYS, pa.int32())).view(pa.date32())


def _timestamp(plan: ColumnPlan, values: Values) -> pa.Array[Any]:
    if any(extreme in values for extreme in _TIMESTAMP_INFINITIES):
        raise unrepresentable(plan, "has an infinite timestamp, beyond")
    return pc.add_checked(pa.array(values, pa.int64()), pa.scalar(EPOCH_US, pa.int64())).view(plan.arrow)


def _time(plan: ColumnPlan, values: Values) -> pa.Array[Any]:
    if DAY_US in values:
        raise unrepresentable(plan, "has the time 24:00:00, beyond")
    return pa.array(values, pa.int64()).view(plan.arrow)


def _interval(_plan: ColumnPlan, values: Values) -> pa.Array[Any]:
    missing = pa.array([value is None for value in values], pa.bool_())
    triples = [value or (0, 0, 0) for value in values]
    fields = list(zip(*triples, strict=True)) or [(), (), ()]
    children = [pa.array(list(field), INTERVAL_TYPE.field(i).type) for i, field in enumerate(fields)]
    return pa.StructArray.from_arrays(children, fields=list(INTERVAL_TYPE), mask=missing)


def _uuid(_plan: ColumnPlan, values: Values) -> pa.Array[Any]:
    storage = pa.array([None if value is None else value.bytes for value in values], pa.binary(16))
    return pa.ExtensionArray.from_storage(pa.uuid(), storage)


_BUILDERS: dict[Kind, Callable[[ColumnPlan, Values], pa.Array[Any]]] = {
    Kind.PLAIN: _plain,
    Kind.TEXT: _plain,
    Kind.NUMERIC: _numeric,
    Kind.DATE: _date,
    Kind.TIMESTAMP: _timestamp,
    Kind.TIME: _time,
    Kind.INTERVAL: _interval,
    Kind.UUID: _uuid,
}


def _is_finite(text: str) -> bool:
    return text[-1] <= "9"


def _strip_zeros(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


def transpose(rows: Sequence[Sequence[Any]], width: int) -> list[Values]:
    """Rows -> columns; right for no rows too."""
    return list(zip(*rows, strict=True)) if rows else [()] * width
