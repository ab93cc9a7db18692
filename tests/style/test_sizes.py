"""Files and functions stay small enough to be read at once."""

from __future__ import annotations

import ast
import statistics

from tests.support.sources import PRODUCT, functions, python_files, text, tree

MEDIAN_LINES = 150
LONGEST_LINES = 500
FUNCTION_LINES = 45
LONGEST_FUNCTION_LINES = 100
REASON = "Long because"
"""What the docstring of a file above the limit must say."""


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    documented = ast.get_docstring(node, clean=False)
    return (node.end_lineno or node.lineno) - node.lineno + 1 - (documented.count("\n") + 1 if documented else 0)


def test_half_of_all_files_are_short() -> None:
    lengths = [text(path).count("\n") for path in python_files(*PRODUCT) if text(path).strip()]
    assert statistics.median(lengths) <= MEDIAN_LINES


def test_a_very_long_file_gives_its_reason() -> None:
    silent = [
        str(path)
        for path in python_files(*PRODUCT, "tests", "benchmarks", "scripts")
        if text(path).count("\n") > LONGEST_LINES and REASON not in (ast.get_docstring(tree(path)) or "")
    ]
    assert silent == [], f"split these, or say `{REASON} …` in the module docstring"


def test_nineteen_of_twenty_functions_are_short() -> None:
    lengths = sorted(length(node) for path in python_files(*PRODUCT) for node in functions(path))
    assert lengths[int(len(lengths) * 0.95)] <= FUNCTION_LINES


def test_no_function_is_very_long() -> None:
    long = [f"{path}:{node.lineno} {node.name}" for path in python_files(*PRODUCT) for node in functions(path)
            if length(node) > LONGEST_FUNCTION_LINES]  # fmt: skip
    assert long == []
