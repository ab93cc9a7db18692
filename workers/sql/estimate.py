"""The planner's estimate of a statement: how much it costs, how many rows it returns. Which way the result takes is
decided in `read`. EXPLAIN plans and never runs the statement.

Kept per text (with its parameters where a cost ceiling applies), because agents repeat themselves and planning a small
query costs as much as running it.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from workers.attempt import Statement
from workers.errors import StatementTooCostly
from workers.sql.session import Session

MAX_ESTIMATES = 4096


@dataclass(frozen=True, slots=True)
class Estimate:
    """Figures of the plan's top node, in the planner's own units."""

    cost: float
    rows: float
    width_bytes: float
    is_parallel: bool
    """The plan uses parallel workers, which a statement read in pieces would not get."""


class Estimates:
    """Estimates already made, the most recently used ones."""

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, Estimate] = OrderedDict()

    async def of(self, session: Session, statement: Statement, arguments: Sequence[Any]) -> Estimate:
        """The estimate for this statement, inside the session's open transaction.

        Raises StatementTooCostly above `statement.max_cost`, and whatever the driver raises.
        """
        key = (statement.sql, repr(statement.params)) if statement.max_cost is not None else statement.sql
        estimate = self._known.get(key)
        if estimate is None:
            rows = await session.query(f"EXPLAIN (FORMAT JSON) {statement.sql}", *arguments)
            estimate = self._known[key] = read_plan(json.loads(rows[0][0]))
            if len(self._known) > MAX_ESTIMATES:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(key)
        if statement.max_cost is not None and estimate.cost > statement.max_cost:
            raise too_costly(estimate.cost, statement.max_cost)
        return estimate

    def clear(self) -> None:
        self._known.clear()


def too_costly(cost: float, max_cost: float) -> StatementTooCostly:
    """The refusal of a statement above its ceiling, for jobs and sessions alike."""
    return StatementTooCostly(
        f"the planner estimates cost {cost:.0f}; the policy's ceiling is {max_cost:.0f}",
        hint="filter on an indexed column, read fewer rows, or join fewer tables",
    )


def read_plan(explained: list[dict[str, Any]]) -> Estimate:
    """The figures in what EXPLAIN (FORMAT JSON) answered."""
    top = explained[0]["Plan"]
    return Estimate(
        cost=float(top["Total Cost"]),
        rows=float(top["Plan Rows"]),
        width_bytes=float(top["Plan Width"]),
        is_parallel=_uses_workers(top),
    )


def _uses_workers(node: dict[str, Any]) -> bool:
    pending = [node]
    while pending:
        current = pending.pop()
        if current.get("Workers Planned", 0) > 0:
            return True
        pending.extend(current.get("Plans", ()))
    return False
