"""Reports as text: for the terminal, and as the results section of docs/specification.md.

Called by `benchmarks.__main__`. Only `update_document` touches a file, and of that only what lies between its two
marks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import Budget, Cell, Report

BEGIN = "<!-- results of {name}: written by `python -m benchmarks --markdown`, do not edit -->"
END = "<!-- end of {name} -->"


def as_text(report: Report) -> str:
    """For the terminal: aligned columns, then one line per budget."""
    cells = [list(report.columns), *([show(cell) for cell in row] for row in report.rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(report.columns))]
    lines = [f"== {report.name}: {report.title}"]
    for line in cells:
        first, rest = (
            line[0].ljust(widths[0]),
            (text.rjust(width) for text, width in zip(line[1:], widths[1:], strict=True)),
        )
        lines.append("  ".join([first, *rest]).rstrip())
    lines += [f"{'PASS' if budget.met else 'MISS'}  {describe(budget)}" for budget in report.budgets]
    lines += [f"  - {note}" for note in report.notes]
    lines += ["  profile of ours:", *(f"    {line}" for line in report.profile)] if report.profile else []
    return "\n".join(lines)


def as_markdown(report: Report) -> str:
    """The same for a document."""
    lines = [
        _row(report.columns),
        _row(["---", *["---:"] * (len(report.columns) - 1)]),
        *(_row([show(cell) for cell in row]) for row in report.rows),
        "",
    ]
    if report.budgets:
        lines += [_row(["budget", "limit", "measured", "met"]), _row(["---", "---:", "---:", "---"])]
        for budget in report.budgets:
            limit, measured = _amount(budget.limit, budget.unit), _amount(budget.measured, budget.unit)
            lines.append(_row([budget.promise, f"{budget.bound} {limit}", measured, "yes" if budget.met else "**no**"]))
        lines.append("")
    lines += [f"- {note}" for note in report.notes]
    return "\n".join(lines).rstrip() + "\n"


def update_document(path: Path, sections: dict[str, str]) -> None:
    """Put each section's text between its marks in `path`. ValueError when a mark is missing: nothing is written
    then.
    """
    text = path.read_text("utf-8")
    for name, body in sections.items():
        text = replace_section(text, name, body)
    path.write_text(text, "utf-8")


def replace_section(text: str, name: str, body: str) -> str:
    """`text` with whatever lies between the marks of `name` replaced by `body`."""
    begin, end = BEGIN.format(name=name), END.format(name=name)
    head, found, rest = text.partition(begin)
    _, closed, tail = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"the document has no place for {name}: {begin} … {end}")
    return f"{head}{begin}\n\n{body.strip()}\n\n{end}{tail}"


def describe(budget: Budget) -> str:
    limit, measured = _amount(budget.limit, budget.unit), _amount(budget.measured, budget.unit)
    return f"{budget.promise}: {measured} ({budget.bound} {limit})"


def show(cell: Cell) -> str:
    """Three significant digits where there is a fraction; thousands apart."""
    match cell:
        case None:
            return "-"
        case str():
            return cell
        case int():
            return f"{cell:,}"
        case float():
            digits = 0 if abs(cell) >= 100 else 1 if abs(cell) >= 10 else 2 if abs(cell) >= 1 else 3
            return f"{cell:,.{digits}f}"


def _amount(value: float, unit: str) -> str:
    return f"{show(float(value))}{'' if unit in ('', '%', 'x') else ' '}{unit}"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
