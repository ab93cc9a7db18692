"""Decides which Arrow type a PostgreSQL column becomes. Pure: (name, type oid, modifier) -> ColumnPlan.

Called by `session` when a statement is described; `columns` builds arrays from the plan, `bulk` checks Arrow batches
against it. docs/types.md is the table for users. A type without a better Arrow type travels as the server's own text.
Arrow types that Parquet cannot hold (month_day_nano_interval) are not used: a result has one schema, inline and stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

import pyarrow as pa

MAX_DECIMAL128_DIGITS = 38
MAX_DECIMAL256_DIGITS = 76

INTERVAL_TYPE = pa.struct([("months", pa.int32()), ("days", pa.int32()), ("microseconds", pa.int64())])
"""PostgreSQL's own three fields. Parquet cannot hold Arrow's interval, whose nanoseconds also overflow at 292 years."""


class Kind(Enum):
    """How the values of a column travel from the driver into an Arrow array."""

    PLAIN = auto()  # the driver's Python value is what pyarrow takes
    NUMERIC = auto()  # decimal text
    DATE = auto()  # days since 2000-01-01
    TIMESTAMP = auto()  # microseconds since 2000-01-01
    TIME = auto()  # microseconds since midnight
    INTERVAL = auto()  # (months, days, microseconds)
    UUID = auto()  # 16 bytes
    TEXT = auto()  # the server's text form of whatever type


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """One result column: its name in the result, how its values travel and the Arrow type they get."""

    name: str
    database_type: str
    kind: Kind
    arrow: pa.DataType | None
    """Type of one element; None: decimal whose scale the values decide."""
    is_array: bool = False
    in_bulk: bool = True
    """ADBC's COPY reader carries this type exactly, so a large result may go that way."""


_PLAIN: dict[int, pa.DataType] = {
    16: pa.bool_(),
    21: pa.int16(),
    23: pa.int32(),
    20: pa.int64(),
    700: pa.float32(),
    701: pa.float64(),
    17: pa.binary(),
    25: pa.utf8(),
    1043: pa.utf8(),
    1042: pa.utf8(),
    19: pa.utf8(),
    114: pa.utf8(),
    3802: pa.utf8(),
    142: pa.utf8(),
}
_TEMPORAL: dict[int, tuple[Kind, pa.DataType]] = {
    1082: (Kind.DATE, pa.date32()),
    1114: (Kind.TIMESTAMP, pa.timestamp("us")),
    1184: (Kind.TIMESTAMP, pa.timestamp("us", "UTC")),
    1083: (Kind.TIME, pa.time64("us")),
    1186: (Kind.INTERVAL, INTERVAL_TYPE),
}
NUMERIC_OID = 1700
UUID_OID = 2950
OID_OID = 26

TUPLE_CODECS: dict[int, str] = {1082: "date", 1083: "time", 1114: "timestamp", 1184: "timestamptz", 1186: "interval"}
"""Types exchanged as integers: exact over PostgreSQL's whole range, where Python's own dates end in year 9999."""

TEXT_CODECS: dict[int, str] = {
    NUMERIC_OID: "numeric",
    1266: "timetz",
    18: "char",
    869: "inet",
    650: "cidr",
    829: "macaddr",
    774: "macaddr8",
    600: "point",
    601: "lseg",
    602: "path",
    603: "box",
    604: "polygon",
    628: "line",
    718: "circle",
    1560: "bit",
    1562: "varbit",
    790: "money",
    27: "tid",
    28: "xid",
    29: "cid",
    5069: "xid8",
    3220: "pg_lsn",
    2970: "txid_snapshot",
    5038: "pg_snapshot",
    4072: "jsonpath",
    22: "int2vector",
    30: "oidvector",
    2249: "record",
    2278: "void",
    705: "unknown",
    2275: "cstring",
    3904: "int4range",
    3906: "numrange",
    3908: "tsrange",
    3910: "tstzrange",
    3912: "daterange",
    3926: "int8range",
    4451: "int4multirange",
    4532: "nummultirange",
    4533: "tsmultirange",
    4534: "tstzmultirange",
    4535: "datemultirange",
    4536: "int8multirange",
}
"""Built-in types exchanged as the server's own text, in results and in parameters."""

# Types that ADBC's COPY reader turns into exactly the Arrow values that `columns` builds (tests compare the two).
_BULK = frozenset(_PLAIN) - {142} | {1082, 1114, 1184, 1083, NUMERIC_OID, UUID_OID}


def plan_column(name: str, type_name: str, oid: int, typmod: int, *, element_oid: int = 0) -> ColumnPlan:
    """The plan of one column; `element_oid` is the element type when the column is an array."""
    base = element_oid or oid
    kind, arrow = _element(base, typmod)
    bulk = base in _BULK and not element_oid
    return ColumnPlan(name, _type_label(type_name, base, typmod), kind, arrow, bool(element_oid), bulk)


def unique_names(names: Sequence[str]) -> list[str]:
    """Result names with repeats numbered (`a, a` -> `a, a_2`): readers of Parquet address columns by name."""
    taken = set(names)
    seen: set[str] = set()
    unique = []
    for name in names:
        if name in seen:
            number = 2
            while f"{name}_{number}" in taken:
                number += 1
            name = f"{name}_{number}"
            taken.add(name)
        seen.add(name)
        unique.append(name)
    return unique


def decimal_type(precision: int, scale: int) -> pa.DataType | None:
    """The Arrow decimal for numeric(precision, scale); None when Arrow has none so wide."""
    if scale < 0:
        precision, scale = precision - scale, 0
    precision = max(precision, scale, 1)
    if precision <= MAX_DECIMAL128_DIGITS:
        return pa.decimal128(precision, scale)
    if precision <= MAX_DECIMAL256_DIGITS:
        return pa.decimal256(precision, scale)
    return None


def numeric_modifier(typmod: int) -> tuple[int, int]:
    """(precision, scale) in a numeric's type modifier, as numeric_typmod_scale() of PostgreSQL's numeric.c reads it."""
    modifier = typmod - 4
    return (modifier >> 16) & 0xFFFF, ((modifier & 0x7FF) ^ 1024) - 1024


def _element(oid: int, typmod: int) -> tuple[Kind, pa.DataType | None]:
    if oid in _PLAIN:
        return Kind.PLAIN, _PLAIN[oid]
    if oid in _TEMPORAL:
        return _TEMPORAL[oid]
    if oid == NUMERIC_OID:
        if typmod < 4:
            return Kind.NUMERIC, None
        arrow = decimal_type(*numeric_modifier(typmod))
        return (Kind.NUMERIC, arrow) if arrow is not None else (Kind.TEXT, pa.utf8())
    if oid == UUID_OID:
        return Kind.UUID, pa.uuid()
    if oid == OID_OID:
        return Kind.PLAIN, pa.uint32()
    return Kind.TEXT, pa.utf8()


def _type_label(type_name: str, oid: int, typmod: int) -> str:
    if typmod >= 4 and oid == NUMERIC_OID:
        precision, scale = numeric_modifier(typmod)
        modifier = f"({precision},{scale})"
    elif typmod >= 4 and oid in (1042, 1043):
        modifier = f"({typmod - 4})"
    else:
        return type_name
    base, brackets, _ = type_name.partition("[]")
    return f"{base}{modifier}{brackets}"
