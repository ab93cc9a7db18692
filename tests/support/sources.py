"""The repository's own files, as data for the style tests. Reads files; decides nothing."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("cluster", "workers", "queues", "sdk/python/src")
"""The code that ships."""
NOT_OURS = frozenset(
    {".git", ".venv", ".sandpool", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".import_linter_cache"}
    | {".hypothesis", "build", "dist", "node_modules"}
)


@cache
def repository_files() -> tuple[Path, ...]:
    """Every file that is or could be committed, relative to the root, sorted."""
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in NOT_OURS and not name.endswith(".egg-info")]
        found += [
            Path(folder, name).relative_to(ROOT) for name in names if not name.endswith(".pyc") and name not in NOT_OURS
        ]  # a work tree's .git is a file
    return tuple(sorted(found))


def python_files(*folders: str) -> Iterator[Path]:
    """Python files below the given folders (relative to the root), relative."""
    for path in repository_files():
        if path.suffix == ".py" and any(path.is_relative_to(folder) for folder in folders):
            yield path


@cache
def text(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(text(path), filename=str(path))


def walk(node: ast.AST) -> list[ast.AST]:
    """What `ast.walk` yields, in a fifth of its time: looking through all files was a tenth of `make check`."""
    found = [node]
    for parent in found:  # grows while it is read
        for value in vars(parent).values():
            if isinstance(value, ast.AST):
                found.append(value)
            elif isinstance(value, list):
                found.extend(part for part in value if isinstance(part, ast.AST))
    return found


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Every node of a file, the module first."""
    return tuple(walk(tree(path)))


@cache
def functions(path: Path) -> tuple[ast.FunctionDef | ast.AsyncFunctionDef, ...]:
    return tuple(node for node in nodes(path) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def imported_modules(node: ast.AST) -> list[str]:
    """Dotted names that an import statement brings in; empty for anything else. Relative imports are ours."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []
