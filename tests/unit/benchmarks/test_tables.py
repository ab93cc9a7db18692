"""Reports become tables that say which budget was missed, and a document changes only between its marks."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.report import Budget, Report
from benchmarks.tables import BEGIN, END, as_markdown, as_text, replace_section, show, update_document

MET = Budget("jobs per second", 600.0, "at least", 460.0)
MISSED = Budget("time of one job", 1.5, "at most", 1.2, "x")
REPORT = Report("jobs", "a title", ("", "jobs/s"), (("ours", 1234.5), ("a | b", None)), (MET, MISSED), ("how",))


def test_a_budget_is_met_at_its_limit_and_missed_beyond_it() -> None:
    assert Budget("", 2.0, "at least", 2.0).met
    assert Budget("", 2.0, "at most", 2.0).met
    assert not Budget("", 1.99, "at least", 2.0).met
    assert not Budget("", 2.01, "at most", 2.0).met


def test_the_text_names_each_budget_with_pass_or_miss() -> None:
    lines = as_text(REPORT).splitlines()
    assert "PASS  jobs per second: 600 (at least 460)" in lines
    assert "MISS  time of one job: 1.50x (at most 1.20x)" in lines


def test_the_markdown_has_as_many_cells_in_every_line_of_its_table() -> None:
    table = [line for line in as_markdown(REPORT).split("\n\n")[0].splitlines() if line.startswith("|")]
    assert len(table) == 4
    assert {line.replace("\\|", "").count("|") for line in table} == {3}


def test_a_row_of_the_wrong_width_is_refused() -> None:
    with pytest.raises(ValueError, match="3 cells under 2 columns"):
        Report("jobs", "", ("", "jobs/s"), (("ours", 1.0, 2.0),))


@pytest.mark.parametrize(
    ("cell", "text"),
    [(1234.5, "1,234"), (12.34, "12.3"), (1.234, "1.23"), (0.1234, "0.123"), (12_345, "12,345"), (None, "-")],
)
def test_a_figure_shows_about_three_digits(cell: float | int | None, text: str) -> None:
    assert show(cell) == text


def test_only_the_text_between_the_marks_changes() -> None:
    begin, end = BEGIN.format(name="jobs"), END.format(name="jobs")
    before = f"# A\n{begin}\nold\n{end}\nafter\n"
    after = replace_section(before, "jobs", "new")
    assert after == f"# A\n{begin}\n\nnew\n\n{end}\nafter\n"
    assert replace_section(after, "jobs", "new") == after


def test_a_document_without_the_marks_is_left_alone_and_said_so(tmp_path: Path) -> None:
    document = tmp_path / "specification.md"
    marks = f"{BEGIN.format(name='jobs')}\n{END.format(name='jobs')}\n"
    document.write_text(marks)
    with pytest.raises(ValueError, match="no place for latency"):
        update_document(document, {"jobs": "new", "latency": "new"})
    assert document.read_text() == marks
