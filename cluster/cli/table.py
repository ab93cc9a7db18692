"""A result's first rows as cells of text. Pure; called by `answer`.

NULL never looks like the text NULL, and control characters are shown, not obeyed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pyarrow as pa

from cluster.cli.grid import LONGEST_CELL, NULL, Grid
from cluster.cli.safe_text import visible
from cluster.cli.values import json_values
from sandpool.outcome import Column


def grid_of(table: pa.Table, columns: Sequence[Column]) -> Grid:
    """The cells of a result."""
    types = {column.name: column.database_type for column in columns}
    cells = []
    for name, chunked in zip(table.column_names, table.columns, strict=True):
        values = [value for chunk in chunked.chunks for value in json_values(chunk, types.get(name, ""))]
        cells.append(tuple(None if value is None else cell_text(value) for value in values))
    numeric = tuple(_is_number(field.type) for field in table.schema)
    return Grid(tuple(visible(name) for name in table.column_names), tuple(cells), numeric)


def cell_text(value: Any) -> str:
    """One value as a cell shows it. The text NULL is quoted, so that NULL alone means NULL."""
    if isinstance(value, str):
        return f'"{value}"' if value == NULL else visible(value[: LONGEST_CELL * 4])
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, msgspec.Raw):
        return visible(bytes(value).decode())
    if isinstance(value, dict) and value.keys() == {"months", "days", "microseconds"}:
        return interval_text(value["months"], value["days"], value["microseconds"])
    if isinstance(value, dict | list):
        return visible(msgspec.json.encode(value).decode())
    return str(value)


def interval_text(months: int, days: int, microseconds: int) -> str:
    """An interval much as PostgreSQL prints it: `1 year 2 mons 3 days 04:05:06.7`."""
    words = []
    years, months = (abs(months) // 12 * (-1 if months < 0 else 1), abs(months) % 12 * (-1 if months < 0 else 1))
    for number, unit in ((years, "year"), (months, "mon"), (days, "day")):
        if number:
            words.append(f"{number} {unit}{'' if number == 1 else 's'}")
    if microseconds or not words:
        seconds, fraction = divmod(abs(microseconds), 1_000_000)
        clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
        sign = "-" if microseconds < 0 else ""
        words.append(sign + clock + (f".{fraction:06d}".rstrip("0") if fraction else ""))
    return " ".join(words)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))
