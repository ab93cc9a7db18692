"""Which columns of a table fit into how many characters, and how wide each gets. Pure; called by `table`.

Rows are never folded: a table that does not fit loses the columns in its middle, and what is still too wide is cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

GAP = 2
"""Spaces between two columns."""
NARROWEST = 8
"""A column is cut to no less than this before others are left out."""


@dataclass(frozen=True, slots=True)
class Fit:
    """The columns that are shown, in order, with the width of each. `left_out` is how many are missing, between
    `columns[before - 1]` and `columns[before]`."""

    columns: tuple[int, ...]
    widths: tuple[int, ...]
    left_out: int = 0
    before: int = 0


def fit(wanted: Sequence[int], available: int | None) -> Fit:
    """The layout for columns of these wished widths in `available` characters; None: as wide as they wish."""
    count = len(wanted)
    everything = tuple(range(count))
    if available is None or _total(wanted) <= available:
        return Fit(everything, tuple(wanted))
    least = [min(width, NARROWEST) for width in wanted]
    if _total(least) <= available:
        return Fit(everything, _shrink(wanted, available - GAP * (count - 1)))
    if count == 1:
        return Fit(everything, (max(1, available),))
    # One more column of width 1 stands for those left out.
    shown: list[int] = []
    room = available - 1
    for column in _outside_in(count):
        if least[column] + GAP > room and shown:
            break
        room -= least[column] + GAP
        shown.append(column)
    shown.sort()
    before = next((i for i, column in enumerate(shown) if column != i), len(shown))
    space = max(available - 1 - GAP * len(shown), len(shown))
    widths = _shrink([wanted[column] for column in shown], space)
    return Fit(tuple(shown), widths, count - len(shown), before)


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * max(0, len(widths) - 1)


def _outside_in(count: int) -> list[int]:
    """0, 1, last, 2, last but one, ...: the first columns say most about a row."""
    front, back = list(range(count)), list(range(count - 1, -1, -1))
    order = front[:1]
    for one, other in zip(front[1:], back, strict=False):
        order += [one, other]
    return list(dict.fromkeys(order))


def _shrink(wanted: Sequence[int], space: int) -> tuple[int, ...]:
    """Widths of at most `space` together (at least 1 each): the widest give way first, down to a common width."""
    low, high = 1, max(wanted)
    while low < high:
        middle = (low + high + 1) // 2
        if sum(min(width, middle) for width in wanted) <= space:
            low = middle
        else:
            high = middle - 1
    widths = [min(width, low) for width in wanted]
    spare = space - sum(widths)
    for column, width in enumerate(wanted):
        more = min(max(spare, 0), width - widths[column])
        widths[column] += more
        spare -= more
    return tuple(widths)
