"""Which texts read a statement along one of its columns? Pure: (statement, extraction, bounds) -> SQL texts.

Called by `cluster.extracting`, which has every text judged by the policy like any other: nothing here is trusted to be
safe, only to be right. Each text wraps the statement as a derived table, so that the policy's row limit comes last and
never cuts a range before its condition. The wrapped statement must give the same rows each time it is read in one
snapshot: a LIMIT needs a total ORDER BY, and random() has no place in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from itertools import pairwise

from sandpool.job import Extraction

Key = int | Decimal | date | datetime
"""Values that a range can be cut at."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The column's extremes; None for both where there is no row."""

    low: object
    high: object
    high_text: str
    """The highest value as the database writes it."""


class NotDivisible(Exception):
    """This column's values cannot be cut into ranges."""


def bounds_sql(sql: str, extraction: Extraction, since: str) -> str:
    """One row: `low`, `high`, `high_text` of the column above `since` (empty: of all)."""
    key = _quoted(extraction.column)
    columns = f"min({key}) AS low, max({key}) AS high, max({key})::text AS high_text"
    return _wrapped(columns, sql, [f"{key} > {_literal(since)}"] if since else [])


def whole_sql(sql: str, extraction: Extraction, since: str, bounds: Bounds) -> str:
    """Everything that this run reads, in one text."""
    return _wrapped("*", sql, _outer(extraction, since, bounds, with_nulls=True))


def range_sqls(sql: str, extraction: Extraction, since: str, bounds: Bounds) -> tuple[str, ...]:
    """The same rows as `whole_sql`, each in exactly one text; empty where one text is enough. Raises NotDivisible."""
    key = _quoted(extraction.column)
    cuts = [_literal(_text(cut)) for cut in cut_points(bounds.low, bounds.high, extraction.parts)]
    if not cuts:
        return ()
    below = [f"({key} < {cuts[0]}{'' if since else f' OR {key} IS NULL'})"]
    between = [f"{key} >= {low} AND {key} < {high}" for low, high in pairwise(cuts)]
    outer = _outer(extraction, since, bounds, with_nulls=False)
    return tuple(_wrapped("*", sql, [*outer, inner]) for inner in (*below, *between, f"{key} >= {cuts[-1]}"))


def cut_points(low: object, high: object, parts: int) -> list[Key]:
    """At most `parts - 1` values above `low`, ascending, that cut low..high into ranges of equal width. Raises
    NotDivisible."""
    if low is None or high is None or parts == 1:
        return []
    cuts: Sequence[Key]
    match low, high:
        case bool(), _:
            raise NotDivisible("bool")
        case int(), int():
            cuts = [low + (high - low + 1) * part // parts for part in range(1, parts)]
        case Decimal(), Decimal() if low.is_finite() and high.is_finite():
            cuts = [low + (high - low) * part / parts for part in range(1, parts)]
        case datetime(), datetime():
            cuts = [low + (high - low) * part / parts for part in range(1, parts)]
        case date(), date():
            span = high.toordinal() - low.toordinal() + 1
            cuts = [date.fromordinal(low.toordinal() + span * part // parts) for part in range(1, parts)]
        case _:
            raise NotDivisible(type(low).__name__)
    return [cut for cut, before in zip(cuts, [low, *cuts], strict=False) if cut > before]  # type: ignore[operator]


def _outer(extraction: Extraction, since: str, bounds: Bounds, *, with_nulls: bool) -> list[str]:
    """What holds for every range of one incremental run."""
    key = _quoted(extraction.column)
    above = [f"{key} > {_literal(since)}"] if since else []
    if not extraction.incremental or not bounds.high_text:
        return above
    nulls = f" OR {key} IS NULL" if with_nulls or not since else ""
    return [*above, f"({key} <= {_literal(bounds.high_text)}{nulls})"]


def _wrapped(columns: str, sql: str, conditions: Sequence[str]) -> str:
    # A comment at the end of the statement must not swallow what follows; a semicolon there is harmless and common.
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    return f"SELECT {columns} FROM (\n{sql.rstrip().rstrip(';')}\n) AS sandpool_extraction{where}"  # noqa: S608 - judged by the policy before it runs


def _text(key: Key) -> str:
    return key.isoformat() if isinstance(key, date) else str(key)


def _quoted(name: str) -> str:
    return '"{}"'.format(name.replace('"', '""'))


def _literal(text: str) -> str:
    """Without a type: the database reads it as a value of the column's type."""
    return "'{}'".format(text.replace("'", "''"))
