"""The reviewed allow-lists: functions, operators and types that a query may use without the policy naming them.

Read from data/ when first needed, one name per line; a function's line may go on with the columns it returns in FROM.
tests/integration/test_policy_function_list.py compares the files with the engines' own catalogs.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

_DATA = Path(__file__).parent / "data"


@cache
def functions(dialect: str) -> dict[str, tuple[str, ...]]:
    """Name -> columns of its result in FROM; empty for a scalar, whose only column is named like its alias."""
    lines = (line.split(" ", 1) for line in _lines(f"{dialect}_functions.txt"))
    return {line[0]: tuple(line[1].split(",")) if len(line) > 1 else () for line in lines}


@cache
def operators(dialect: str) -> frozenset[str]:
    """Operator symbols."""
    return frozenset(_lines(f"{dialect}_operators.txt"))


@cache
def types(dialect: str) -> frozenset[str]:
    """Names of types that values may be cast to."""
    return frozenset(_lines(f"{dialect}_types.txt"))


def _lines(file: str) -> list[str]:
    return [line.strip() for line in (_DATA / file).read_text().splitlines() if line.strip()]
