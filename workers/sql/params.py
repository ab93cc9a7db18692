"""Turns a job's JSON parameters into what the driver sends for each declared type. Pure.

Called by `session` with the types the server declared for $1, $2, ... A string is PostgreSQL's text form of the value,
whatever the type. Forms that Python reads exactly as PostgreSQL does are converted here; any other text form of a
date, time, timestamp or interval is left for the server to read (`AskServer`), so that `'yesterday'` or
`'1 mon -2 days'` mean what they mean in psql. Error messages name position and type, never the value.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from workers.errors import InvalidParameter

_EPOCH_ORDINAL = date(2000, 1, 1).toordinal()
_EPOCH_UTC = datetime(2000, 1, 1, tzinfo=UTC)
_EPOCH = _EPOCH_UTC.replace(tzinfo=None)
_INTEGER_BOUNDS = {21: 2**15, 23: 2**31, 20: 2**63}
_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_ISO_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}(:?\d{2})?)?")
_ISO_TIME = re.compile(r"\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?")
_BOOLS = {"t": True, "true": True, "y": True, "yes": True, "on": True, "1": True}
_BOOLS |= {"f": False, "false": False, "n": False, "no": False, "off": False, "0": False}

INT_OIDS = frozenset({21, 23, 20})
FLOAT_OIDS = frozenset({700, 701})
TEMPORAL_TYPES = {1082: "date", 1083: "time", 1114: "timestamp", 1184: "timestamptz", 1186: "interval"}


@dataclass(frozen=True, slots=True)
class ParamType:
    """The declared type of one parameter."""

    oid: int
    name: str
    element_oid: int = 0
    """Element type of an array; 0: no array."""
    sql_name: str = ""
    """Quoted, schema-qualified name, as a cast takes it."""


@dataclass(frozen=True, slots=True)
class AskServer:
    """Stands in a converted value for a text that the server must read as `type_name`."""

    text: str
    type_name: str


def rejected(number: int, kind: ParamType, reason: str = "no value of that type") -> InvalidParameter:
    """The error for a parameter that cannot be read; never shows the value."""
    return InvalidParameter(
        f"parameter ${number} is declared {kind.name}: {reason}",
        hint="pass the value as JSON or as PostgreSQL's text form of it, or cast the parameter in the statement",
    )


def as_argument(value: Any, kind: ParamType) -> Any:
    """A value that the server read and the driver decoded, in the form in which the driver encodes it."""
    if isinstance(value, list):
        return [as_argument(item, kind) for item in value]
    if isinstance(value, int) and (kind.element_oid or kind.oid) in TEMPORAL_TYPES:
        return (value,)
    return value


class _NoValue(ValueError):
    """This JSON value has no value of the declared type."""


def convert(values: Sequence[Any], types: Sequence[ParamType]) -> list[Any]:
    """One driver value per parameter; may hold AskServer, also inside lists. Raises InvalidParameter."""
    if len(values) != len(types):
        raise InvalidParameter(
            f"the statement uses {len(types)} parameters, the job has {len(values)}",
            hint="give one value for each of $1, $2, ...",
        )
    return [
        _convert_one(number, value, kind) for number, (value, kind) in enumerate(zip(values, types, strict=True), 1)
    ]


def _convert_one(number: int, value: Any, kind: ParamType) -> Any:
    try:
        if value is None:
            return None
        if kind.element_oid:
            return _array(value, kind)
        return _scalar(value, kind.oid)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        reason = str(error) if isinstance(error, _NoValue) else "no value of that type"
        raise rejected(number, kind, reason) from None


def asks(value: Any) -> bool:
    """Whether a converted value holds a text that the server must read first."""
    return isinstance(value, AskServer) or (isinstance(value, list) and any(asks(item) for item in value))


def array_depth(value: list[Any]) -> int:
    """Dimensions of a nested list; an empty list has one."""
    return 1 + (array_depth(value[0]) if value and isinstance(value[0], list) else 0)


def _array(value: Any, kind: ParamType) -> Any:
    if isinstance(value, str):
        return AskServer(value, kind.sql_name or kind.name)
    if not isinstance(value, list | tuple):
        raise _NoValue("expected a list")
    return [_array(item, kind) if isinstance(item, list | tuple) else _element(item, kind) for item in value]


def _element(value: Any, kind: ParamType) -> Any:
    return None if value is None else _scalar(value, kind.element_oid)


def _scalar(value: Any, oid: int) -> Any:
    if (converter := _CONVERTERS.get(oid)) is not None:
        return converter(value, oid)
    return _text(value, oid)


def _integer(value: Any, oid: int) -> int:
    if isinstance(value, bool):
        raise _NoValue("expected an integer")
    if isinstance(value, float):
        if not value.is_integer():
            raise _NoValue("expected an integer")
        value = int(value)
    elif isinstance(value, str):
        value = int(value.strip()) if "_" not in value and value.isascii() else int("")
    elif not isinstance(value, int):
        raise _NoValue("expected an integer")
    bound = _INTEGER_BOUNDS[oid]
    if not -bound <= value < bound:
        raise _NoValue("out of its range")
    return int(value)


def _float(value: Any, _oid: int) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _NoValue("expected a number")
    if isinstance(value, str) and ("_" in value or not value.isascii()):
        raise _NoValue("expected a number")
    number = float(value)
    if math.isinf(number) and (not isinstance(value, str) or "inf" not in value.lower()):
        raise _NoValue("out of its range")
    return number


def _bool(value: Any, _oid: int) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in _BOOLS:
        return _BOOLS[value.strip().lower()]
    raise _NoValue("expected true or false")


def _numeric(value: Any, _oid: int) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _NoValue("expected a number or its decimal text")
    if isinstance(value, float):
        return format(Decimal(repr(value)), "f")
    return str(value)


def _bytea(value: Any, _oid: int) -> bytes:
    if not isinstance(value, str):
        raise _NoValue(r"expected a string, \x and hexadecimal digits")
    if value.startswith("\\x"):
        return bytes.fromhex(value[2:])
    if "\\" in value:
        raise _NoValue(r"expected \x and hexadecimal digits")
    return value.encode()


def _uuid(value: Any, _oid: int) -> UUID:
    if not isinstance(value, str):
        raise _NoValue("expected a string")
    return UUID(value.strip())


def _json(value: Any, _oid: int) -> str:
    # A string is already JSON text, as PostgreSQL would read it; anything else is the JSON value itself.
    return value if isinstance(value, str) else json.dumps(value, allow_nan=False, ensure_ascii=False)


def _date(value: Any, oid: int) -> Any:
    if isinstance(value, str) and _ISO_DATE.fullmatch(value):
        return (date.fromisoformat(value).toordinal() - _EPOCH_ORDINAL,)
    return _ask(value, oid)


def _timestamp(value: Any, oid: int) -> Any:
    if isinstance(value, str) and (_ISO_DATE.fullmatch(value) or _ISO_MOMENT.fullmatch(value)):
        moment = datetime.fromisoformat(value)
        if oid == 1114:
            # PostgreSQL ignores the offset of a text read as `timestamp`.
            return (_microseconds(moment.replace(tzinfo=None) - _EPOCH),)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        return (_microseconds(moment - _EPOCH_UTC),)
    return _ask(value, oid)


def _time(value: Any, oid: int) -> Any:
    if isinstance(value, str) and _ISO_TIME.fullmatch(value) and not value.startswith("24"):
        clock = time.fromisoformat(value)
        return (((clock.hour * 60 + clock.minute) * 60 + clock.second) * 1_000_000 + clock.microsecond,)
    return _ask(value, oid)


def _ask(value: Any, oid: int) -> AskServer:
    if not isinstance(value, str):
        raise _NoValue("expected a string")
    return AskServer(value, TEMPORAL_TYPES[oid])


def _microseconds(span: Any) -> int:
    return (int(span.days) * 86_400 + int(span.seconds)) * 1_000_000 + int(span.microseconds)


def _text(value: Any, _oid: int) -> str:
    if isinstance(value, str):
        text = value
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, int | float):
        text = str(value)
    else:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    if "\x00" in text:
        raise _NoValue("text cannot hold the character U+0000")
    text.encode()
    return text


def _unsigned(value: Any, _oid: int) -> int:
    number = _integer(value, 20)
    if not 0 <= number < 2**32:
        raise _NoValue("out of its range")
    return number


_CONVERTERS: dict[int, Callable[[Any, int], Any]] = {
    16: _bool,
    **dict.fromkeys(INT_OIDS, _integer),
    26: _unsigned,
    **dict.fromkeys(FLOAT_OIDS, _float),
    1700: _numeric,
    17: _bytea,
    2950: _uuid,
    114: _json,
    3802: _json,
    1082: _date,
    1114: _timestamp,
    1184: _timestamp,
    1083: _time,
    1186: _ask,
}
