"""Every promise of docs/specification.md names what holds it, and what it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("promise", promises(), ids=lambda line: line[2:60].strip())
def test_every_promise_names_what_holds_it_or_is_pending(promise: str) -> None:
    held_by = promise.rstrip("| ").rpartition(" | ")[2]
    assert held_by == "pending" or re.fullmatch(r"`(tests/\S+::\w+|benchmarks/\w+\.py)`(, `tests/\S+::\w+`)*", held_by)


@pytest.mark.parametrize(("file", "test"), HOLDERS, ids=lambda name: name)
def test_every_test_that_holds_a_promise_exists(file: str, test: str) -> None:
    assert re.search(rf"def {test}\(", Path(ROOT, file).read_text("utf-8"))


def test_every_benchmark_has_its_place_for_results() -> None:
    assert len(promises()) > 40
    for name in BENCHMARKS:
        assert "new results" in replace_section(TEXT, name, "new results")
        assert f"`benchmarks/{name}.py`" in TEXT
