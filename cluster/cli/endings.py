"""What to tell about an ending that is not Succeeded: why, and what to do about it. Pure; called by every answer."""

from __future__ import annotations

from cluster.cli.safe_text import one_line
from sandpool.outcome import Ending, Outcome


def ending_lines(outcome: Outcome) -> list[str]:
    """What to tell about an ending that is not Succeeded: why, and what to do about it."""
    if outcome.succeeded:
        return []
    error, verdict = outcome.error, outcome.verdict
    if outcome.ending is Ending.Denied and verdict is not None and verdict.rule:
        lines = [f"Denied by rule {verdict.rule}: {one_line(verdict.reason)}"]
    elif error is not None:
        state = f" (SQLSTATE {error.sqlstate})" if error.sqlstate else ""
        lines = [f"{outcome.ending} by {error.code}{state}: {one_line(error.message)}"]
    else:
        lines = [str(outcome.ending)]
    if error is not None and error.hint:
        lines.append(f"hint: {one_line(error.hint)}")
    if outcome.manifest.partial and outcome.manifest.parts:
        lines.append(
            f"hint: {rows_text(outcome.manifest.rows)} were written before the limit; --partial writes them out"
        )
    return lines


def rows_text(count: int) -> str:
    """`1 row`, `2,154 rows`."""
    return f"{count:,} row{'' if count == 1 else 's'}"
