"""Names that say something: modules are nouns of the domain, tests are sentences that can fail."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sources import PRODUCT, functions, python_files, repository_files, text, tree, walk

EMPTY_NAMES = frozenset(
    {"util", "utils", "helper", "helpers", "common", "manager", "managers", "base", "misc", "stuff"}
)
FEWEST_WORDS = 4
"""Words of a test's name, `test` included."""
CHECKING_CALLS = re.compile(r"(^|_)(raises|warns|fail|assert|check|expect|verify|must|wait_for)\w*$")


def named_tests(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in functions(path):
        if node.name.startswith("test_"):
            yield node


def test_no_module_has_a_name_that_says_nothing() -> None:
    nameless = [str(path) for path in python_files(".") if {path.stem, *path.parent.parts} & EMPTY_NAMES]
    assert nameless == []


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(path)
        for path in python_files(*PRODUCT, "tests", "benchmarks", "scripts")
        if text(path).strip() and not ast.get_docstring(tree(path))
    ]
    assert silent == []


def test_test_names_are_sentences() -> None:
    short = [
        f"{path}: {node.name}"
        for path in python_files("tests")
        for node in named_tests(path)
        if len(node.name.split("_")) < FEWEST_WORDS
    ]
    assert short == []


def checking_functions(path: Path) -> set[str]:
    """Functions of a test file that check something themselves, so that calling them is a check."""
    return {node.name for node in functions(path) if any(map(checks_directly, walk(node)))}


def called(node: ast.AST) -> str:
    """The last name of what is called: `b` for `a.b(…)`; empty for a call of anything else, and for no call."""
    function = node.func if isinstance(node, ast.Call) else None
    return getattr(function, "attr", "") or getattr(function, "id", "")


def checks_directly(node: ast.AST) -> bool:
    return isinstance(node, ast.Assert) or bool(CHECKING_CALLS.search(called(node)))


def calls_one_of(node: ast.AST, names: set[str]) -> bool:
    return called(node) in names


def test_every_test_can_fail() -> None:
    toothless = []
    for path in python_files("tests"):
        checkers = checking_functions(path)
        for node in named_tests(path):
            inside = walk(node)
            if not any(checks_directly(part) or calls_one_of(part, checkers) for part in inside):
                toothless.append(f"{path}:{node.lineno} {node.name}")
    assert toothless == [], "these tests check nothing"


@pytest.mark.parametrize("kind", ["test_", "_test"])
def test_no_test_lies_where_pytest_does_not_look(kind: str) -> None:
    stray = [
        str(path)
        for path in repository_files()
        if path.suffix == ".py" and not path.is_relative_to("tests")
        and (path.stem.startswith(kind) if kind == "test_" else path.stem.endswith(kind))
    ]  # fmt: skip
    assert stray == []
