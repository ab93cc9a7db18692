"""What a benchmark hands back: a table, the budgets judged on it, and how it was measured. Data only, no I/O.

Built by every benchmark, turned into text by `benchmarks.tables`, into JSON by `benchmarks.__main__`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Cell = str | float | int | None
"""None: does not apply to this row."""


@dataclass(frozen=True, slots=True)
class Budget:
    """One promise of docs/specification.md, judged: `measured` must be at least, or at most, `limit`."""

    promise: str
    measured: float
    bound: Literal["at least", "at most"]
    limit: float
    unit: str = ""

    @property
    def met(self) -> bool:
        return self.measured >= self.limit if self.bound == "at least" else self.measured <= self.limit


@dataclass(frozen=True, slots=True)
class Report:
    """Everything one benchmark found."""

    name: str
    """Of the benchmark: what `python -m benchmarks NAME` runs."""
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    budgets: tuple[Budget, ...] = ()
    notes: tuple[str, ...] = ()
    """How it was measured, what was not, and what a reader would otherwise misread."""
    profile: tuple[str, ...] = field(default=())
    """Where our own time went, when it was asked for."""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{self.name}: a row of {len(row)} cells under {len(self.columns)} columns: {row}")
