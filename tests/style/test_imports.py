"""Who may import whom, where import-linter's layers are too coarse: vendors stay behind their fences."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.support.sources import PRODUCT, functions, imported_modules, nodes, python_files, text, walk

FENCES: dict[str, tuple[str, ...]] = {
    "aio_pika": (),
    "aiormq": (
        "queues/*",
        "sdk/python/src/sandpool/amqp.py",
        "sdk/python/src/sandpool/fault.py",
        "sdk/python/src/sandpool/link.py",
    ),
    "ray": (
        "cluster/dispatch*",
        "cluster/link*",
        "cluster/conductor*",
        "cluster/node*",
        "cluster/metrics_ray.py",
        "workers/actors*",
    ),
    "opentelemetry": ("cluster/tracing_otel.py", "sdk/python/src/sandpool/tracing.py"),
    "asyncpg": ("workers/sql/*",),
    "adbc_driver_manager": ("workers/sql/*",),
    "adbc_driver_postgresql": ("workers/sql/*",),
    "sqlglot": (),  # benchmarks only: the policy reads SQL with each engine's own grammar
    "postgast": ("workers/sql/policy/*",),
    "duckdb": ("workers/sql/policy/*", "workers/sandbox/jobs/inside/*", "cluster/demo*", "cluster/demo/*"),
    "pynvml": ("workers/gpu/inventory.py",),
    "obstore": ("workers/volumes/*", "sdk/python/src/sandpool/result*", "sdk/python/src/sandpool/objects.py"),
    "subprocess": (
        "workers/child.py",
        "workers/sandbox/runsc.py",
        "workers/images/build.py",
        "cluster/local/*",
        "cluster/cli/findings.py",
    ),
    "click": ("cluster/cli/*",),
    "rich": ("cluster/cli/*", "cluster/demo*", "cluster/demo/*"),
    "dotenv": (),
    # Never: both turn data from outside into running code.
    "pickle": (),
    "cloudpickle": (),
    "ray.data": (),
}
"""Vendor -> the only files (globs relative to the root) that may import it. Adding one needs a reason in review."""
ENVIRONMENT_READERS = (
    "cluster/settings*",
    "cluster/cli/invocation.py",
    "cluster/cli/root.py",
    "cluster/demo/*",
    "workers/sandbox/runner/*",  # runs inside a sandbox, where the environment is the tenant's own
)
"""Lower layers are handed small frozen values. The command line and the demo pass theirs on."""


@cache
def imports_of(path: Path) -> list[tuple[int, str]]:
    return [(node.lineno, name) for node in nodes(path) if isinstance(node, ast.stmt)
            for name in imported_modules(node)]  # fmt: skip


def allowed(path: Path, globs: tuple[str, ...]) -> bool:
    return any(path.match(glob) or any(parent.match(glob) for parent in path.parents) for glob in globs)


@pytest.mark.parametrize("vendor", FENCES)
def test_a_vendor_is_imported_behind_its_fence_only(vendor: str) -> None:
    outside = [
        f"{path}:{line}"
        for path in python_files(*PRODUCT)
        if not allowed(path, FENCES[vendor])
        for line, name in imports_of(path)
        if name == vendor or name.startswith(f"{vendor}.")
    ]
    assert sorted(set(outside)) == [], f"{vendor} may be imported by {FENCES[vendor] or 'nobody'}"


def test_only_the_settings_read_the_environment() -> None:
    readers = [
        f"{path}:{node.lineno}"
        for path in python_files(*PRODUCT)
        if not allowed(path, ENVIRONMENT_READERS)
        for node in nodes(path)
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv") and ast.unparse(node.value) == "os"
    ]
    assert readers == []


def test_an_import_inside_a_function_gives_its_reason() -> None:
    unexplained = []
    for path in python_files(*PRODUCT):
        lines = text(path).splitlines()
        for function in functions(path):
            inner = [node for node in walk(function) if isinstance(node, ast.Import | ast.ImportFrom)]
            for position, node in enumerate(sorted(inner, key=lambda node: node.lineno)):
                own, above = lines[node.lineno - 1], lines[node.lineno - 2].strip()
                reason = own.partition("#")[2].replace("noqa: PLC0415", "").strip(" -:")
                follows = position > 0 and ("import " in above)  # one comment serves a block of imports
                if not reason and not above.startswith("#") and not follows:
                    unexplained.append(f"{path}:{node.lineno}")
    assert sorted(set(unexplained)) == [], "say in a comment what this import costs at start-up, or move it to the top"


def test_no_one_imports_everything_of_a_module() -> None:
    greedy = [
        f"{path}:{node.lineno}"
        for path in python_files(*PRODUCT, "tests", "benchmarks")
        for node in nodes(path)
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names)
    ]
    assert greedy == []
