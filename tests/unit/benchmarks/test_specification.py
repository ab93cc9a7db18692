"""Every promise of docs/specification.md names what holds it, and what it names exists."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.__main__ import BENCHMARKS, DOCUMENT
from benchmarks.tables import replace_section

ROOT = DOCUMENT.parents[1]
TEXT = DOCUMENT.read_text("utf-8")
HOLDERS = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)))
PROMISES = [line for line in TEXT.splitlines() if line.startswith("| ") and not line.startswith(("| promise", "| ---"))]


def promises() -> list[str]:
    """Rows of the tables of promises, not those of results."""
    before_results = TEXT.partition("<!-- results of")[0]
    return [line for line in PROMISES if line in before_results]


def test_every_promise_names_what_holds_it_or_is_pending() -> None:
    held_by = re.compile(r"pending|`(tests/\S+::\w+|benchmarks/\w+\.py)`(, `tests/\S+::\w+`)*")
    assert [line for line in promises() if not held_by.fullmatch(line.rstrip("| ").rpartition(" | ")[2])] == []


def test_every_test_that_holds_a_promise_exists() -> None:
    texts = {file: Path(ROOT, file).read_text("utf-8") for file in {file for file, _ in HOLDERS}}
    assert len(HOLDERS) > 200
    assert [f"{file}::{test}" for file, test in HOLDERS if not re.search(rf"def {test}\(", texts[file])] == []


def test_every_benchmark_has_its_place_for_results() -> None:
    assert len(promises()) > 40
    for name in BENCHMARKS:
        assert "new results" in replace_section(TEXT, name, "new results")
        assert f"`benchmarks/{name}.py`" in TEXT
