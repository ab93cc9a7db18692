"""Prints a table of text for people. Called by `table` and by the listings; knows no Arrow, so that they start fast.

Numbers stand right, NULL is dimmed. Uses rich for colour and character widths only; the layout is `widths.fit`.
Cells must be harmless already (`safe_text.visible`).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.style import Style
from rich.text import Text

from cluster.cli.widths import GAP, Fit, fit

NULL = "NULL"
LONGEST_CELL = 200
"""Characters of one cell that are shown where the width is not limited."""

_NULL_STYLE = Style(dim=True, italic=True)
_HEAD_STYLE = Style(bold=True)
_RULE_STYLE = Style(dim=True)


@dataclass(frozen=True, slots=True)
class Grid:
    """A table as text: one list of cells per column; None is NULL."""

    names: tuple[str, ...]
    cells: tuple[tuple[str | None, ...], ...]
    right: tuple[bool, ...]
    """Whether the column holds numbers, which are aligned at their right."""


def grid_from_rows(names: Sequence[str], rows: Sequence[Sequence[str | None]], right: Sequence[str] = ()) -> Grid:
    """A grid from rows; `right` names the columns of numbers."""
    cells = tuple(zip(*rows, strict=True)) if rows else tuple(() for _ in names)
    return Grid(tuple(names), cells, tuple(name in right for name in names))


def print_grid(grid: Grid, stream: IO[str] | None = None) -> None:
    """Print the table: as wide as the terminal, or without a limit into a file or pipe."""
    console = Console(file=stream or sys.stdout, highlight=False)
    draw_grid(grid, console, console.width if console.is_terminal else None)


def draw_grid(grid: Grid, console: Console, width: int | None) -> None:
    """Print the table in at most `width` characters; None: without a limit."""
    if not grid.names:
        return
    wanted = [
        min(LONGEST_CELL, max((cell_len(NULL if cell is None else cell) for cell in (name, *cells)), default=1))
        for name, cells in zip(grid.names, grid.cells, strict=True)
    ]
    layout = fit(wanted, width)
    console.print(_line(layout, grid, grid.names, _HEAD_STYLE), soft_wrap=True)
    rules = tuple("─" * width for width in wanted)
    console.print(_line(layout, grid, rules, _RULE_STYLE), soft_wrap=True)
    for row in zip(*grid.cells, strict=True):
        console.print(_line(layout, grid, row), soft_wrap=True)


def _line(layout: Fit, grid: Grid, row: Sequence[str | None], style: Style | None = None) -> Text:
    pieces: list[Text] = []
    for position, (column, width) in enumerate(zip(layout.columns, layout.widths, strict=True)):
        if layout.left_out and position == layout.before:
            pieces.append(Text("…", style=_RULE_STYLE))
        cell = row[column]
        text = _cut(NULL if cell is None else cell, width)
        missing = width - cell_len(text)
        padded = " " * missing + text if grid.right[column] else text + " " * missing
        pieces.append(Text(padded, style=_NULL_STYLE if cell is None else style or ""))
    if layout.left_out and layout.before == len(layout.columns):
        pieces.append(Text("…", style=_RULE_STYLE))
    line = Text(" " * GAP).join(pieces)
    line.rstrip()
    return line


def _cut(text: str, width: int) -> str:
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - 1).rstrip() + "…" if width > 1 else "…"
